"""Disks on the machine's own storage.

Layout below a folder that only root may enter; the names never come from users:

    volumes/<disk id>/id          the disk's id and its volume's identity: written last, so a volume without it is
                                  half-made; it is outside the home, where users cannot reach it
    volumes/<disk id>/label       owner and name of the disk, in case its record is lost
    volumes/<disk id>/home        what boxes see as /home/dev, with the marker `.odc-disk`
    volumes/<disk id>/restoring   a home that is being made from a snapshot
    volumes/<disk id>/deleting    a home that is being deleted
    snapshots/<disk id>/<id>      read-only copies; a name is given only to a verified one
    snapshots/<disk id>/.<id>.facts     when it was taken, what it holds, its place among the others
    layers/<box>                  what a box writes outside its home (`layers.py`)
    mounts/<holder>               the volume while a reservation holds it, `nosuid,nodev`

On disk, the owners of all homes are in one range of ids, so that snapshots, and a home that goes from box to box, need
no change of owners. A box has a range of its own: its mount shifts the owners (`idmapped.py`).

"Verified" is defined by the backend (`backends.py`); which one a folder gets, by `select_storage.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from odc.adapters.localdisk.backends import StorageBackend
from odc.adapters.localdisk.background import PATIENCE_S, Background, Busy
from odc.adapters.localdisk.btrfs_file import file_of, is_read_only, mounted_file
from odc.adapters.localdisk.disk_locks import disk_lock
from odc.adapters.localdisk.errors import InUse, StorageReadOnly, storage_errors
from odc.adapters.localdisk.file_listing import list_below
from odc.adapters.localdisk.idmapped import mount_idmapped
from odc.adapters.localdisk.layers import Layers
from odc.adapters.localdisk.mounts import Mount, bind, make_safe, read_mounts, seen_elsewhere, unmount
from odc.adapters.localdisk.select_storage import prepare_folder
from odc.adapters.localdisk.snapshots import Snapshots
from odc.adapters.localdisk.volume_folders import LOOK, VolumeFolders, checked, read_labels
from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.domain.file_listing import encode_listing
from odc.domain.storage import StorageUse, gib_text
from odc.ports.blob_store import BlobStore
from odc.ports.volumes import Attachment, Source, Volume

CLOSE_PATIENCE_S = 5.0
"""How long a program may still use the storage after its daemon has stopped."""


class LocalVolumes:
    """See `odc.ports.volumes`."""

    def __init__(
        self,
        root: Path,
        backend: StorageBackend,
        id_base: int,
        blobs: BlobStore,
        dev: int = 1000,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Take the folder.

        Args:
            root: only root may enter it.
            backend: how volumes are made and copied.
            id_base: host uid, on disk, of a box's root.
            blobs: where listings are written.
            dev: uid of the user in the box.
            patience_s: how long a method waits before it says *not yet*.
        """
        self._root = root.resolve()
        self._backend = backend
        self._blobs = blobs
        self._box_root = id_base
        self._patience_s = patience_s
        with storage_errors(f"the disks' folder {root}"):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("volumes", "snapshots", "mounts"):
                (self._root / name).mkdir(exist_ok=True)
        self._background = Background(patience_s)
        self._folders = VolumeFolders(self._root / "volumes", backend, id_base, dev)
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

    def create(self, disk_id: str, size_bytes: int, node: str, source: Source | None = None) -> Volume | None:
        """Make the disk's volume with its marker; afterwards it survives a power failure."""
        work = partial(self._create, checked(disk_id), size_bytes, source)
        if source is None:
            with suppress(Busy):
                return work()
            return None
        return self._background.run(("create", disk_id), work)

    def _create(self, disk_id: str, size_bytes: int, source: Source | None) -> Volume:
        folder = self._folders.folder(disk_id)
        with storage_errors(f"disk {disk_id} cannot be made"), disk_lock(folder, self._patience_s):
            taken_from = None
            if source is not None and not (folder / "id").exists():
                taken_from = self._snapshots.path(checked(source.disk_id), checked(source.snapshot_id))
            return Volume(is_new=self._folders.create(disk_id, size_bytes, taken_from))

    def label(self, label: VolumeLabel) -> None:
        """Write it to `volumes/ID/label`, durably."""
        with storage_errors(f"disk {label.disk_id} cannot be labelled"):
            self._folders.label(label)

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the labels of all complete volumes."""
        with storage_errors("the volumes cannot be listed"):
            return read_labels(self._root)

    def attach(self, disk_id: str, holder: str, node: str, id_base: int = 0) -> Attachment | None:
        """Mount the volume for this holder, with its owners in this range. The handle is the mount's path."""
        target = self._root / "mounts" / checked(holder)
        with suppress(Busy), self._alone(disk_id, f"disk {disk_id} cannot be attached"):
            self._mount(disk_id, target, id_base or self._box_root)
            return Attachment(handle=str(target))
        return None

    def _mount(self, disk_id: str, target: Path, seen_from: int) -> None:
        home = self._folders.home(disk_id)
        if is_read_only(home):
            text = f"the storage of disk {disk_id} is read-only: it stopped after an error, as on a full host"
            raise StorageReadOnly(text, LOOK)
        self._backend.make_writable(home)
        self._folders.check_marker(disk_id, home)
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

    def _shows(self, mount: Mount, home: Path, seen_from: int) -> bool:
        """Whether the mount shows the home's owners in the range that begins there.

        The kernel does not report a mount's mapping, only that there is one; the owner of the folder itself shows it.
        """
        is_shifted = "idmapped" in mount.options
        shift = mount.target.stat().st_uid - home.stat().st_uid
        return is_shifted == (seen_from != self._box_root) and shift == seen_from - self._box_root

    def detach(self, disk_id: str, holder: str) -> bool:
        """Unmount the volume of this holder."""
        target = self._root / "mounts" / checked(holder)
        with suppress(Busy), self._alone(disk_id, f"disk {disk_id} cannot be detached"):
            self._unmount_all(disk_id, target)
            # Files in a folder without a mount belong to no disk, but were written by someone: keep them.
            with suppress(OSError):
                target.rmdir()
            return True
        return False

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

    def snapshot(self, disk_id: str, snapshot_id: str, in_use: bool = False) -> Snapshot | None:
        """Copy the volume, verify the copy by the backend's method and its marker, and return the snapshot."""
        work = partial(self._snapshot, checked(disk_id), checked(snapshot_id), in_use)
        return self._background.run(("snapshot", disk_id, snapshot_id), work)

    def _snapshot(self, disk_id: str, snapshot_id: str, in_use: bool) -> Snapshot:
        with self._alone(disk_id, f"disk {disk_id} cannot be copied"):
            if not self._snapshots.is_complete(disk_id, snapshot_id):
                home = self._folders.home(disk_id)
                holder = self._attached().get(disk_id)
                if holder is not None and not in_use:
                    raise ProviderUnavailable(f"disk {disk_id} is still attached to {holder.target.name}")
                if holder is not None and not self._backend.copies_in_use:
                    raise ProviderRefused(
                        f"disk {disk_id} is in use, and this storage ({self._backend.name}) can copy only a disk that "
                        "is not: its snapshot is taken when the reservation ends; btrfs has no such limit"
                    )
                self._backend.make_writable(home)
                self._folders.check_marker(disk_id, home)
                self._snapshots.take(home, disk_id, snapshot_id, crash_consistent=holder is not None)
            self._snapshots.sync(disk_id, snapshot_id)
            return self._snapshots.describe(disk_id, snapshot_id)

    def write_listing(self, disk_id: str, snapshot_id: str, key: str) -> bool:
        """Write the listing of a snapshot's files to the blob store, unless it is there."""
        work = partial(self._write_listing, checked(disk_id), checked(snapshot_id), key)
        return self._background.run(("listing", disk_id, snapshot_id, key), work) is not None

    def _write_listing(self, disk_id: str, snapshot_id: str, key: str) -> bool:
        # Without the disk's lock: a box may use the disk meanwhile. Two processes at once write the same.
        with storage_errors(f"the files of disk {disk_id} cannot be listed"):
            files = self._snapshots.path(disk_id, snapshot_id)
            if not self._blobs.exists(key):
                self._blobs.put(key, encode_listing(list_below(files)))
        return True

    def list_snapshots(self, disk_id: str) -> tuple[Snapshot, ...]:
        """The complete snapshots, oldest first."""
        with storage_errors(f"the snapshots of disk {disk_id} cannot be listed"):
            return tuple(self._snapshots.describe(disk_id, one) for one in self._snapshots.complete(checked(disk_id)))

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Set the volume's size limit."""
        with storage_errors(f"the limit of disk {disk_id} cannot be set"):
            self._backend.make(self._folders.home(disk_id), size_bytes)

    def delete(self, disk_id: str) -> bool:
        """Delete the volume; its snapshots stay."""
        work = partial(self._delete, checked(disk_id))
        return self._background.run(("delete", disk_id), work) is not None

    def _delete(self, disk_id: str) -> bool:
        if not self._folders.folder(disk_id).exists():
            return True
        with self._alone(disk_id, f"disk {disk_id} cannot be deleted"):
            holder = self._attached().get(disk_id)
            if holder is not None:
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {holder.target.name}")
            self._folders.delete(disk_id)
        return True

    def delete_snapshot(self, disk_id: str, snapshot_id: str, keep_last: bool = True) -> bool:
        """Delete a snapshot that is not the last one."""
        work = partial(self._delete_snapshot, checked(disk_id), checked(snapshot_id), keep_last)
        return self._background.run(("delete", disk_id, snapshot_id), work) is not None

    def _delete_snapshot(self, disk_id: str, snapshot_id: str, keep_last: bool) -> bool:
        with self._alone(disk_id, f"snapshot {snapshot_id} of disk {disk_id} cannot be deleted"):
            self._snapshots.delete(disk_id, snapshot_id, keep_last)
        return True

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
    def _alone(self, disk_id: str, what: str) -> Iterator[None]:
        """Lock the disk against other threads and processes; a storage error in the block begins with `what`.

        A disk of which nothing exists is not locked, so that nothing is made for it.

        Raises:
            Busy: something else works on the disk.
        """
        folder = self._folders.folder(disk_id)
        with ExitStack() as stack:
            stack.enter_context(storage_errors(what))
            if folder.exists() or (self._root / "snapshots" / disk_id).exists():
                stack.enter_context(disk_lock(folder, self._patience_s))
            yield

    def _attached(self) -> dict[str, Mount]:
        """Disk id to mount, of every volume that is attached."""
        folder = self._root / "mounts"
        return {mount.source.parent.name: mount for mount in read_mounts() if mount.target.parent == folder}


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
