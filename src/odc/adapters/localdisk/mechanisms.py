"""Two ways to keep volumes and snapshots: btrfs subvolumes, and plain folders with hard-linked copies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from odc.adapters.localdisk.commands import run
from odc.domain.errors import ProviderUnavailable


class Mechanism(Protocol):
    """How a volume is made and copied. A copy of an incomplete name is never taken for a whole one."""

    name: str

    def make(self, path: Path, size_bytes: int) -> None:
        """Make an empty volume that may hold so much."""

    def copy(self, volume: Path, target: Path, before: Path | None) -> None:
        """Copy the volume, exactly and durably, to a read-only target that does not exist yet; then verify it.

        Args:
            volume: not in use.
            target: appears whole or not at all.
            before: an earlier snapshot, with which equal files may be shared.
        """

    def used_bytes(self, volume: Path) -> int | None:
        """What the volume's files take, if that can be said cheaply."""

    def delete(self, path: Path) -> None:
        """Delete a volume or a copy; nothing there is no error."""


class Btrfs:
    """Subvolumes with quota groups.

    A snapshot is verified when the file system has been synced, the snapshot is read-only, and btrfs names the volume
    as its parent.
    """

    name = "btrfs"

    def __init__(self, root: Path) -> None:
        """Turn quotas on for the file system that holds this folder."""
        self._root = root
        run("btrfs", "quota", "enable", str(root))

    def make(self, path: Path, size_bytes: int) -> None:
        """Make a subvolume with its limit."""
        if not path.exists():
            run("btrfs", "subvolume", "create", str(path))
        run("btrfs", "qgroup", "limit", str(size_bytes), str(path))

    def copy(self, volume: Path, target: Path, before: Path | None) -> None:
        """Take a read-only snapshot: whole or not at all, by btrfs itself."""
        run("btrfs", "filesystem", "sync", str(self._root))
        run("btrfs", "subvolume", "snapshot", "-r", str(volume), str(target))
        run("btrfs", "filesystem", "sync", str(self._root))
        shown = _fields(run("btrfs", "subvolume", "show", str(target)))
        parent = _fields(run("btrfs", "subvolume", "show", str(volume)))["UUID"]
        if shown.get("Parent UUID") != parent or "readonly" not in shown.get("Flags", ""):
            raise ProviderUnavailable(f"the snapshot {target.name} is not a read-only copy of its volume")

    def used_bytes(self, volume: Path) -> int | None:
        """What the quota group counts; None while it is being counted."""
        lines = run("btrfs", "qgroup", "show", "--raw", "-f", str(volume)).splitlines()
        words = lines[-1].split() if lines else []
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

    def delete(self, path: Path) -> None:
        """Delete a subvolume."""
        if path.exists():
            run("btrfs", "subvolume", "delete", str(path))


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


class Folders:
    """Plain folders. A snapshot is a copy of the stopped volume, hard-linked only to the snapshot before.

    Verified when a second comparison of every file (kind, owner, mode, times, size, links, extended attributes) after
    a sync finds no difference.
    """

    name = "folders with hard-linked copies"
    _SAME = ("rsync", "-aHAXS", "--numeric-ids", "--delete")

    def make(self, path: Path, size_bytes: int) -> None:
        """Make a folder; plain folders know no limit."""
        path.mkdir(exist_ok=True)

    def copy(self, volume: Path, target: Path, before: Path | None) -> None:
        """Copy into a name that is no snapshot's, verify, then give it its name."""
        fresh = target.with_name(f".{target.name}.partial")
        link = [f"--link-dest={before}"] if before is not None else []
        fresh.mkdir(exist_ok=True)
        run(*self._SAME, *link, f"{volume}/", f"{fresh}/")
        run("sync", "-f", str(fresh))
        different = run(*self._SAME, "--dry-run", "--itemize-changes", f"{volume}/", f"{fresh}/")
        if different.strip():
            raise ProviderUnavailable(f"the copy differs: {different.strip().splitlines()[0]}")
        fresh.replace(target)
        run("sync", "-f", str(target))

    def used_bytes(self, volume: Path) -> int | None:
        """Counting files is not cheap."""
        return None

    def delete(self, path: Path) -> None:
        """Delete a folder with all it holds."""
        shutil.rmtree(path, ignore_errors=True)


def is_btrfs(path: Path) -> bool:
    """Whether the path lies on btrfs."""
    return run("stat", "-f", "-c", "%T", str(path)).strip() == "btrfs"


def mount_btrfs_file(file: Path, folder: Path, size_bytes: int) -> None:
    """Mount a btrfs file by loop at the folder; the file is made if it is not there. Repeatable.

    Raises:
        ProviderUnavailable: a step failed; a file that was there keeps its contents.
    """
    if os.path.ismount(folder):
        return
    if not file.exists():
        fresh = file.with_suffix(".new")
        with fresh.open("wb") as handle:
            handle.truncate(size_bytes)
        fresh.chmod(0o600)
        run("mkfs.btrfs", "-q", str(fresh))
        fresh.rename(file)
    run("mount", "-o", "loop,noatime,user_subvol_rm_allowed", str(file), str(folder))
