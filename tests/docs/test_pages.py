"""Links lead somewhere, pages name what exists, and every command of the operator is explained."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from odc.operator.commands import group as odc

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATED = re.compile(r"^(?:\$ )?(?:sudo )?odc (.*)$|`(?:sudo )?odc ([^`…]+)`", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
NAMED_FILE = re.compile(r"`((?:src|tests|images|scripts|docs|bench)/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    missing = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    missing += [path for path in NAMED_FILE.findall(text) if not (ROOT / path).exists()]
    assert not missing


def test_the_operators_page_explains_every_command() -> None:
    text = (ROOT / "docs/operator.md").read_text()
    assert not [name for name in odc.commands if f"odc {name}" not in text]


@pytest.mark.parametrize("page", ["README.md", "docs/operator.md", "docs/disks.md", "docs/architecture.md"])
def test_every_command_of_the_operator_that_a_page_shows_can_be_typed(page: str) -> None:
    shown = [line or inline for line, inline in OPERATED.findall((ROOT / page).read_text())]
    assert shown
    for text in shown:
        command: click.Command = odc
        context, words = click.Context(odc, info_name="odc"), shlex.split(text, comments=True)
        while words:
            _, words, _ = command.make_parser(context).parse_args(words)
            if not isinstance(command, click.Group) or not words:
                break
            found = command.get_command(context, words[0])
            assert found is not None, text
            command, context, words = found, click.Context(found, parent=context), words[1:]


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()
    assert not [page.name for page in folder.glob("0*.md") if f"({page.name})" not in index]


def test_every_test_that_a_page_names_exists() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert len(named) > 50
    assert not [name for name in sorted(named) if f"def {name}(" not in tests]
