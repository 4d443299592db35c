"""`gpu-dev`: reads the environment, runs a command, and turns errors into words and exit codes."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import click

from odc.cli.context import Session
from odc.cli.main import main as group
from odc.cli.output import standard_output
from odc.domain.errors import InvalidRequest, InvariantError, OdcError, exit_code

INTERRUPTED = 130


def main() -> None:
    """Run one command and end the process with its exit code."""
    environment = os.environ
    session = Session(
        home=Path(environment.get("HOME") or Path.home()),
        output=standard_output("NO_COLOR" in environment, environment.get("TERM", "")),
        now=lambda: datetime.now().astimezone(),
        agent=environment.get("SSH_AUTH_SOCK", ""),
        endpoint_wanted=environment.get("GPU_DEV_ENDPOINT", ""),
    )
    sys.exit(run(session, sys.argv[1:]))


def run(session: Session, arguments: list[str]) -> int:
    """Run one command; its exit code."""
    try:
        group.main(args=arguments, prog_name="gpu-dev", obj=session, standalone_mode=False)
    except InvariantError:
        raise
    except OdcError as error:
        session.output.error(error, session.as_json)
        return exit_code(error)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        if session.as_json:
            session.output.error(InvalidRequest(error.format_message()), True)
        else:
            error.show()
        return error.exit_code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except KeyboardInterrupt:
        session.output.note("")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has seen enough; the interpreter must not complain while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


if __name__ == "__main__":
    main()
