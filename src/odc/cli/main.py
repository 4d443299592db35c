"""`gpu-dev`: the table of commands. Each is imported when it is run, so that the help is instant."""

from __future__ import annotations

import shlex
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from odc import __version__
from odc.cli.context import Session
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: dict[str, tuple[str, str]] = {
    "reserve": ("odc.cli.reserve:reserve", "Reserve GPUs; asks when options are missing."),
    "list": ("odc.cli.inspect_commands:list_", "List your reservations."),
    "show": ("odc.cli.inspect_commands:show", "Show everything about one."),
    "connect": ("odc.cli.connect:connect", "Open a shell in your box by ssh, or run a command there."),
    "cancel": ("odc.cli.cancel:cancel", "End a reservation; its disk is kept."),
    "wait": ("odc.cli.cancel:wait", "Wait until a reservation is ready."),
    "avail": ("odc.cli.inspect_commands:avail", "Show what is free now, or when."),
    "status": ("odc.cli.inspect_commands:status", "Show all GPU types and nodes."),
    "config": ("odc.cli.config:config", "Show and set your keys and files."),
    "completion": ("odc.cli.completion:completion", "Let your shell complete commands and names."),
    "help": ("odc.cli.main:help_", "Show this help, or a command's."),
}
"""Command to where it is and its line in the help."""


class LazyGroup(click.Group):
    """A group that imports a command when it is needed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; refuses arguments that are not UTF-8, except in a command for the box, which is passed
        unchanged.
        """
        try:
            "".join(args[: args.index("--")] if "--" in args else args).encode()
        except UnicodeEncodeError:
            ctx.fail("the command line is not UTF-8 text")
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name or alias; None if there is none."""
        if cmd_name not in COMMANDS:
            from odc.cli.command_aliases import ALIASES

            if cmd_name == "version":
                return version
            if cmd_name not in ALIASES:
                return None
            cmd_name = ALIASES[cmd_name]
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's list of commands, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As click does; an unknown command is refused with the equivalent or similar commands."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from odc.cli.command_aliases import PAIR_REPLACEMENTS, REPLACEMENTS, suggested_commands

            pair = PAIR_REPLACEMENTS.get(" ".join(args[:2]).lower())
            ways = [pair] if pair else suggested_commands(name, REPLACEMENTS, COMMANDS)
            if ways and ways[0][1] in COMMANDS:
                ways = [(ways[0][0], gpu_dev(ways[0][1]))]
            raise InvalidRequest(f"no command {name[:40]!r}", *ways, ("the commands", gpu_dev("help")))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands with this prefix, from the table alone."""
        from click.shell_completion import CompletionItem

        options = click.Command.shell_complete(self, ctx, incomplete)
        return [
            *(CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)),
            *options,
        ]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoint", metavar="ADDRESS", help="Address of the ODC daemon, such as unix:///run/odc/odc.sock.")
@click.version_option(__version__, prog_name="gpu-dev")
@click.pass_context
def main(ctx: click.Context, endpoint: str | None) -> None:
    """Reserve GPUs, connect, work. Start with: gpu-dev reserve"""
    session = ctx.find_object(Session)
    if session is not None and endpoint:
        session.endpoint_typed = endpoint
        session.output = replace(session.output, endpoint=shlex.quote(endpoint))


@click.command()
def version() -> None:
    """Show the version."""
    click.echo(f"gpu-dev, version {__version__}")


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show this help, or a command's."""
    context = ctx.parent or ctx
    command: click.Command = main
    for word in words:
        found = None
        if isinstance(command, click.Group):
            found = command.resolve_command(context, [word])[1]  # refuses a word with what is meant
        if found is None:
            raise InvalidRequest(f"no command {' '.join(words)!r}", ("the commands", gpu_dev("help")))
        command = found
        context = click.Context(command, info_name=word, parent=context, **command.context_settings)
    click.echo(command.get_help(context))
