"""`gpu-dev`: reads the environment, runs a command, and turns errors into words and exit codes."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import click

from odc.cli.context import Session
from odc.cli.main import main as group
from odc.cli.output import standard_output
from odc.cli.times import local_now
from odc.domain.errors import InvalidRequest, OdcError, ProviderRefused, exit_code

INTERRUPTED = 130


def main() -> None:
    """Run one command and end the process with its exit code."""
    environment = os.environ
    session = Session(
        home=Path(environment.get("HOME") or Path.home()),
        output=standard_output(bool(environment.get("NO_COLOR")), environment.get("TERM", "")),
        now=local_now,
        agent=environment.get("SSH_AUTH_SOCK", ""),
        endpoint_wanted=environment.get("GPU_DEV_ENDPOINT", ""),
    )
    code = run(session, sys.argv[1:])
    # The process ends: spare it the last search for cycles of garbage, a tenth of every short command's time.
    gc.freeze()
    sys.exit(code)


def run(session: Session, arguments: list[str]) -> int:
    """Run one command; its exit code. Errors go to standard error and never end with 0."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    session.as_json = "--json" in ours
    try:
        return int(group.main(args=arguments, prog_name="gpu-dev", obj=session, standalone_mode=False) or 0)
    except OdcError as error:
        session.output.error(error, session.as_json)
        return exit_code(error)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        session.output.error(_as_ours(error), session.as_json)
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        session.output.note("")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has seen enough; the interpreter must not complain while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refused = ProviderRefused(f"{error.filename or 'this machine'}: {error.strerror or error}")
        session.output.error(refused, session.as_json)
        return exit_code(refused)


def _as_ours(error: click.ClickException) -> InvalidRequest:
    """What was typed wrong, in our form, with the help that belongs to it."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "gpu-dev"
    return InvalidRequest(message[:1].lower() + message[1:], ("its help", f"{path} --help"))


if __name__ == "__main__":
    main()
