"""Options that several commands share, and what happens around each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from odc.cli.context import Session

Command = TypeVar("Command", bound=Callable[..., Any])


def _note_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    session = ctx.find_object(Session)
    if session is not None and value:
        session.as_json = True
    return value


json_option = click.option("--json", "as_json", is_flag=True, callback=_note_json, is_eager=True, help="Print JSON.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
pass_session = click.pass_obj
