"""Disks on the machine's own storage.

Layout below a folder that only root may enter; the names never come from users:

    volumes/<disk id>/id          the disk's id and its volume's identity: written last, so a volume without it is
                                  half-made; it is outside the home, where users cannot reach it
    volumes/<disk id>/label       owner and name of the disk, in case its record is lost
    volumes/<disk id>/home        what boxes see as /home/dev, with the marker `.odc-disk`
    snapshots/<disk id>/<id>      read-only copies; a name is given only to a verified one
    snapshots/<disk id>/.<id>.facts     when it was taken, what it holds, its place among the others
    layers/<box>                  what a box writes outside its home (`layers.py`)
    mounts/<holder>               the volume while a reservation holds it, `nosuid,nodev`

On disk, the owners of all homes are in one range of ids, so that snapshots, and a home that goes from box to box, need
no change of owners. A box has a range of its own: its mount shifts the owners (`idmapped.py`).

"Verified" is defined by the backend (`backends.py`); which one a folder gets, by `select_storage.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from odc.adapters.localdisk.backends import StorageBackend
from odc.adapters.localdisk.btrfs_file import file_of, is_read_only, mounted_file
from odc.adapters.localdisk.disk_marker import read_marker, write_marker
from odc.adapters.localdisk.errors import InUse, StorageReadOnly, storage_errors
from odc.adapters.localdisk.file_listing import list_below
from odc.adapters.localdisk.idmapped import mount_idmapped
from odc.adapters.localdisk.layers import Layers
from odc.adapters.localdisk.mounts import Mount, bind, make_safe, read_mounts, seen_elsewhere, unmount
from odc.adapters.localdisk.select_storage import prepare_folder
from odc.adapters.localdisk.snapshots import Snapshots
from odc.domain.commands import odc
from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.errors import InvariantError, ProviderRefused, ProviderUnavailable
from odc.domain.file_listing import encode_listing
from odc.domain.storage import StorageUse, gib_text
from odc.host import sync_folder, write_atomically
from odc.ports.blob_store import BlobStore

CLOSE_PATIENCE_S = 5.0
"""How long a program may still use the storage after its daemon has stopped."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_LOOK = ("look closer", odc("doctor"))


