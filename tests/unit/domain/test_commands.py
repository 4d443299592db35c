"""Commands in hints: shell text, with the calls of our programs as data."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import odc
from odc.api.hints import hint_of, hint_view
from odc.domain.commands import Part, Program, gpu_dev, parts_of, typed
from odc.domain.commands import odc as operator
from odc.domain.errors import Hint

SOURCES = sorted(Path(odc.__file__).parent.rglob("*.py"))
OURS = re.compile(r"(sudo )?(gpu-dev|odc) [a-z]")
OPTIONS = {Program.GPU_DEV: "gpu-dev --endpoint unix:///x", Program.ODC: "odc --config /y"}


@pytest.mark.parametrize(
    ("command", "plain", "with_options"),
    [
        (gpu_dev("cancel train"), "gpu-dev cancel train", "gpu-dev --endpoint unix:///x cancel train"),
        ("sudo " + operator("up"), "sudo odc up", "sudo odc --config /y up"),
        (
            operator("down") + " && " + operator("up"),
            "odc down && odc up",
            "odc --config /y down && odc --config /y up",
        ),
        (gpu_dev("reserve") + " --yes", "gpu-dev reserve --yes", "gpu-dev --endpoint unix:///x reserve --yes"),
        ("less /var/log/gpu-dev list", "less /var/log/gpu-dev list", "less /var/log/gpu-dev list"),
    ],
)
def test_options_are_filled_in_where_a_program_is_called_and_nowhere_else(
    command: str, plain: str, with_options: str
) -> None:
    assert command == plain
    assert typed(command, {}) == plain
    assert typed(command, OPTIONS) == with_options


def test_a_hint_comes_over_the_wire_with_its_parts() -> None:
    hint = Hint("ask", "an operator types: sudo " + operator("disk list"))
    view = hint_view(hint)
    assert (view.command, type(view.command)) == ("an operator types: sudo odc disk list", str)
    assert parts_of(hint_of(view).command) == (Part("an operator types: sudo "), Part(" disk list", Program.ODC))


def _hints(tree: ast.AST) -> list[ast.expr]:
    """The second of every pair of texts, and of every `Hint`."""
    pairs = [node.elts for node in ast.walk(tree) if isinstance(node, ast.Tuple)]
    pairs += [node.args for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Hint"]
    return [pair[1] for pair in pairs if len(pair) == 2 and isinstance(pair[0], ast.Constant | ast.JoinedStr)]


def test_no_hint_names_our_programs_as_plain_text() -> None:
    trees = {source: ast.parse(source.read_text()) for source in SOURCES}
    found = [(source, ast.unparse(node)) for source, tree in trees.items() for node in _hints(tree)]
    assert len(found) > 200
    assert not [entry for entry in found if OURS.match(entry[1].lstrip("f").strip("'\""))]
