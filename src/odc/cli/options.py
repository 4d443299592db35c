"""Options that several commands share."""

from __future__ import annotations

import click

from odc.domain.errors import InvalidRequest

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; errors too.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
pass_session = click.pass_obj


def refuse_watched_json(watch: bool, as_json: bool) -> None:
    """A screen that is drawn anew is for people.

    Raises:
        InvalidRequest: both are wanted.
    """
    if watch and as_json:
        raise InvalidRequest("--watch and --json together; give one of them")
