"""Confirmation of actions that cannot be undone: a question on a terminal, `--yes` elsewhere."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from odc.domain.errors import InvalidRequest


def confirm(what: str, yes: bool) -> None:
    """Return if the operator confirms. Enter alone declines.

    Args:
        what: the effect, as the beginning of a sentence: `this ends every reservation of every user`.
        yes: the operator has confirmed on the command line.

    Raises:
        InvalidRequest: confirmation is required and there is no terminal; nothing was done.
        SystemExit: the operator declined (130).
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidRequest(f"{what}; confirm it with --yes", ("confirm it", f"{as_typed()} --yes"))
    if not click.confirm(f"{what[:1].upper()}{what[1:]}. Go on?", default=False):
        click.echo("Nothing was done.", err=True)
        sys.exit(130)


def as_typed() -> str:
    """Return the command as it was typed, ready to paste."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
