"""Two ways to keep volumes and snapshots: btrfs subvolumes, and plain folders with hard-linked copies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from odc.adapters.localdisk import btrfs_ioctl
from odc.adapters.localdisk.errors import storage_errors
from odc.adapters.localdisk.programs import run
from odc.adapters.localdisk.quota_groups import (
    Counts,
    enable_quotas,
    group_of,
    has_groups,
    join_group,
    measure_space,
    show_groups,
)
from odc.domain.errors import ProviderUnavailable
from odc.domain.storage import StorageUse


class StorageBackend(Protocol):
    """How a volume is made and copied."""

    name: str
    has_limits: bool
    """Whether a volume cannot grow beyond its size."""
    copies_in_use: bool
    """Whether a copy of a volume that is in use shows all files at one moment."""

    def make(self, path: Path, size_bytes: int) -> None:
        """Make an empty volume with this size limit; an existing volume only gets the limit."""

    def identity(self, volume: Path) -> str:
        """Return an identity that no other folder has, by which an unmounted or replaced volume is recognised."""

    def make_writable(self, volume: Path) -> None:
        """Undo changes that its user may have made to the volume as a whole, so that it can be used and copied."""

    def copy(self, volume: Path, target: Path, before: Path | None, before_at: float) -> int:
        """Copy the volume, exactly and durably, to a target that is not there; then verify it.

        Args:
            volume: not in use, unless `copies_in_use`.
            target: taken for nothing until this has returned.
            before: the snapshot before, with which equal files may be shared.
            before_at: when that was taken, in epoch seconds.

        Returns:
            The bytes that the files take.
        """

    def restore(self, snapshot: Path, target: Path, size_bytes: int) -> None:
        """Copy a snapshot, exactly and durably, to a volume that is not there, with this size limit."""

    def used_bytes(self, volume: Path) -> int | None:
        """Return the size of the volume's files; None if that is expensive to find out."""

    def delete(self, path: Path) -> None:
        """Delete a volume or a copy, if it exists."""

    def measure(self, root: Path) -> StorageUse:
        """Return the usage of the storage, and of each disk if that is cheap to find out."""


class Btrfs:
    """Subvolumes with quota groups.

    A snapshot is verified when the file system is synced, the snapshot is read-only, and btrfs names the volume as its
    parent. Subvolumes that a user makes inside the home stay in the volume, and are empty folders in snapshots.
    """

    name = "btrfs"
    has_limits = True
    copies_in_use = True

    def __init__(self, root: Path) -> None:
        """Turn quotas on for the file system that holds this folder, which changes nothing where they are on.

        A read-only one is left as it is: its files can still be read.
        """
        if not os.statvfs(root).f_flag & os.ST_RDONLY:
            enable_quotas(root)
        self._counts: Counts | None = None

    def make(self, path: Path, size_bytes: int) -> None:
        """Make a subvolume with its limit."""
        with storage_errors(f"the subvolume {path.name} cannot be made"):
            if not path.exists():
                btrfs_ioctl.create_subvolume(path)
            btrfs_ioctl.limit_subvolume(path, size_bytes)
            # One that holds files would have to be counted again; the next measurement sees to that, not too often.
            if has_groups() and not any(path.iterdir()):
                join_group(path)

    def identity(self, volume: Path) -> str:
        """The subvolume's UUID; a plain folder has none."""
        if volume.stat().st_ino != btrfs_ioctl.SUBVOLUME_INODE:
            return "no subvolume"
        return btrfs_ioctl.read_subvolume(volume).uuid

    def make_writable(self, volume: Path) -> None:
        """Clear the flag that makes a subvolume read-only, which its owner may set without any right."""
        btrfs_ioctl.make_writable(volume)

    def copy(self, volume: Path, target: Path, before: Path | None, before_at: float) -> int:
        """Take a read-only snapshot, which btrfs does atomically and without copying data."""
        group = ("-i", group_of(volume)) if has_groups() else ()
        try:
            run("btrfs", "subvolume", "snapshot", "-r", *group, str(volume), str(target))
        except ProviderUnavailable:
            # A disk that was made without its group has none until it is measured.
            run("btrfs", "subvolume", "snapshot", "-r", str(volume), str(target))
        run("btrfs", "filesystem", "sync", str(target))
        copy = btrfs_ioctl.read_subvolume(target)
        if copy.parent_uuid != self.identity(volume) or not copy.read_only:
            raise ProviderUnavailable(f"the snapshot {target.name} is not a read-only copy of its volume")
        return self.used_bytes(volume) or 0

    def restore(self, snapshot: Path, target: Path, size_bytes: int) -> None:
        """Copy the files, which share the snapshot's data.

        A snapshot of the snapshot would leave the group of its disk: btrfs would have to count everything again, and no
        disk would have a limit until then.
        """
        self.make(target, size_bytes)
        run("cp", "-a", "--reflink=auto", f"{snapshot}/.", str(target))
        run("btrfs", "filesystem", "sync", str(target))

    def used_bytes(self, volume: Path) -> int | None:
        """Return the bytes of the quota group; None while it is being counted."""
        lines = show_groups("-f", volume)
        words = lines[-1].split() if lines else []
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

    def delete(self, path: Path) -> None:
        """Delete a subvolume; its space is freed in the background."""
        if path.exists():
            number = btrfs_ioctl.root_id(path)
            run("btrfs", "subvolume", "delete", "--commit-after", str(path))
            if self._counts is not None:
                self._counts.note_deleted(number)

    def measure(self, root: Path) -> StorageUse:
        """The counts of quota groups."""
        if self._counts is None:
            self._counts = Counts(root)
        return self._counts.measure()


