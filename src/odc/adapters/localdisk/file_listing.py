"""Lists the files below a folder by path, in bounded memory and time for any contents.

A home may hold ten million names in one folder, or names nested until a path is 4,095 bytes long. Only as many names
are kept in memory as may still be listed, and a listing that is too large or takes too long is cut. All names that
Linux allows are accepted; the output is text.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from odc.adapters.localdisk.disk_marker import MARKER
from odc.ports.volumes import CUT, MOST_ENTRIES, FileEntry

MOST_SECONDS = 60.0


class _Budget:
    """How many names may still be kept, and until when names are read."""

    def __init__(self, most: int, seconds: float) -> None:
        self.names = most
        self.end = time.monotonic() + seconds
        self.cut = False


def list_below(top: Path, most: int = MOST_ENTRIES, seconds: float = MOST_SECONDS) -> Iterator[FileEntry]:
    """Yield the entries, each folder before its contents, names in the order of their bytes; the marker is left out.

    A name that is not UTF-8 has U+FFFD for the bytes that are not text. A folder that is nested too deep for one path
    is listed as `o`, without its contents.

    Args:
        top: a folder that does not change meanwhile.
        most: number of entries after which the listing is cut; the last entry is `CUT` then.
        seconds: time after which it is cut.
    """
    budget = _Budget(most, seconds)
    stack = [_names(top, budget)]
    folders, prefixes = [os.fsencode(top)], [""]
    while stack:
        if time.monotonic() > budget.end:
            budget.cut = True
            break
        if not stack[-1]:
            stack.pop()
            folders.pop()
            prefixes.pop()
            continue
        name = stack[-1].pop()
        if len(stack) == 1 and name == MARKER.encode():
            continue
        path = folders[-1] + b"/" + name
        found = _describe(path, prefixes[-1] + name.decode(errors="replace"))
        yield found
        if found.kind == "d":
            stack.append(_names(path, budget))
            folders.append(path)
            prefixes.append(f"{found.path}/")
    if budget.cut:
        yield CUT


def _names(folder: Path | bytes, budget: _Budget) -> list[bytes]:
    """The first names of the folder that the budget allows, the last one first."""
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            names = heapq.nsmallest(budget.names + 1, _read(entries, budget))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return []
    if len(names) > budget.names:
        budget.cut = True
        names.pop()
    budget.names -= len(names)
    names.reverse()
    return names


def _read(entries: Iterator[os.DirEntry[bytes]], budget: _Budget) -> Iterator[bytes]:
    for entry in entries:
        if time.monotonic() > budget.end:
            budget.cut = True
            return
        yield entry.name


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
