"""The help of both programs on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from odc.cli.main import main as users_program
from odc.operator.commands import group as operators_program

WIDTH = 80


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command, info_name=path) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from commands(inner, f"{path} {name}")


ALL = dict((*commands(operators_program, "odc"), *commands(users_program, "gpu-dev")))


@pytest.mark.parametrize("path", ALL)
def test_no_line_of_a_help_text_is_cut_or_too_long(path: str) -> None:
    with click.Context(ALL[path], info_name=path, terminal_width=WIDTH, max_content_width=WIDTH) as context:
        lines = ALL[path].get_help(context).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
    # In a usage line they stand for more arguments.
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []
