"""The program of `gpu-dev`: reads the environment, runs a command, and turns errors into words and exit codes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import NoReturn

import click

from odc.cli.ascii import fit_streams
from odc.cli.context import Session
from odc.cli.home import choose_home, home_of_account
from odc.cli.main import COMMANDS
from odc.cli.main import main as group
from odc.cli.output import standard_output
from odc.cli.times import clock, local_now
from odc.cli.unwritten import give_up, is_unwritten, open_standard_files, unwritten_text
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, OdcError, ProviderRefused, exit_code
from odc.entrypoints.process_environment import started_with

INTERRUPTED = 130


def main() -> None:
    """Run one command and end the process with its exit code."""
    open_standard_files()
    environment = os.environ
    fit_streams(started_with())
    home = choose_home(environment.get("HOME", ""))
    session = Session(
        home=home.folder,
        output=standard_output(bool(environment.get("NO_COLOR")), environment.get("TERM", "")),
        now=local_now,
        agent=environment.get("SSH_AUTH_SOCK", ""),
        account_home=home_of_account(home.folder),
        endpoint_variable=environment.get("GPU_DEV_ENDPOINT", ""),
    )
    session.output = replace(session.output, operator=lambda: _operator_of(session))
    # The shell asks at Tab: nothing else may be in the answer.
    note = "" if "_GPU_DEV_COMPLETE" in environment else home.note
    _end(run(session, sys.argv[1:], note))


def _end(code: int) -> NoReturn:
    """End the process once its output is written. Taking the interpreter down in order would be a tenth of every short
    command's time, and nothing is left for it to do.
    """
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError:
        sys.exit(code)  # which reports that the output could not be written
    os._exit(code)


def _operator_of(session: Session) -> str:
    """Return `odc` for the cloud of this session, as its operator types it."""
    from odc.api.connectors import connector_of

    try:
        return connector_of(session.endpoint).operator_command()
    except OdcError:
        return "odc"


def run(session: Session, arguments: list[str], note: str = "") -> int:
    """Run one command and return its exit code. Errors go to standard error and never return 0.

    Args:
        session: of this run.
        arguments: as they were typed.
        note: printed before the answer; empty for none.
    """
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    session.as_json = "--json" in ours
    session.output = replace(session.output, quiet=session.as_json and not session.output.err_is_terminal)
    try:
        if note and not {"--help", "--version"}.intersection(ours):
            session.note_once(note)
        return _command(session, arguments)
    except OdcError as error:
        _tell(session, error)
        return exit_code(error)
    except click.ClickException as error:
        _tell(session, _as_ours(error, arguments))
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        session.output.note("")
        return INTERRUPTED
    except BrokenPipeError:
        give_up(sys.stdout)
        return 0
    except OSError as error:
        refused = _refused_by_host(session, error)
        _tell(session, refused)
        return exit_code(refused)


def _refused_by_host(session: Session, error: OSError) -> ProviderRefused:
    """Return the error for a call that the operating system refused; it says what the command has done before."""
    from odc.cli.current_folder import refused_without_folder

    if gone := refused_without_folder(error):
        return gone
    done = f"{session.done}, but " if session.done else ""
    if is_unwritten(error):
        give_up(sys.stdout)
        return ProviderRefused(done + unwritten_text(error), *session.done_hints)
    return ProviderRefused(f"{done}{error.filename or 'this machine'}: {error.strerror or error}", *session.done_hints)


def _command(session: Session, arguments: list[str]) -> int:
    """Run one command; without arguments, print the help."""
    out = sys.stdout
    try:
        return int(group.main(args=arguments, prog_name="gpu-dev", obj=session, standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except SystemExit:
        # When the reader closes the pipe click replaces the stream and exits with 1. The reader has seen enough, so it
        # is not a failure.
        if sys.stdout is not out:
            return 0
        raise


def _tell(session: Session, error: OdcError) -> None:
    """Print the error; in text output its time is in the user's time zone."""
    message = f"{error.text} {clock(error.when, session.now())}" if error.when else error.message
    try:
        session.output.error(error, session.as_json, message)
    except OSError:
        # Standard error is closed too; only the exit code can report it.
        give_up(sys.stderr)


def _as_ours(error: click.ClickException, arguments: list[str]) -> InvalidRequest:
    """Return click's usage error in ODC's form, with the command's help as a hint."""
    message = _message_of(error)
    context = getattr(error, "ctx", None)
    typed = next((f"gpu-dev {word}" for word in arguments if word in COMMANDS), "gpu-dev")
    path = context.command_path if context is not None else typed
    is_there = not isinstance(error, click.NoSuchOption)
    is_type = is_there and getattr(error, "option_name", None) in ("-t", "--gpu-type")
    values = [("available types", gpu_dev("avail"))] if is_type else []
    return InvalidRequest(message[:1].lower() + message[1:], *values, ("its help", f"{path} --help"))


def _message_of(error: click.ClickException) -> str:
    """Return the message; for an unknown option, with the most similar one."""
    if not isinstance(error, click.NoSuchOption):
        return " ".join(error.format_message().split()).rstrip(".")
    from odc.cli.command_aliases import similar_options

    near = similar_options(error.option_name, _options_of(error) or error.possibilities or ())
    return error.message.rstrip(".") + (f". Did you mean {' or '.join(near)}?" if near else "")


def _options_of(error: click.NoSuchOption) -> list[str]:
    """Return every long option of the command that was typed."""
    if error.ctx is None:
        return []
    names = [name for param in error.ctx.command.get_params(error.ctx) for name in (*param.opts, *param.secondary_opts)]
    return [name for name in names if name.startswith("--")]
