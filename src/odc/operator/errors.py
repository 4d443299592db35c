"""How `odc` reports errors."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from odc.cli.command_aliases import similar_options
from odc.cli.current_folder import refused_without_folder
from odc.cli.unwritten import give_up, is_unwritten, unwritten_text
from odc.domain.errors import InvalidRequest, OdcError, ProviderRefused, exit_code
from odc.operator.hints import typed_here

EXTRAS = {"psycopg": "server,postgresql", "lightkube": "server,kubernetes"}
"""Module to the extras that bring it; every other one comes with `server`."""


def show_error(error: OdcError) -> None:
    """`error: …`, then one aligned line for each way on."""
    click.echo(f"error: {typed_here(error.message)}", err=True)
    width = max((len(hint.label) for hint in error.hints), default=0)
    for hint in error.hints:
        click.echo(f"  {hint.label:<{width}}   {typed_here(hint.command)}", err=True)


def failed(error: OdcError) -> int:
    """Print the error and return its exit code."""
    show_error(error)
    return exit_code(error)


def as_ours(error: click.ClickException) -> InvalidRequest:
    """Return click's usage error in ODC's form, with the command's help as a hint."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "odc"
    if isinstance(error, click.NoSuchOption) and context is not None:
        names = {name for param in context.command.get_params(context) for name in param.opts if name[:2] == "--"}
        near = similar_options(error.option_name, names)
        message = error.message.rstrip(".") + (f". Did you mean {' or '.join(near)}?" if near else "")
    return InvalidRequest(message[:1].lower() + message[1:], ("its help", f"{path} --help"))


def refused_by_host(error: OSError) -> ProviderRefused:
    """Return the error for a call that the operating system refused."""
    if is_unwritten(error):
        give_up(sys.stdout)
        return ProviderRefused(unwritten_text(error))
    plain = ProviderRefused(f"{error.filename or 'this machine'}: {error.strerror or error}")
    return refused_without_folder(error) or plain


def missing(error: ModuleNotFoundError) -> ProviderRefused:
    """Return the error for a missing part of the installation.

    Raises:
        ModuleNotFoundError: it is a part of ODC itself, which is a bug.
    """
    name = (error.name or "").partition(".")[0]
    if not name or name == "odc":
        raise error
    extra = EXTRAS.get(name, "server")
    text = f"this installation has only the part for developers, gpu-dev: {name} is not there"
    if name in EXTRAS:
        text = f"the settings need {name}, which is not installed"
    install = "pipx install --force" if "pipx" in Path(sys.prefix).parts else "pip install"
    return ProviderRefused(text, ("install the rest", f"{install} 'open-developer-cloud[{extra}]'"))
