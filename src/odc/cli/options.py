"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from odc.domain.errors import InvalidRequest
from odc.domain.limits import MAX_HOURS, MIN_HOURS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; errors too.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
pass_session = click.pass_obj


def hours_of(ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Parse hours as people type them; the allowed range is checked later.

    Raises:
        InvalidRequest: it is not a number.
    """
    if value is None:
        return None
    try:
        return float(_plain(value))
    except ValueError:
        text = f"hours must be a number from {MIN_HOURS} to {MAX_HOURS:g}, such as 2 or 0.5, not {value[:20]!r}"
        raise InvalidRequest(text, ("its help", f"{ctx.command_path} --help")) from None


def _plain(text: str) -> str:
    """Return the text of a number unless only Python accepts it: other than ASCII digits, or `_` between them.

    Raises:
        ValueError: it has other characters.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return text


def gpu_type_of(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return a type in lower case, as in the catalog: `H100` is `h100`."""
    return value.lower() if value is not None else None


def gpus_of(ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Parse a count of GPUs; the daemon checks which counts its nodes can serve.

    Raises:
        InvalidRequest: it is not a whole number.
    """
    if value is None:
        return None
    try:
        return int(_plain(value))
    except ValueError:
        text = f"GPUs must be a whole number, such as 1, 2, 4 or 8, not {value[:20]!r}"
        raise InvalidRequest(text, ("its help", f"{ctx.command_path} --help")) from None


def refuse_watched_json(watch: bool, as_json: bool) -> None:
    """Refuse `--watch` together with `--json`: a redrawn screen cannot be parsed.

    Raises:
        InvalidRequest: both are given.
    """
    if watch and as_json:
        raise InvalidRequest("--watch and --json together; give one of them")


def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the reservations with this prefix, for shell completion."""
    from odc.cli.completion import reservations

    return reservations(ctx, param, incomplete)
