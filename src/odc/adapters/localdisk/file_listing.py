"""Lists the files below a folder by path, in constant memory and bounded time for any contents.

A home may have ten million names in one folder, or names nested until a path is 4,095 bytes long. Names are sorted as
long as they fit in a fixed amount of memory; those of a larger folder are listed in the order of the file system, one
by one. A listing that takes too long is cut. All names that Linux allows are accepted; the output is text.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Self

from odc.adapters.localdisk.disk_marker import MARKER
from odc.domain.file_listing import CUT, FileEntry

MOST_SECONDS = 60.0
KEPT_NAMES = 100_000
"""The most names that are in memory, of all the folders on the way to the current file. A folder may use half of what
the folders above it have left, so a deep tree is sorted, too."""
MOST_OPEN = 16
"""The most folders that are too large to be sorted and are within each other: each needs a file descriptor."""


class _Folder:
    """A folder that is being listed: its path, the text that precedes its names, and the names that are left."""

    def __init__(self, path: bytes, shown: str, room: int) -> None:
        """Read the names, if there is room for them in memory.

        Args:
            path: of the folder.
            shown: its path in the listing, with a slash at the end; empty for the top.
            room: the most names to sort.

        Raises:
            OSError: it cannot be read.
        """
        self.path = path
        self.shown = shown
        self._entries = os.scandir(path)
        names = [entry.name for entry in islice(self._entries, room + 1)]
        self.kept = len(names)
        self.is_open = self.kept > room
        if self.is_open:
            self.names = chain(names, (entry.name for entry in self._entries))
        else:
            self._entries.close()
            names.sort()
            self.names = chain(names)

    def close(self) -> None:
        """Close the folder; closing it twice does nothing."""
        self._entries.close()


class _Stack:
    """The folders from the top to the current one, with the memory and the file descriptors that are left."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._folders: list[_Folder] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for folder in self._folders:
            folder.close()

    @property
    def current(self) -> _Folder | None:
        """The innermost folder; None at the end."""
        return self._folders[-1] if self._folders else None

    @property
    def at_top(self) -> bool:
        """Whether the current folder is the home."""
        return len(self._folders) == 1

    def enter(self, path: bytes, shown: str) -> bool:
        """List this folder next; False if it is too large and too many such folders are open."""
        try:
            folder = _Folder(path, shown, self._room // 2)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return True
        if folder.is_open and sum(other.is_open for other in self._folders) >= MOST_OPEN:
            folder.close()
            return False
        self._room -= folder.kept
        self._folders.append(folder)
        return True

    def leave(self) -> None:
        """Go on with the folder above."""
        folder = self._folders.pop()
        folder.close()
        self._room += folder.kept


def list_below(top: Path, seconds: float = MOST_SECONDS, kept: int = KEPT_NAMES) -> Iterator[FileEntry]:
    """Yield the entries, each folder before its contents; the marker is left out.

    The names of a folder are in the order of their bytes, or in the order of the file system if it has too many. A name
    that is not UTF-8 has U+FFFD for the bytes that are not text. A folder that is nested too deep for one path is
    listed as `o`, without its contents.

    Args:
        top: a folder that does not change meanwhile.
        seconds: time after which it is cut; the last entry is `CUT` then.
        kept: the most names in memory.
    """
    end, cut = time.monotonic() + seconds, False
    with _Stack(kept) as stack:
        stack.enter(os.fsencode(top), "")
        while (folder := stack.current) is not None:
            if time.monotonic() > end:
                cut = True
                break
            name = next(folder.names, None)
            if name is None:
                stack.leave()
                continue
            if stack.at_top and name == MARKER.encode():
                continue
            path = folder.path + b"/" + name
            found = _describe(path, folder.shown + name.decode(errors="replace"))
            yield found
            if found.kind == "d" and not stack.enter(path, f"{found.path}/"):
                cut = True
    if cut:
        yield CUT


def _describe(path: bytes, shown: str) -> FileEntry:
    try:
        facts = os.lstat(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return FileEntry(path=shown, kind="o", size=0, mtime=0)
    kinds = {stat.S_IFLNK: "l", stat.S_IFDIR: "d", stat.S_IFREG: "f"}
    kind = kinds.get(stat.S_IFMT(facts.st_mode), "o")
    return FileEntry(path=shown, kind=kind, size=facts.st_size, mtime=int(facts.st_mtime))
