"""The page about the commands is the commands' own help, and every command has one."""

from __future__ import annotations

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


def test_nothing_names_commands_that_do_not_exist_yet() -> None:
    text = (ROOT / "docs/guide.md").read_text() + page()
    for later in ("gpu-dev edit", "gpu-dev disk", "--jupyter", "--distributed", "--dockerfile", "--dockerimage"):
        assert later not in text
