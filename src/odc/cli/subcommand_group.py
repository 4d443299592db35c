"""A group of subcommands, such as `gpu-dev config`, that answers the words of other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from odc.cli.command_aliases import suggested_commands
from odc.domain.commands import Command
from odc.domain.errors import InvalidRequest


class SubcommandGroup(click.Group):
    """A group that knows the words of other tools.

    Attributes:
        program: makes a command of ours from what follows the program's name.
        replacements: word to its replacement: a description and the command.
    """

    def __init__(
        self, *args: Any, program: Callable[[str], Command], replacements: Mapping[str, tuple[str, str]], **kwargs: Any
    ) -> None:
        """As click does."""
        super().__init__(*args, **kwargs)
        self.program = program
        self.replacements = replacements

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As click does; an unknown command is refused with the equivalent or similar commands."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.commands:
            path = ctx.command_path.partition(" ")[2]
            ways = suggested_commands(name, self.replacements, self.commands)
            if ways and ways[0][1] in self.commands:
                ways = [(ways[0][0], self.program(f"{path} {ways[0][1]}"))]
            help_ = ("its help", self.program(f"{path} --help"))
            raise InvalidRequest(f"no command {f'{path} {name[:40]}'!r}", *ways, help_)
        return super().resolve_command(ctx, args)
