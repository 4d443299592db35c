"""The disks' storage for tests: every kind, small, beside any real one, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from tests.lane import LANE
from tests.waiting import eventually

from odc.adapters.localdisk.backends import Btrfs, Folders, StorageBackend
from odc.adapters.localdisk.btrfs_file import mount_file
from odc.adapters.localdisk.volumes import LocalVolumes
from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.volumes import MemoryVolumes
from odc.domain.disk import Snapshot
from odc.domain.file_listing import FileEntry, decode_listing
from odc.ports.blob_store import BlobStore
from odc.ports.volumes import Source, Volumes

ID_BASE = 1_500_000_000 + LANE * 11_000_000
"""Apart from the clouds' and from other processes' boxes: the kernel counts processes by user."""
DEV = ID_BASE + 1000
MIB = 2**20
NODE = "node-1"
Found = TypeVar("Found")


class Storage(Protocol):
    """Volumes, with what boxes, users and careless operators do to them."""

    volumes: Volumes
    blobs: BlobStore
    copies_in_use: bool
    """Whether a snapshot can be taken of a disk in use."""
    maps_owners: bool
    """Whether `attach` chooses the range in which owners are seen."""
    can_shrink: bool
    """Whether a limit can become smaller."""
    lists_files: bool
    """Whether the files of snapshots can be listed."""

    def write(self, disk_id: str, path: str, size: int) -> None:
        """A box writes a file of so many bytes."""

    def files(self, disk_id: str) -> dict[str, int]:
        """What a box would find: path to size, the marker left out."""

    def remove_marker(self, disk_id: str) -> None:
        """A user deletes the marker."""

    def forge_marker(self, disk_id: str, text: str) -> None:
        """A user changes the marker."""

    def exchange(self, disk_id: str, marker: str) -> None:
        """An operator puts another folder in the volume's place."""

    def lose(self, disk_id: str) -> None:
        """The volume is not there any more, as when its file system is not mounted."""

    def id_base(self, disk_id: str, place: str) -> int:
        """First id of the range in which an attached volume's owners are seen; 0: the one in which they are stored."""

    def impatient(self) -> Volumes:
        """The same volumes as another process sees them, which waits for nothing and finds work slow."""

    def in_use(self, disk_id: str, place: str) -> AbstractContextManager[object]:
        """Something uses an attached volume meanwhile."""


class MemoryStorage:
    copies_in_use = maps_owners = can_shrink = lists_files = True

    def __init__(self) -> None:
        self.blobs: BlobStore = MemoryBlobStore()
        self.memory = MemoryVolumes(blobs=self.blobs)
        self.volumes: Volumes = self.memory

    def write(self, disk_id: str, path: str, size: int) -> None:
        self.memory.write(disk_id, path, size)

    def files(self, disk_id: str) -> dict[str, int]:
        return self.memory.files(disk_id)

    def remove_marker(self, disk_id: str) -> None:
        self.memory.mark(disk_id, "")

    def forge_marker(self, disk_id: str, text: str) -> None:
        self.memory.mark(disk_id, text)

    def exchange(self, disk_id: str, marker: str) -> None:
        self.memory.exchange(disk_id, marker)

    def lose(self, disk_id: str) -> None:
        self.memory.lose(disk_id)

    def id_base(self, disk_id: str, place: str) -> int:
        return self.memory.id_base(disk_id)

    def impatient(self) -> Volumes:
        for method in ("create", "attach", "detach", "snapshot", "write_listing", "delete", "delete_snapshot"):
            self.memory.delay(method)
        return self.memory

    @contextmanager
    def in_use(self, disk_id: str, place: str) -> Iterator[None]:
        self.memory.keep_busy(disk_id, "process 1 (sleep)")
        yield
        self.memory.keep_busy(disk_id, None)


