"""The marker in a home: `.odc-disk`, the disk's id. A box whose home has no marker, or another's, does not start.

A home belongs to its user, who may write anything there under any name, so nothing in it is followed or trusted.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

MARKER = ".odc-disk"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST = 64


def read_marker(home: Path) -> str | None:
    """The disk id in the marker; None without a marker, an empty text if it is not a plain file."""
    try:
        descriptor = os.open(home / MARKER, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, _LONGEST).decode(errors="replace").strip()
    finally:
        os.close(descriptor)


def write_marker(home: Path, disk_id: str, owner: int) -> None:
    """Write the marker, `0444` and of this owner. A file of that name is replaced; a folder is renamed.

    A crash leaves the marker missing or short; the next attach writes it again.
    """
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
    try:
        _clear(folder)
        descriptor = os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o444, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, owner, owner)
            os.fchmod(descriptor, 0o444)
            file.write(disk_id.encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        os.fsync(folder)
    finally:
        os.close(folder)


def _clear(folder: int) -> None:
    try:
        os.unlink(MARKER, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError:
        aside = f"{MARKER}.{secrets.token_hex(4)}"
        os.rename(MARKER, aside, src_dir_fd=folder, dst_dir_fd=folder)
