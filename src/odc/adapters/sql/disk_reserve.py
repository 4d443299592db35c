"""A reserve of disk space for the records: a file that is deleted when their file system is full.

Ending boxes and freeing space writes to the records too, so without a reserve a full file system would keep
reservations from ending. It is created again when there is space.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from odc.domain.problem import Problem, ProblemKind
from odc.domain.records import StoreRoom

log = logging.getLogger(__name__)

RESERVE_BYTES = 64 * 2**20
WARN_BYTES = 2**30
REFUSE_BYTES = 256 * 2**20


class DiskReserve:
    """The reserve of one folder. May be used by several threads at once."""

    def __init__(self, folder: Path, size_bytes: int = RESERVE_BYTES) -> None:
        """Name the folder.

        Args:
            folder: where the records are.
            size_bytes: of the reserve; the other limits are multiples of it.
        """
        self._folder = folder
        self._file = folder / "reserve"
        self._size = size_bytes

    def release(self) -> None:
        """Delete the file, so that its space can be used."""
        with contextlib.suppress(OSError):
            self._file.unlink()
            log.error("little room for the records; the reserve is used", extra={"folder": str(self._folder)})

    def room(self) -> StoreRoom:
        """Return the free space. Create the reserve, or delete it before the file system is full.

        Raises:
            OSError: the folder cannot be read.
        """
        facts = os.statvfs(self._folder)
        free, scale = facts.f_bavail * facts.f_frsize, self._size / RESERVE_BYTES
        if free < self._size // 4:
            self.release()
        elif free > 2 * self._size and not self._file.exists():
            self._make()
        if free >= WARN_BYTES * scale:
            return StoreRoom()
        full = free < REFUSE_BYTES * scale
        kind = ProblemKind.RECORDS_FULL if full else ProblemKind.RECORDS_LOW
        return StoreRoom(problem=Problem(kind=kind, path=str(self._folder), free_bytes=free))

    def _make(self) -> None:
        fresh = self._file.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
            fresh.chmod(0o600)
            fresh.replace(self._file)
        except OSError:
            fresh.unlink(missing_ok=True)
