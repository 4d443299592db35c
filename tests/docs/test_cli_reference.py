"""The page about the commands is the commands' own help, and every command has one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from odc.cli.main import COMMANDS, main
from odc.cli.reference import PAGE, commands, page, root

ROOT = Path(__file__).parents[2]
ALL = list(commands(main, root()))


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: make docs"


@pytest.mark.parametrize(("path", "command"), [(path, command) for path, command, _ in ALL])
def test_every_command_and_option_says_what_it_does(path: str, command: click.Command) -> None:
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_short_help_in_the_table_belongs_to_the_command() -> None:
    for name, (_, text) in COMMANDS.items():
        assert text.endswith("."), name
        assert main.get_command(root(), name) is not None


def test_the_guide_names_every_command() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    missing = [path for path, command, _ in ALL if not isinstance(command, click.Group) and path not in guide]
    assert not missing


def test_the_guide_names_every_option() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    named = {
        (path, name)
        for path, command, _ in ALL
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }
    assert not [f"{path} {name}" for path, name in sorted(named) if not re.search(rf"{name}\b", guide)]


def shown_commands(page: Path) -> Iterator[list[str]]:
    """The words behind `gpu-dev` of every command on a page, in its blocks and between its words."""
    text = page.read_text()
    for line in (*re.findall(r"^(?:\$ )?gpu-dev (.*)$", text, re.M), *re.findall(r"`gpu-dev ([^`]+)`", text)):
        words = shlex.split(line, comments=True)
        ends = [words.index(word) for word in ("--", "&&", "…") if word in words]
        yield words[: min(ends, default=len(words))]


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/operator.md", "docs/box.md", "docs/disks.md"])
def test_every_command_that_a_page_shows_can_be_typed(page: str) -> None:
    for words in shown_commands(ROOT / page):
        command: click.Command = main
        context = root()
        while isinstance(command, click.Group) and words and words[0].islower() and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, words
            context = click.Context(found, info_name=words.pop(0), parent=context)
            command = found
        command.make_parser(context).parse_args(words)


def test_every_command_that_a_message_names_exists() -> None:
    paths = {path for path, _, _ in ALL}
    for file in (ROOT / "src").rglob("*.py"):
        for named in re.findall(r"gpu-dev [a-z][a-z-]*(?: (?:set|show|ssh-include [a-z]+))?", file.read_text()):
            assert named in paths or named.rpartition(" ")[0] in paths, f"{file}: {named}"


def test_nothing_names_commands_that_do_not_exist_yet() -> None:
    text = (ROOT / "docs/guide.md").read_text() + page()
    for later in ("gpu-dev edit", "gpu-dev disk", "--jupyter", "--distributed", "--dockerfile", "--dockerimage"):
        assert later not in text
