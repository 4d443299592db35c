"""A btrfs of our own in one sparse file, mounted by loop, for machines whose file system has no snapshots."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from odc.adapters.localdisk.errors import InUse, storage_errors
from odc.adapters.localdisk.mounts import Mount, read_mounts, unmount, unmount_copies
from odc.adapters.localdisk.programs import run
from odc.domain.errors import ProviderUnavailable

SMALLEST = 128 * 2**20
_SHARE = 0.9


def file_of(folder: Path) -> Path:
    """The file whose btrfs is mounted at the folder: next to it."""
    return folder.with_name(folder.name + ".btrfs")


def mounted_file(folder: Path) -> Mount | None:
    """The mount of the folder's own file, or None. An operator's mount at the same place is not ours."""
    found = [mount for mount in read_mounts() if mount.target == folder]
    if not found or not found[-1].origin.startswith("/dev/loop"):
        return None
    backing = Path("/sys/block", Path(found[-1].origin).name, "loop/backing_file")
    try:
        return found[-1] if backing.read_text().strip() == str(file_of(folder)) else None
    except OSError:
        return None


def mount_file(folder: Path, size_bytes: int) -> None:
    """Mount the folder's btrfs file there; create it if needed, and grow it to a larger size. Repeatable.

    A file system that became read-only after an error, such as a full host, is mounted again if no box uses it.

    Args:
        folder: exists.
        size_bytes: size of the file; at most 90 % of the host's free space when it is made or grows, since a full host
            would stop all disks.

    Raises:
        ProviderUnavailable: a step failed; an existing file keeps its contents.
    """
    file = file_of(folder)
    with storage_errors(f"the disks' file {file}"):
        if mounted_file(folder) is not None and not (is_read_only(folder) and _let_go(folder)):
            return
        # If the stopped file system is still mounted somewhere, a new mount would return the same one.
        unmount_copies(folder)
        grown = _grow(file, size_bytes) if file.exists() else _make(file, size_bytes)
    run("mount", "-o", "loop,noatime,nosuid,nodev", str(file), str(folder))
    if grown:
        run("btrfs", "filesystem", "resize", "max", str(folder))


def _let_go(folder: Path) -> bool:
    """Unmount, unless boxes have disks or writable layers there; then it stays, and writes fail with the reason."""
    mounts = read_mounts()
    devices = {mount.device for mount in mounts if mount.target == folder}
    if any(mount.device in devices and mount.target != folder for mount in mounts):
        return False
    try:
        unmount(folder)
    except InUse:
        return False
    return True


def is_read_only(folder: Path) -> bool:
    """Whether the file system is read-only."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def first_size(folder: Path, size_bytes: int) -> int:
    """The size in bytes that a new file in this folder, which exists, would get."""
    return min(size_bytes, int(shutil.disk_usage(folder).free * _SHARE))


def _make(file: Path, size_bytes: int) -> bool:
    size = first_size(file.parent, size_bytes)
    if size < SMALLEST:
        raise ProviderUnavailable(f"no space for the btrfs file {file}: only {size // 2**20} MiB are free")
    fresh = file.with_name(file.name + ".new")
    with fresh.open("wb") as handle:
        handle.truncate(size)
    fresh.chmod(0o600)
    run("mkfs.btrfs", "-q", "-f", str(fresh))
    run("sync", str(fresh))
    fresh.rename(file)
    return False


def _grow(file: Path, size_bytes: int) -> bool:
    """Grow the unmounted file to the size of the setting; it never shrinks."""
    facts = file.stat()
    size = min(size_bytes, facts.st_blocks * 512 + _room(file))
    if size <= facts.st_size:
        return False
    os.truncate(file, size)
    return True


def _room(file: Path) -> int:
    return int(shutil.disk_usage(file.parent).free * _SHARE)
