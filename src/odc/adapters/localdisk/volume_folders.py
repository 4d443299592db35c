"""The volumes of disks as folders: made, restored from a snapshot, checked and deleted. Nothing here is mounted.

Calls for one disk are made one after another. Each may be killed at any step and is finished by the next.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from odc.adapters.localdisk.backends import StorageBackend
from odc.adapters.localdisk.disk_marker import read_marker, write_marker
from odc.domain.commands import odc
from odc.domain.disk import VolumeLabel
from odc.domain.errors import InvariantError, OdcError, ProviderRefused
from odc.host import remove_unfinished, sync_folder, write_atomically

LOOK = ("look closer", odc("doctor"))
_FILES = ("id", "label")
_PARTS = (*_FILES, "home", "restoring", "deleting")
"""What may be in the folder of a disk."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)


class VolumeFolders:
    """The folder `volumes`; `volumes.py` has the layout."""

    def __init__(self, root: Path, backend: StorageBackend, id_base: int, dev: int) -> None:
        """Take the folder.

        Args:
            root: the folder `volumes`.
            backend: how volumes are made and copied.
            id_base: host uid, on disk, of a box's root.
            dev: uid of the user in the box.
        """
        self._root = root
        self._backend = backend
        self._box_root = id_base
        self._owner = id_base + dev

    def folder(self, disk_id: str) -> Path:
        """The folder of a disk, which may not exist."""
        return self._root / checked(disk_id)

    def create(self, disk_id: str, size_bytes: int, source: Path | None) -> bool:
        """Make the volume with its marker; afterwards it survives a power failure.

        Args:
            disk_id: of the disk.
            size_bytes: its size limit.
            source: a snapshot, whose files it begins with; None: it is empty.

        Returns:
            Whether it was not complete before.
        """
        folder = self.folder(disk_id)
        if (folder / "id").exists():
            return False
        home = folder / "home"
        folder.mkdir(exist_ok=True)
        if source is not None and not home.exists():
            self._restore(disk_id, source, home, size_bytes)
        self._backend.make(home, size_bytes)
        if read_marker(home) not in (None, "", disk_id):
            raise ProviderRefused(f"the volume of disk {disk_id} carries another disk's marker", LOOK)
        os.chown(home, self._owner, self._owner)
        home.chmod(0o755)
        write_marker(home, disk_id, self._box_root)
        remove_unfinished(folder / "id")
        write_atomically(folder / "id", f"{disk_id}\n{self._backend.identity(home)}\n".encode(), durable=True)
        sync_folder(folder.parent)
        return True

    def _restore(self, disk_id: str, source: Path, home: Path, size_bytes: int) -> None:
        """Copy the snapshot to the home. It gets that name when it is whole and has this disk's marker."""
        partial = home.with_name("restoring")
        self._backend.delete(partial)
        try:
            self._backend.restore(source, partial, size_bytes)
        except (OdcError, OSError):
            # A partial copy uses space, which may be the cause of the failure. The first error is reported.
            with suppress(OdcError, OSError):
                self._backend.delete(partial)
            raise
        write_marker(partial, disk_id, self._box_root)
        partial.rename(home)

    def delete(self, disk_id: str) -> None:
        """Delete the volume, if there is one.

        Raises:
            ProviderRefused: another folder is in its place, or there are other files.
        """
        folder = self.folder(disk_id)
        for name in _FILES:
            remove_unfinished(folder / name)
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in _PARTS)
        if strangers:
            raise ProviderRefused(f"the folder of disk {disk_id} holds {strangers[0]!r}, which is not ODC's", LOOK)
        home, going = folder / "home", folder / "deleting"
        if home.exists():
            # Without its `id` it is half-made: then `create` would take it, too.
            if (folder / "id").exists() or read_marker(home) not in (None, "", disk_id):
                self.check_marker(disk_id, home)
            # Rename first: what is partly deleted must not look like a volume.
            home.rename(going)
            sync_folder(folder)
        for part in (going, folder / "restoring"):
            self._backend.delete(part)
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            folder.rmdir()
            sync_folder(folder.parent)

    def home(self, disk_id: str) -> Path:
        """The home of a complete volume.

        Raises:
            ProviderRefused: there is none.
        """
        folder = self.folder(disk_id)
        if not (folder / "id").exists() or not (folder / "home").is_dir():
            raise ProviderRefused(f"the volume of disk {disk_id} does not exist", LOOK)
        return folder / "home"

    def check_marker(self, disk_id: str, home: Path) -> None:
        """Refuse a home that does not belong to this disk.

        Rule: a marker that its user removed or changed is written again, as long as the volume has the identity in
            `id`: users cannot lock themselves out with `rm`, and a folder that replaces the volume is not mistaken for
                it.
        """
        if read_marker(home) == disk_id:
            return
        if self._recorded(home.parent) != [disk_id, self._backend.identity(home)]:
            raise ProviderRefused(f"the volume of disk {disk_id} lacks its marker and has another identity", LOOK)
        write_marker(home, disk_id, self._box_root)

    def _recorded(self, folder: Path) -> list[str]:
        """The disk's id and the volume's identity as they were written down; empty for a half-made volume."""
        try:
            return (folder / "id").read_text().splitlines()
        except FileNotFoundError:
            return []

    def label(self, label: VolumeLabel) -> None:
        """Write the label of a complete volume, durably."""
        folder = self.folder(label.disk_id)
        if (folder / "id").exists():
            write_atomically(folder / "label", msgspec.json.encode(label), durable=True)


def read_labels(folder: Path) -> tuple[VolumeLabel, ...]:
    """Return the label of each complete volume, by disk id; empty if the storage is not mounted there.

    Args:
        folder: of the disk storage.

    Raises:
        OSError: it cannot be read.
    """
    found = sorted(path.parent for path in (folder / "volumes").glob("*/id"))
    return tuple(_label(volume) for volume in found if _NAME.fullmatch(volume.name))


def _label(volume: Path) -> VolumeLabel:
    try:
        label = msgspec.json.decode((volume / "label").read_bytes(), type=VolumeLabel)
    except (FileNotFoundError, msgspec.MsgspecError):
        return VolumeLabel(disk_id=volume.name)
    return label if label.disk_id == volume.name else VolumeLabel(disk_id=volume.name)


def checked(name: str) -> str:
    """An id or a holder as a name of a file.

    Raises:
        InvariantError: it is neither; ids are made by ODC, never by users.
    """
    if not _NAME.fullmatch(name):
        raise InvariantError(f"{name!r} is not an id")
    return name
