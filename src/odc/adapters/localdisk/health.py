"""Findings on the disk storage for `odc doctor`. Reads only."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from odc.adapters.localdisk.backends import is_btrfs
from odc.adapters.localdisk.btrfs_file import SMALLEST, file_of, first_size, is_read_only, mounted_file
from odc.adapters.localdisk.errors import storage_errors
from odc.adapters.localdisk.programs import run
from odc.adapters.localdisk.select_storage import is_same, outer_id_file
from odc.domain.commands import odc
from odc.domain.finding import Finding
from odc.domain.storage import gib_text

_IN_A_HOME = re.compile(r"volumes/([0-9a-f]{32})/home/")
LOW_SPACE = 20 * 2**30
_UNLIMITED = (
    "no snapshots and no limits on this file system: folders are copied, and one user can fill the storage of all disks"
)
_ROOM = "free some space there, or choose another folder: " + odc("up --disks FOLDER")
_BETTER = "better: " + odc("up --disks /A/BTRFS/FOLDER")
_UP = "sudo " + odc("up")
_AGAIN = "sudo " + odc("down") + " && " + _UP
"""Also for a daemon that runs: it mounts the storage at its start only."""


def examine_storage(folder: Path, file_bytes: int) -> tuple[Finding, ...]:
    """Check the storage of a cloud that runs or is about to start.

    Args:
        folder: of the disks, which need not exist yet.
        file_bytes: the configured size of a btrfs file.

    Raises:
        ProviderUnavailable: it cannot be read.
    """
    if os.geteuid() != 0:
        return (Finding("warn", "disks", "only root can look", "run: sudo " + odc("doctor")),)
    folder = folder.resolve()
    with storage_errors(f"the disks' folder {folder}"):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        return (*_space(existing), *_kind(folder, existing, file_bytes))


def _space(existing: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(existing).free
    text = f"{gib_text(free)} free at {existing}"
    yield Finding("warn", "space", text, _ROOM) if free < LOW_SPACE else Finding("ok", "space", text)


def _kind(folder: Path, existing: Path, file_bytes: int) -> Iterator[Finding]:
    file = file_of(folder)
    if mounted_file(folder) is not None:
        yield from _mounted(folder, file)
    elif outer_id_file(folder).exists() and not file.exists() and not is_same(folder):
        text = f"{folder} is not the storage that holds the disks"
        yield Finding("fail", "disks", text, "mount it, then run: " + _UP)
    elif file.exists():
        yield Finding("warn", "disks", f"the btrfs file {file} is not mounted", "run: " + _AGAIN)
    elif is_btrfs(existing):
        yield Finding("ok", "disks", "btrfs: snapshots and quotas")
        yield from _uncounted(existing)
    else:
        yield _without_snapshots(folder, existing, file_bytes)
        if (folder / "volumes").exists():
            text = "what boxes write outside their homes has no limit either: it can fill the engine's storage"
            yield Finding("warn", "layers", text, _BETTER)


def _mounted(folder: Path, file: Path) -> Iterator[Finding]:
    if is_read_only(folder):
        text = f"the btrfs file {file} became read-only after an error, as when the host is full"
        again = "free some space, then run: sudo " + odc("down --all") + " && " + _UP
        yield Finding("fail", "disks", text, again)
        return
    facts = file.stat()
    size = gib_text(facts.st_size)
    missing = facts.st_size - facts.st_blocks * 512 - shutil.disk_usage(file.parent).free
    if missing > 0:
        text = f"the btrfs file may grow to {size}, and the host lacks {gib_text(missing)} of that"
        yield Finding("warn", "disks", text, f"free some space at {file.parent}: a full host stops all disks")
    else:
        yield Finding("ok", "disks", f"a btrfs file of {size}: snapshots and quotas")
    yield from _uncounted(folder)


def _uncounted(folder: Path) -> Iterator[Finding]:
    """Subvolumes in homes: made before boxes refused to make them, or where they cannot refuse."""
    listed = run("btrfs", "subvolume", "list", str(folder)).splitlines()
    disks = sorted({found[1] for line in listed if (found := _IN_A_HOME.search(line))})
    if disks:
        delete = "btrfs subvolume delete"
        text = f"subvolumes inside homes, which no quota counts and no snapshot holds, on disks {', '.join(disks)}"
        yield Finding("warn", "disks", text, f"see: btrfs subvolume list {folder}, and delete: {delete} PATH")


def _without_snapshots(folder: Path, existing: Path, file_bytes: int) -> Finding:
    if (folder / "volumes").exists():
        if shutil.which("rsync") is None:
            text = "rsync, which copies folders, is missing"
            return Finding("fail", "disks", text, "run: sudo apt-get install rsync")
        return Finding("warn", "disks", _UNLIMITED, _BETTER)
    if shutil.which("mkfs.btrfs") is None:
        return Finding("warn", "disks", _UNLIMITED, "run: sudo apt-get install btrfs-progs")
    size = first_size(existing, file_bytes)
    if size < SMALLEST:
        return Finding("fail", "disks", f"no space for a btrfs file at {existing}", _ROOM)
    text = f"no snapshots on this file system: a btrfs file of {gib_text(size)} will be used"
    if size < file_bytes:
        text += f", not of {gib_text(file_bytes)} (disk_file_gib): there is no more space"
    return Finding("warn", "disks", text, _BETTER)
