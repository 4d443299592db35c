"""Runs the system's storage programs."""

from __future__ import annotations

import shutil
import subprocess
from contextvars import ContextVar

from odc.adapters.localdisk.errors import error_of_program
from odc.domain.commands import odc
from odc.domain.errors import ProviderRefused, ProviderUnavailable

LIMIT_S = 3600.0
inherited_locks: ContextVar[tuple[int, ...]] = ContextVar("inherited_locks", default=())
"""Descriptors of locks that the programs keep until they end, even if this process is killed."""


def run(*command: str, given: bytes | None = None, limit_s: float = LIMIT_S) -> str:
    """Run a program and return its output. It runs in the C locale, so that its messages can be matched.

    Args:
        command: the program and its arguments.
        given: its standard input; None: none.
        limit_s: seconds after which it is killed.

    Raises:
        ProviderRefused: it is not installed.
        ProviderUnavailable: it failed, with the beginning of its message, or did not end in time.
    """
    if shutil.which(command[0]) is None:
        raise ProviderRefused(f"{command[0]} is not installed", ("see what is missing", odc("doctor")))
    try:
        done = subprocess.run(
            ("env", "LC_ALL=C", *command),
            input=given,
            capture_output=True,
            timeout=limit_s,
            pass_fds=inherited_locks.get(),
        )
    except OSError as error:
        raise ProviderUnavailable(f"{command[0]} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ProviderUnavailable(f"{command[0]} did not end within {limit_s:g} s") from error
    if done.returncode != 0:
        raise error_of_program(command[0], done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")
