"""Errors of writing the answer, by whatever function, and standard output that is closed."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

STANDARD_OUTPUT = "standard output"
"""The file name in errors of writing the answer."""
_NOT_WRITTEN = (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def is_unwritten(error: OSError) -> bool:
    """Whether this is an error of writing to standard output: it names that, or no file."""
    return error.filename == STANDARD_OUTPUT or (error.filename is None and error.errno in _NOT_WRITTEN)


def unwritten_text(error: OSError) -> str:
    """Return the message for an answer that could not be written."""
    return f"{STANDARD_OUTPUT} cannot be written: {error.strerror or error}"


def give_up(stream: TextIO) -> None:
    """Drop what is written to the stream from now on, and let the interpreter exit without an error about the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_standard_files() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed: otherwise the next opened file would become one of them.

    Standard output is opened so that writing fails: an answer that nobody can read is an error.
    """
    for number, name, mode, access in (
        (0, "stdin", "r", os.O_RDWR),
        (1, "stdout", "w", os.O_RDONLY),
        (2, "stderr", "w", os.O_RDWR),
    ):
        try:
            os.fstat(number)
        except OSError:
            null = os.open("/dev/null", access)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # for the process's whole life