class LocalVolumes:
    """See `odc.ports.volumes`."""

    def __init__(self, root: Path, backend: StorageBackend, id_base: int, blobs: BlobStore, dev: int = 1000) -> None:
        """Take the folder.

        Args:
            root: only root may enter it.
            backend: how volumes are made and copied.
            id_base: host uid, on disk, of a box's root.
            blobs: where listings are written.
            dev: uid of the user in the box.
        """
        self._root = root.resolve()
        self._backend = backend
        self._blobs = blobs
        self._box_root = id_base
        self._owner = id_base + dev
        with storage_errors(f"the disks' folder {root}"):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("volumes", "snapshots", "mounts"):
                (self._root / name).mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._snapshots = Snapshots(self._root / "snapshots", backend)

    def describe(self) -> str:
        """Describe the storage: `btrfs, 1700 GiB free`."""
        with storage_errors("the disks' storage"):
            free = f"{gib_text(shutil.disk_usage(self._root).free)} free"
            if mounted_file(self._root) is not None:
                return f"btrfs file of {gib_text(file_of(self._root).stat().st_size)}, {free}"
            return f"{self._backend.name}, {free}"

    def layers(self, limit_bytes: int) -> Layers | None:
        """Return the store of boxes' writable layers; None if the storage has no limits, or none is set.

        Args:
            limit_bytes: of each box; 0: no limit.
        """
        if not self._backend.has_limits or limit_bytes == 0:
            return None
        return Layers(self._root / "layers", self._backend, limit_bytes)

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder, read from the kernel's table of mounts."""
        with storage_errors("the table of mounts"):
            return {disk_id: mount.target.name for disk_id, mount in self._attached().items()}

    def create(self, disk_id: str, size_bytes: int) -> bool:
        """Make the disk's volume with its marker; afterwards it survives a power failure."""
        folder = self._folder(disk_id)
        with storage_errors(f"disk {disk_id} cannot be made"):
            if (folder / "id").exists():
                return False
            home = folder / "home"
            folder.mkdir(exist_ok=True)
            self._backend.make(home, size_bytes)
            if read_marker(home) not in (None, "", disk_id):
                raise ProviderRefused(f"the volume of disk {disk_id} carries another disk's marker", _LOOK)
            os.chown(home, self._owner, self._owner)
            home.chmod(0o755)
            write_marker(home, disk_id, self._box_root)
            write_atomically(folder / "id", f"{disk_id}\n{self._backend.identity(home)}\n".encode(), durable=True)
            sync_folder(folder.parent)
        return True

    def label(self, label: VolumeLabel) -> None:
        """Write it to `volumes/ID/label`, durably."""
        folder = self._folder(label.disk_id)
        with storage_errors(f"disk {label.disk_id} cannot be labelled"):
            if (folder / "id").exists():
                write_atomically(folder / "label", msgspec.json.encode(label), durable=True)

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the labels of all complete volumes."""
        with storage_errors("the volumes cannot be listed"):
            return read_labels(self._root)

    def attach(self, disk_id: str, holder: str, id_base: int = 0) -> str:
        """Mount the volume for this holder, with its owners in this range."""
        seen_from = id_base or self._box_root
        target = self._root / "mounts" / _checked(holder)
        with storage_errors(f"disk {disk_id} cannot be attached"):
            home = self._home(disk_id)
            if is_read_only(home):
                text = f"the storage of disk {disk_id} is read-only: it stopped after an error, as on a full host"
                raise StorageReadOnly(text, _LOOK)
            self._backend.make_writable(home)
            self._check_marker(disk_id, home)
            found = self._attached().get(disk_id)
            if found is not None and found.target != target:
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {found.target.name}")
            if found is not None and not self._shows(found, home, seen_from):
                # Of a box in another range, or unknown: no box gets a home whose files are not its own.
                self._unmount_all(disk_id, target)
                found = None
            if found is None:
                target.mkdir(exist_ok=True)
                if seen_from == self._box_root:
                    bind(home, target)
                else:
                    mount_idmapped(home, target, self._box_root, seen_from)
            make_safe(target)
        return str(target)

    def _shows(self, mount: Mount, home: Path, seen_from: int) -> bool:
        """Whether the mount shows the home's owners in the range that begins there.

        The kernel does not report a mount's mapping, only that there is one; the owner of the folder itself shows it.
        """
        is_shifted = "idmapped" in mount.options
        shift = mount.target.stat().st_uid - home.stat().st_uid
        return is_shifted == (seen_from != self._box_root) and shift == seen_from - self._box_root

    def detach(self, disk_id: str, holder: str) -> None:
        """Unmount the volume of this holder."""
        target = self._root / "mounts" / _checked(holder)
        with storage_errors(f"disk {disk_id} cannot be detached"):
            self._unmount_all(disk_id, target)
            # Files in a folder without a mount belong to no disk, but were written by someone: keep them.
            with suppress(OSError):
                target.rmdir()

    def _unmount_all(self, disk_id: str, target: Path) -> None:
        """Unmount the volume from this folder, however often it is mounted there.

        Raises:
            InUse: something uses it, which the message names; the mount that is used stays.
        """
        while (found := self._attached().get(disk_id)) is not None and found.target == target:
            user = seen_elsewhere(found)
            if user is not None:
                raise InUse(f"disk {disk_id} is still used by {user}")
            unmount(target)

    def snapshot(self, disk_id: str, snapshot_id: str) -> Snapshot:
        """Copy the volume, verify the copy by the backend's method and its marker, and return the snapshot."""
        with self._alone(disk_id), storage_errors(f"disk {disk_id} cannot be copied"):
            if not self._snapshots.is_complete(disk_id, _checked(snapshot_id)):
                home = self._home(disk_id)
                holder = self._attached().get(disk_id)
                if holder is not None:
                    raise ProviderUnavailable(f"disk {disk_id} is still attached to {holder.target.name}")
                self._backend.make_writable(home)
                self._check_marker(disk_id, home)
                self._snapshots.take(home, disk_id, snapshot_id)
            return self._snapshots.describe(disk_id, snapshot_id)

    def write_listing(self, disk_id: str, snapshot_id: str, key: str) -> None:
        """Write the listing of a snapshot's files to the blob store."""
        with storage_errors(f"the files of disk {disk_id} cannot be listed"):
            files = list_below(self._snapshots.path(disk_id, _checked(snapshot_id)))
            self._blobs.put(key, encode_listing(files))

    def list_snapshots(self, disk_id: str) -> tuple[str, ...]:
        """Ids of the complete snapshots, oldest first."""
        with storage_errors(f"the snapshots of disk {disk_id} cannot be listed"):
            return self._snapshots.complete(_checked(disk_id))

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Set the volume's size limit."""
        with storage_errors(f"the limit of disk {disk_id} cannot be set"):
            self._backend.make(self._home(disk_id), size_bytes)

    def delete_snapshot(self, disk_id: str, snapshot_id: str) -> None:
        """Delete a snapshot that is not the last one."""
        with self._alone(disk_id), storage_errors(f"snapshot {snapshot_id} of disk {disk_id} cannot be deleted"):
            self._snapshots.delete(_checked(disk_id), _checked(snapshot_id))

    def measure(self) -> StorageUse:
        """Return the usage of the storage and of each disk."""
        with storage_errors("the disks' storage cannot be measured"):
            return self._backend.measure(self._root)

    def close(self) -> None:
        """Unmount every volume, and the folder itself if our own file is mounted there. Deletes nothing.

        Raises:
            ProviderUnavailable: a mount is in use, which the message names; it and the following ones stay mounted.
        """
        with storage_errors("the disks' mounts"):
            for mount in reversed(read_mounts()):
                if mount.target.parent == self._root / "mounts":
                    unmount(mount.target, CLOSE_PATIENCE_S)
            if mounted_file(self._root) is not None:
                unmount(self._root, CLOSE_PATIENCE_S)

    @contextmanager
    def _alone(self, disk_id: str) -> Iterator[None]:
        """Lock this disk's snapshots against copies and deletions by other threads: a copy may share files with the
        previous one.
        """
        with self._lock:
            lock = self._locks.setdefault(disk_id, threading.Lock())
        with lock:
            yield

    def _folder(self, disk_id: str) -> Path:
        return self._root / "volumes" / _checked(disk_id)

    def _home(self, disk_id: str) -> Path:
        folder = self._folder(disk_id)
        if not (folder / "id").exists() or not (folder / "home").is_dir():
            raise ProviderRefused(f"the volume of disk {disk_id} does not exist", _LOOK)
        return folder / "home"

    def _check_marker(self, disk_id: str, home: Path) -> None:
        """Refuse a home that does not belong to this disk.

        Rule: a marker that its user removed or changed is written again, as long as the volume has the identity in
            `id`: users cannot lock themselves out with `rm`, and a folder that replaces the volume is not mistaken for
                it.
        """
        if read_marker(home) == disk_id:
            return
        recorded = (home.parent / "id").read_text().splitlines()
        if recorded != [disk_id, self._backend.identity(home)]:
            raise ProviderRefused(f"the volume of disk {disk_id} lacks its marker and has another identity", _LOOK)
        write_marker(home, disk_id, self._box_root)

    def _attached(self) -> dict[str, Mount]:
        """Disk id to mount, of every volume that is attached."""
        folder = self._root / "mounts"
        return {mount.source.parent.name: mount for mount in read_mounts() if mount.target.parent == folder}


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


def _checked(name: str) -> str:
    """An id or a holder as a name of a file."""
    if not _NAME.fullmatch(name):
        raise InvariantError(f"{name!r} is not an id")
    return name


def open_volumes(folder: Path, file_bytes: int, id_base: int, blobs: BlobStore) -> LocalVolumes:
    """Open the best kind of storage that the folder supports; see `select_storage.py`.

    Args:
        folder: of the disks; made if it does not exist.
        file_bytes: size of the btrfs file, if one is made; at most 90 % of the host's free space.
        id_base: host uid of a box's root.
        blobs: where listings are written.

    Raises:
        ProviderError: the storage is missing or cannot be mounted; nothing was changed.
    """
    return LocalVolumes(folder.resolve(), prepare_folder(folder.resolve(), file_bytes), id_base, blobs)
