"""Shell completion: the script for the shell, and the names that it offers.

Names come from the list that the last command cached: the daemon is not asked, so that Tab never waits for it.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from odc.cli.context import Session
from odc.domain.errors import OdcError

SHELLS = ("bash", "zsh", "fish")


def script(command: click.Command, program: str, shell: str) -> str:
    """Return the script that the shell reads to complete the words of a program.

    Args:
        command: the program's.
        program: its name.
        shell: one of `SHELLS`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{program}_COMPLETE".replace("-", "_").upper()
    # Not `source()`, which starts a bash to ask for its version: this may be for another machine.
    made = kind(command, {}, program, variable)
    return str(made.source_template % made.source_vars())


def reservations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the user's live reservations from the cached list: names, and ids once a part of one is typed."""
    session = ctx.find_object(Session)
    if session is None:
        return []
    from odc.cli import local_state, screens

    # The shell's completion runs no command, so the option has not been copied to the session.
    session.endpoint_typed = session.endpoint_typed or ctx.find_root().params.get("endpoint") or ""
    try:
        cached = local_state.find_cached(session)
    except OdcError:  # the settings cannot be read: the next command reports it
        return []
    taken = ctx.params.get(param.name or "") or ()
    found: list[CompletionItem] = []
    for view in cached[1] if cached else ():
        told = f"{screens.count_of(view)}, {view.state}"
        words = [view.name, *([view.id[:8]] if incomplete else [])]
        found += [
            CompletionItem(word, help=told) for word in words if word.startswith(incomplete) and word not in taken
        ]
    return found


def completion_command() -> click.Command:
    """The command that prints the script; a new one for each program, since a command keeps its help option."""

    @click.command("completion")
    @click.argument("shell", type=click.Choice(SHELLS))
    @click.pass_context
    def printed(ctx: click.Context, shell: str) -> None:
        """Print the completion script of a shell."""
        root = ctx.find_root()
        click.echo(script(root.command, root.info_name or "gpu-dev", shell))

    return printed


completion = completion_command()
"""Of `gpu-dev`."""
