"""Where disks keep their files. When in doubt, data is kept.

A disk has at most one volume, kept between reservations. It carries a marker with the disk's id: a box whose home has
no marker, or another's, does not start. Snapshots serve history and recovery; they are read-only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.storage import StorageUse


class FileEntry(msgspec.Struct, frozen=True, array_like=True):
    """One file of a listing: path below the home, kind (`f`, `d`, `l` or `o`), bytes, mtime in epoch seconds."""

    path: str
    kind: str
    size: int
    mtime: int


MOST_ENTRIES = 100_000
"""A listing has at most so many entries."""
CUT = FileEntry(path="", kind="cut", size=0, mtime=0)
"""The last entry of a listing that does not name everything."""


class Volumes(Protocol):
    """The volumes of disks. Every method may be called again after it was interrupted at any point, and finishes.

    Different disks may be worked on at once; calls for one disk are made one after another. Every method raises
    `ProviderUnavailable` when the storage does not answer, and `ProviderRefused` for a lasting fault; after either
    no file of a volume or of an earlier snapshot is lost.
    """

    def describe(self) -> str:
        """What the storage is, in a few words for people: `btrfs (1.7 TB free)`."""

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder, of every volume that is attached now."""

    def create(self, disk_id: str, size_bytes: int) -> bool:
        """Make the disk's volume with its marker, if it is not there.

        Returns:
            True if it is new. A half-made one, from a crash, is finished and counts as new.
        """

    def label(self, label: VolumeLabel) -> None:
        """Write next to the volume whose it is and what it is called. Without a whole volume nothing happens."""

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """What is written next to each whole volume, by disk id.

        Cost: one small file for each volume.
        """

    def attach(self, disk_id: str, holder: str, id_base: int = 0) -> str:
        """Make the volume usable by a box, `nosuid,nodev`, and say where: the mount's path.

        Args:
            disk_id: a volume that exists.
            holder: `<reservation id>-<attempt>`. Attaching twice for the same holder gives the same path.
            id_base: first host id of the box's range, in which the owners of files are seen; the files themselves keep
                theirs. 0: the range that owners are stored in. Attaching again with another range changes what is
                seen, if nothing uses the mount.

        Raises:
            ProviderRefused: the volume is gone, or what is in its place is another's.
            ProviderUnavailable: another holder has it still, or it is in use in another range.
        """

    def detach(self, disk_id: str, holder: str) -> None:
        """Take the volume from this holder. If another has it, or nobody, nothing happens.

        Raises:
            ProviderUnavailable: something still uses the mount.
        """

    def snapshot(self, disk_id: str, snapshot_id: str) -> Snapshot:
        """Copy a detached volume to a read-only snapshot and verify it; the adapter's docstring says how.

        A complete one of this id stays as it is and is returned. An incomplete one is made again.
        """

    def list_files(self, disk_id: str, snapshot_id: str) -> Iterator[FileEntry]:
        """The files of a snapshot by path, name by name, each folder before what it holds; the marker is left out.

        In bounded memory: at most `MOST_ENTRIES`, and then `CUT`.
        """

    def list_snapshots(self, disk_id: str) -> tuple[str, ...]:
        """Ids of the disk's complete snapshots, oldest first."""

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Let the volume hold so much from now on, where the storage has limits."""

    def delete_snapshot(self, disk_id: str, snapshot_id: str) -> None:
        """Delete a snapshot. One that is not there is not an error; one that was half deleted is deleted whole.

        Raises:
            ProviderRefused: the disk has no newer complete snapshot: the last one is never deleted.
        """

    def measure(self) -> StorageUse:
        """How full the storage is, and what each disk takes of it. What disks take may be half a minute old.

        Cost: the volumes and snapshots there are, not their files.
        """
