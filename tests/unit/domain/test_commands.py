"""Text with the calls of our programs in it as data: hints and sentences."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

import odc
from odc.api.hints import done_view, hint_of, hint_view, message_of
from odc.api.messages.requests import Done
from odc.cli.main import COMMANDS
from odc.domain.commands import Part, Program, gpu_dev, joined, parts_of, typed
from odc.domain.commands import odc as operator
from odc.domain.errors import Hint
from odc.operator.commands import group

SOURCES = sorted(Path(odc.__file__).parent.rglob("*.py"))
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


def test_a_sentence_comes_over_the_wire_with_its_parts() -> None:
    done = done_view("disks are kept; hand them over: " + operator("user move 7 LOGIN"))
    assert (done.message, type(done.message)) == ("disks are kept; hand them over: odc user move 7 LOGIN", str)
    received = msgspec.json.decode(msgspec.json.encode(done), type=type(done))
    assert typed(message_of(received), OPTIONS) == "disks are kept; hand them over: odc --config /y user move 7 LOGIN"


def test_a_sentence_of_a_server_that_sends_no_parts_is_shown_as_it_is() -> None:
    assert message_of(Done(message="clock accepted")) == "clock accepted"


def test_joined_texts_keep_their_commands() -> None:
    text = joined("; ", ["one: " + operator("up"), "two", gpu_dev("list")])
    assert text == "one: odc up; two; gpu-dev list"
    assert typed(text, OPTIONS) == "one: odc --config /y up; two; gpu-dev --endpoint unix:///x list"
    assert joined("; ", []) == ""


NAMED = re.compile(rf"(?<!`)\b(gpu-dev ({'|'.join(COMMANDS)})|odc ({'|'.join(group.commands)}))\b")
PAGES = ("json_page.py", "settings_page.py")
"""Modules that make pages of the documentation."""


def _explained(tree: ast.AST) -> set[ast.AST]:
    """Docstrings, and the help of options: they name commands as they are typed by default."""
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    helps = [n.value for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg in ("help", "short_help")]
    return found | {part for node in helps for part in ast.walk(node)}


def _flattened(tree: ast.AST) -> list[str]:
    """Commands in f-strings, which make plain text of them."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
    calls = [node for node in values if isinstance(node, ast.Call)]
    return [ast.unparse(node) for node in calls if re.match(r"(gpu_dev|odc)\(f?[\"']", ast.unparse(node))]


def test_no_line_names_our_commands_as_plain_text() -> None:
    found = []
    for source in SOURCES:
        tree = ast.parse(source.read_text())
        explained = _explained(tree)
        texts = [str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in explained]
        plain = [text for text in texts if source.name not in PAGES and NAMED.search(text)]
        found += [f"{source.name}: {text}" for text in (*plain, *_flattened(tree))]
    assert found == []
