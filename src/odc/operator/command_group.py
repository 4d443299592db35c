"""The click group of `odc`: commands that do not exist are refused with the equivalent command."""

from __future__ import annotations

from typing import Any

import click

from odc import __version__
from odc.cli.command_aliases import OPERATOR_REPLACEMENTS, suggested_commands
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest


class OperatorGroup(click.Group):
    """A group that knows the names that other tools use for its commands."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As click does; a command that does not exist is refused with the equivalent or similar commands."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.commands:
            if name == "version":
                return name, version, args[1:]
            ways = suggested_commands(name, OPERATOR_REPLACEMENTS, self.commands)
            if ways and ways[0][1] in self.commands:
                ways = [(ways[0][0], odc(ways[0][1]))]
            raise InvalidRequest(f"no command {name[:40]!r}", *ways, ("the commands", "odc --help"))
        return super().resolve_command(ctx, args)


@click.command()
def version() -> None:
    """Show the version."""
    click.echo(f"odc, version {__version__}")
