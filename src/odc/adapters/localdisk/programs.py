"""The system's storage programs, run by lists of words, and storage's own failures turned into ODC's errors."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from odc.domain.errors import ProviderRefused, ProviderUnavailable

LIMIT_S = 3600.0
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_ROOM = ("see what is full", "odc doctor")


def run(*command: str, given: bytes | None = None, limit_s: float = LIMIT_S) -> str:
    """What the program prints. It runs in the C locale, so that its words can be read.

    Args:
        command: the program and its arguments.
        given: its standard input; None: none.
        limit_s: when it is ended.

    Raises:
        ProviderRefused: it is not installed.
        ProviderUnavailable: it failed, with its first words, or did not end in time.
    """
    if shutil.which(command[0]) is None:
        raise ProviderRefused(f"{command[0]} is not installed", ("see what is missing", "odc doctor"))
    try:
        done = subprocess.run(("env", "LC_ALL=C", *command), input=given, capture_output=True, timeout=limit_s)
    except OSError as error:
        raise ProviderUnavailable(f"{command[0]} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ProviderUnavailable(f"{command[0]} did not end within {limit_s:g} s") from error
    if done.returncode != 0:
        raise _failure(command[0], done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


def _failure(program: str, words: str) -> ProviderUnavailable:
    lines = [line.strip() for line in words.splitlines() if line.strip()] or ["no reason given"]
    if any(full in line for line in lines for full in _FULL):
        return ProviderUnavailable(f"{program} failed: the storage of the disks is full ({lines[0]})", _ROOM)
    return ProviderUnavailable(f"{program} failed: {lines[0]}")


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise `ProviderUnavailable` for what the operating system says about files; `what` begins the message."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProviderUnavailable(f"{what}: the storage of the disks is full", _ROOM) from error
        if error.errno == errno.EROFS:
            raise ProviderUnavailable(f"{what}: the storage of the disks takes no writes now", _ROOM) from error
        raise ProviderUnavailable(f"{what}: {error.strerror or error}") from error
