"""Functions of libc and system calls of the kernel that Python has no functions for."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, path: Path, *arguments: object) -> None:
    """Call a function of libc that returns 0, or -1 and an error number.

    Args:
        function: its name.
        path: what it is about, for the error.
        arguments: its arguments; a path is given as bytes.

    Raises:
        OSError: it failed.
    """
    if getattr(_libc, function)(*arguments) != 0:
        raise _error(path)


def system_call(number: int, path: Path, *arguments: object) -> int:
    """Return the result of a system call that libc may have no function for.

    Args:
        number: of the call.
        path: what it is about, for the error.
        arguments: its arguments; integers are passed as `long`.

    Raises:
        OSError: it failed.
    """
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    _libc.syscall.restype = ctypes.c_long
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _error(path)
    return result


def _error(path: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), str(path))
