"""The files below a folder, by path. Any name that Linux allows is fine; only text goes out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from odc.adapters.localdisk.marker import MARKER
from odc.ports.volumes import FileEntry


def list_below(top: Path) -> Iterator[FileEntry]:
    """Every entry, each folder before what it holds, names in the order of their bytes; the marker is left out.

    A name that is not UTF-8 has U+FFFD for the bytes that are not text. What is nested too deep to be named in one
    path is listed as `o`, without what it holds.
    """
    stack = [_entries(top)]
    prefixes = [""]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            prefixes.pop()
            continue
        if entry.name == MARKER and len(stack) == 1:
            continue
        found = _describe(entry, prefixes[-1])
        yield found
        if found.kind == "d":
            stack.append(_entries(Path(entry.path)))
            prefixes.append(f"{found.path}/")


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: os.fsencode(entry.name)))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return iter(())


def _describe(entry: os.DirEntry[str], prefix: str) -> FileEntry:
    name = os.fsencode(entry.name).decode(errors="replace")
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return FileEntry(path=prefix + name, kind="o", size=0, mtime=0)
    if entry.is_symlink():
        kind = "l"
    elif entry.is_dir(follow_symlinks=False):
        kind = "d"
    else:
        kind = "f" if entry.is_file(follow_symlinks=False) else "o"
    return FileEntry(path=prefix + name, kind=kind, size=facts.st_size, mtime=int(facts.st_mtime))