class LocalStorage:
    maps_owners = can_shrink = lists_files = True

    def __init__(self, root: Path, backend: StorageBackend) -> None:
        self.root = root
        self._backend = backend
        self.copies_in_use = backend.copies_in_use
        self.blobs: BlobStore = MemoryBlobStore()
        self.local = LocalVolumes(root, backend, ID_BASE, self.blobs, patience_s=60)
        self.volumes: Volumes = self.local

    def home(self, disk_id: str) -> Path:
        return self.root / "volumes" / disk_id / "home"

    def write(self, disk_id: str, path: str, size: int) -> None:
        place = self.home(disk_id) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * size)
        os.chown(place, DEV, DEV)

    def files(self, disk_id: str) -> dict[str, int]:
        home = self.home(disk_id)
        plain = [path for path in home.rglob("*") if path.is_file() and path.name != ".odc-disk"]
        return {str(path.relative_to(home)): path.stat().st_size for path in plain}

    def remove_marker(self, disk_id: str) -> None:
        (self.home(disk_id) / ".odc-disk").unlink()

    def forge_marker(self, disk_id: str, text: str) -> None:
        self.remove_marker(disk_id)
        (self.home(disk_id) / ".odc-disk").write_text(text + "\n")

    def exchange(self, disk_id: str, marker: str) -> None:
        home = self.home(disk_id)
        home.rename(home.with_name("mislaid"))
        home.mkdir()
        if marker:
            (home / ".odc-disk").write_text(marker + "\n")

    def lose(self, disk_id: str) -> None:
        folder = self.root / "volumes" / disk_id
        folder.rename(folder.with_name(f"{disk_id}.lost"))

    def find(self, disk_id: str) -> None:
        """A volume that was lost is there again."""
        folder = self.root / "volumes" / disk_id
        folder.with_name(f"{disk_id}.lost").rename(folder)

    def id_base(self, disk_id: str, place: str) -> int:
        seen = Path(place).stat().st_uid
        assert seen == Path(place, ".odc-disk").stat().st_uid + 1000
        return 0 if seen == DEV else seen - 1000

    def impatient(self) -> Volumes:
        return LocalVolumes(self.root, self._backend, ID_BASE, self.blobs, patience_s=0)

    @contextmanager
    def in_use(self, disk_id: str, place: str) -> Iterator[None]:
        with subprocess.Popen(["sleep", "60"], cwd=place) as user:
            try:
                yield
            finally:
                user.kill()


def not_later(call: Callable[[], Found | None]) -> Found:
    """What a method of volumes says once it does not say *not yet* any more."""
    found: Found = eventually("the volumes are through", call)
    return found


def made(volumes: Volumes, disk_id: str, size_bytes: int, source: Source | None = None) -> bool:
    """Make a volume; whether it is new."""
    return not_later(lambda: volumes.create(disk_id, size_bytes, NODE, source)).is_new


def attached(volumes: Volumes, disk_id: str, holder: str, id_base: int = 0) -> str:
    """Attach a volume; return the handle, which of local disks is a path."""
    return not_later(lambda: volumes.attach(disk_id, holder, NODE, id_base)).handle


def taken(volumes: Volumes, disk_id: str, snapshot_id: str, in_use: bool = False) -> Snapshot:
    """Take a snapshot."""
    return not_later(lambda: volumes.snapshot(disk_id, snapshot_id, in_use))


def snapshot_ids(volumes: Volumes, disk_id: str) -> tuple[str, ...]:
    """The ids of the snapshots, oldest first."""
    return tuple(snapshot.id for snapshot in volumes.list_snapshots(disk_id))


def listed(volumes: Volumes, blobs: BlobStore, disk_id: str, snapshot_id: str) -> list[FileEntry]:
    """The files of a snapshot, from a listing that is written for it."""
    not_later(lambda: volumes.write_listing(disk_id, snapshot_id, f"listings/{disk_id}/{snapshot_id}"))
    return stored_listing(blobs, f"listings/{disk_id}/{snapshot_id}")


def stored_listing(blobs: BlobStore, key: str) -> list[FileEntry]:
    """The files of a listing that is in the store."""
    pieces = blobs.read(key)
    assert pieces is not None
    return list(decode_listing(pieces))


@contextmanager
def folders_storage(root: Path) -> Iterator[LocalStorage]:
    """Plain folders."""
    storage = LocalStorage(root, Folders())
    try:
        yield storage
    finally:
        storage.local.close()


@contextmanager
def btrfs_storage(root: Path) -> Iterator[LocalStorage]:
    """Subvolumes below a folder that lies on btrfs."""
    storage = LocalStorage(root, Btrfs(root.parent))
    try:
        yield storage
    finally:
        storage.local.close()


@contextmanager
def btrfs_mount(folder: Path, size_bytes: int = 384 * MIB) -> Iterator[Path]:
    """A btrfs of the tests' own, by loop."""
    folder.mkdir(parents=True, exist_ok=True)
    mount_file(folder, size_bytes)
    try:
        yield folder
    finally:
        unmount_all(folder)
        folder.with_name(folder.name + ".btrfs").unlink(missing_ok=True)


def unmount_all(folder: Path) -> None:
    """Unmount everything at and below a folder, whoever mounted it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = [Path(line.split()[4]) for line in lines]
    for target in reversed([target for target in targets if target.is_relative_to(folder)]):
        if subprocess.run(["umount", str(target)], capture_output=True, timeout=30).returncode != 0:
            # A failed test left something open; the mount must not outlive it all the same.
            subprocess.run(["umount", "--lazy", str(target)], check=True, timeout=30)


def all_files(storage: LocalStorage, disk_id: str, snapshot_id: str) -> dict[str, bytes]:
    """The contents of a snapshot's files, by their paths in it."""
    top = storage.root / "snapshots" / disk_id / snapshot_id
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
