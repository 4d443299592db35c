"""Chooses the kind of storage for a folder, and checks that the folder is still the same storage.

The folder's id is written inside it and next to it: a folder whose disk is not mounted after a reboot looks empty, and
no new storage may be made in its place.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path

from odc.adapters.localdisk.backends import Btrfs, Folders, StorageBackend, is_btrfs
from odc.adapters.localdisk.btrfs_file import file_of, mount_file
from odc.adapters.localdisk.errors import storage_errors
from odc.adapters.localdisk.programs import run
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.host import write_atomically

INSIDE = ".odc-storage"


def prepare_folder(folder: Path, file_bytes: int) -> StorageBackend:
    """Prepare the folder and return its kind of storage.

    Rule: the folder's own btrfs if it is on one, else a btrfs file mounted there, else plain folders. The choice is
    permanent: a folder with disks is never covered by a mount.

    Raises:
        ProviderUnavailable: the file cannot be mounted, or the folder's earlier storage is missing.
        ProviderRefused: a program is missing, or the folder has other files.
    """
    with storage_errors(f"the disks' folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_ours(folder)
        if _wants_file(folder):
            mount_file(folder, file_bytes)
        if stat.S_IMODE(folder.stat().st_mode) != 0o700:
            folder.chmod(0o700)
        _check_same(folder)
        if not is_btrfs(folder):
            _require_rsync()
            return Folders()
        return Btrfs(folder)


def _check_ours(folder: Path) -> None:
    """Refuse a folder with files of others, such as `/home`: it would be closed to everyone but root."""
    known = (folder / INSIDE).exists() or outer_id_file(folder).exists() or file_of(folder).exists()
    if known or (folder / "volumes").exists():
        return
    foreign = sorted(set(os.listdir(folder)) - {"lost+found"})  # noqa: PTH208  # names are enough
    if foreign:
        raise ProviderRefused(
            f"{folder} cannot hold the disks: it has other files, such as {foreign[0]}",
            ("choose a folder of its own", f'disks = "{folder}/odc" in the settings'),
        )


def _wants_file(folder: Path) -> bool:
    if file_of(folder).exists():
        return True
    new = not outer_id_file(folder).exists() and not (folder / "volumes").exists()
    return new and not is_btrfs(folder) and _can_loop()


def _can_loop() -> bool:
    return os.geteuid() == 0 and shutil.which("mkfs.btrfs") is not None and Path("/dev/loop-control").exists()


def _require_rsync() -> None:
    run("rsync", "--version")


def outer_id_file(folder: Path) -> Path:
    """The file next to the folder that has its id."""
    return folder.with_name(folder.name + ".id")


def is_same(folder: Path) -> bool:
    """Whether the folder has the id that was written next to it; true for a new folder."""
    outside = _read(outer_id_file(folder))
    return not outside or _read(folder / INSIDE) == outside


def _check_same(folder: Path) -> None:
    if not is_same(folder):
        raise ProviderUnavailable(
            f"{folder} is not the storage that holds the disks: is it mounted?",
            ("if the disks were moved here on purpose", f"rm {outer_id_file(folder)}"),
        )
    if not _read(folder / INSIDE):
        write_atomically(folder / INSIDE, secrets.token_hex(16).encode() + b"\n", durable=True)
    if not outer_id_file(folder).exists():
        write_atomically(outer_id_file(folder), (folder / INSIDE).read_bytes(), durable=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""