class Folders:
    """Plain folders, without limits. A snapshot is a copy of the stopped volume.

    Files that are unchanged since the previous snapshot are hard links to it, never to the live volume. Verified when
    after a sync a second comparison (kind, size, times, mode, owner, links, ACLs, extended attributes) finds no
    difference.
    """

    name = "folders with hard-linked copies"
    has_limits = False
    copies_in_use = False
    _SAME = ("rsync", "-aHAXS", "--numeric-ids", "--modify-window=-1")

    def make(self, path: Path, size_bytes: int) -> None:
        """Make a folder."""
        path.mkdir(exist_ok=True)

    def identity(self, volume: Path) -> str:
        """Its inode."""
        return f"inode {volume.stat().st_ino}"

    def make_writable(self, volume: Path) -> None:
        """A folder has no such flag."""

    def copy(self, volume: Path, target: Path, before: Path | None, before_at: float) -> int:
        """Copy with rsync, then replace links to files that only seem unchanged by copies."""
        target.mkdir()
        link = [f"--link-dest={before}"] if before is not None else []
        run(*self._SAME, *link, f"{volume}/", f"{target}/")
        with tempfile.NamedTemporaryFile() as doubtful:
            used = _compare(volume, target, before, before_at, doubtful)
            doubtful.flush()
            if doubtful.tell():
                given = f"--files-from={doubtful.name}"
                run(*self._SAME, "--checksum", "--from0", given, f"{volume}/", f"{target}/")
                # The exchange has changed the modification times of the parent folders.
                run(*self._SAME, f"{volume}/", f"{target}/")
        self._verify(volume, target)
        return used

    def restore(self, snapshot: Path, target: Path, size_bytes: int) -> None:
        """Copy with rsync; nothing is linked, since the volume will be written."""
        target.mkdir()
        run(*self._SAME, f"{snapshot}/", f"{target}/")
        self._verify(snapshot, target)

    def _verify(self, original: Path, copy: Path) -> None:
        run("sync", "-f", str(copy))
        different = run(*self._SAME, "--delete", "--dry-run", "--itemize-changes", f"{original}/", f"{copy}/").strip()
        if different:
            raise ProviderUnavailable(f"the copy differs: {different.splitlines()[0]}")

    def used_bytes(self, volume: Path) -> int | None:
        """Return None: counting files is expensive."""
        return None

    def delete(self, path: Path) -> None:
        """Delete a folder with all it holds."""
        if path.exists():
            run("rm", "-rf", "--one-file-system", str(path))

    def measure(self, root: Path) -> StorageUse:
        """Return the file system's own numbers; counting each disk's files is expensive."""
        total, free = measure_space(root)
        return StorageUse(total_bytes=total, free_bytes=free)


def _compare(volume: Path, copy: Path, before: Path | None, before_at: float, doubtful: IO[bytes]) -> int:
    """Return the bytes of the files. Write the paths of linked files that were changed since the previous snapshot,
    each followed by a NUL.

    A program can set a file's modification time back: then size and time are unchanged, and only ctime shows that the
    contents may differ. Memory grows with the folders and the hard-linked files only.
    """
    used, seen = 0, set()
    for path in _files_below(volume):
        facts = os.lstat(os.fsencode(volume) + b"/" + path)
        if facts.st_nlink > 1:
            if facts.st_ino in seen:
                continue
            seen.add(facts.st_ino)
        used += facts.st_blocks * 512
        if before is not None and facts.st_ctime > before_at - 1 and _is_shared(copy, before, path):
            doubtful.write(path + b"\0")
    return used


def _files_below(volume: Path) -> Iterator[bytes]:
    """The path of every entry that is not a folder. It begins with a dot: rsync takes `#` for a comment."""
    folders = [b"."]
    while folders:
        folder = folders.pop()
        with os.scandir(os.fsencode(volume) + b"/" + folder) as entries:
            for entry in entries:
                path = folder + b"/" + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                else:
                    yield path


def _is_shared(copy: Path, before: Path, path: bytes) -> bool:
    ours, earlier = os.fsencode(copy) + b"/" + path, os.fsencode(before) + b"/" + path
    try:
        return os.lstat(earlier).st_ino == os.lstat(ours).st_ino
    except FileNotFoundError:
        return False


def is_btrfs(path: Path) -> bool:
    """Whether the path is on btrfs."""
    return run("stat", "-f", "-c", "%T", str(path)).strip() == "btrfs"
