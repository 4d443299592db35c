"""Makes `docs/reference/cli.md` from the commands themselves: `python -m odc.cli.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from odc.cli.main import main

PAGE = Path("docs/reference/cli.md")
_HEAD = """# The commands of `gpu-dev`

Made from the commands by `make docs`; do not edit. What they are for: [the guide](../guide.md).

Exit codes: 0 done; 1 it failed, or the ODC daemon does not answer; 2 what was typed cannot be done; 70 a bug;
130 interrupted.
With `--json` an error is JSON on standard error: `error`, `message`, `hint`.
"""


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Return every command below this one with its full name, groups before their commands."""
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is None:
            continue
        inner = click.Context(found, info_name=name, parent=context, **found.context_settings)
        yield inner.command_path, found, inner
        yield from commands(found, inner)


def root() -> click.Context:
    """The context of `gpu-dev` itself."""
    top = click.Context(main, info_name="gpu-dev", terminal_width=100, **main.context_settings)
    main.get_help_option(top)  # a command keeps the help option of the first context that asks: not a child's
    return top


def page() -> str:
    """The whole page."""
    top = root()
    parts = [_HEAD, _section("gpu-dev", main, top)]
    parts += [_section(path, command, context) for path, command, context in commands(main, top)]
    return "\n".join(parts)


def _section(path: str, command: click.Command, context: click.Context) -> str:
    return f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
