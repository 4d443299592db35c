"""The help of both programs on a terminal of 80 columns."""

from __future__ import annotations

import click
import pytest

from odc.cli.main import main as users_program
from odc.cli.reference import commands
from odc.operator.commands import group as operators_program

WIDTH = 78
"""Click leaves two of the 80 columns empty."""


def helps(program: click.Command, name: str) -> dict[str, str]:
    """The help of a program and of each of its commands, by full name."""
    # With the program's own settings: a command keeps the help option of the first context that asks for it.
    top = click.Context(program, info_name=name, terminal_width=WIDTH, **program.context_settings)
    program.get_help_option(top)
    found = [(name, program, top), *commands(program, top)]
    return {path: command.get_help(context) for path, command, context in found}


ALL = helps(operators_program, "odc") | helps(users_program, "gpu-dev")


@pytest.mark.parametrize("path", ALL)
def test_no_line_of_a_help_text_is_cut_or_too_long(path: str) -> None:
    lines = ALL[path].splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
    # In a usage line they stand for more arguments.
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []
