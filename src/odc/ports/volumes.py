"""Where disks keep their files. When in doubt, data is kept.

A disk has at most one volume, kept between reservations. It carries a marker with the disk's id: a box whose home has
no marker, or another's, does not start. Snapshots serve history and recovery; they are read-only.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.storage import StorageUse


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that exists.

    Attributes:
        is_new: it was not complete before. A half-made one, from a crash, is finished and counts as new.
        zone: where it can be attached; empty: on every node.
    """

    is_new: bool
    zone: str = ""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that is attached for a box.

    Attributes:
        handle: names it to the cluster of the same backend, as the home of a box. To all others it is opaque.
    """

    handle: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot that a new volume is made from.

    Attributes:
        disk_id: the disk that the snapshot was taken of; it may be deleted.
        snapshot_id: a complete snapshot of it.
    """

    disk_id: str
    snapshot_id: str


class Volumes(Protocol):
    """The volumes of disks. Every method may be called again after it was interrupted at any point, and finishes.

    Methods may be called by several threads and processes at once, also for the same disk. They return within about a
    second. What takes longer goes on meanwhile, and the caller is told *not yet* (None or False) and asks again with
    the same arguments, in this process or in another one.

    Every method raises `ProviderUnavailable` when the storage does not answer, and `ProviderRefused` for a lasting
    fault; after either no file of a volume or of an earlier snapshot is lost.
    """

    def describe(self) -> str:
        """Describe the storage in a few words for people: `btrfs (1700 GiB free)`."""

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder, of every volume that is attached. The list may be as old as the pass before."""

    def create(self, disk_id: str, size_bytes: int, node: str, source: Source | None = None) -> Volume | None:
        """Make the disk's volume with its marker, if it is not there.

        Args:
            disk_id: of the disk.
            size_bytes: its size limit, if the storage has limits.
            node: where it is needed first.
            source: the snapshot whose files it begins with; None: it is empty. A volume that exists stays as it is.

        Returns:
            The volume, or None: not yet.

        Raises:
            ProviderRefused: the source does not exist; there is no volume.
        """

    def label(self, label: VolumeLabel) -> None:
        """Write the label next to the volume: its owner and name. Does nothing without a complete volume."""

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the label of each complete volume, by disk id.

        Cost: one small file for each volume.
        """

    def attach(self, disk_id: str, holder: str, node: str, id_base: int = 0) -> Attachment | None:
        """Attach the volume for a box, `nosuid,nodev`.

        Args:
            disk_id: a volume that exists.
            holder: `<reservation id>-<attempt>`. Attaching twice for the same holder gives the same attachment.
            node: of the box.
            id_base: first host id of the box's range, in which the owners of files are seen; the files themselves keep
                theirs. 0: the range that owners are stored in. Attaching again with another range changes the mapping,
                if nothing uses the volume.

        Returns:
            The attachment, or None: not yet.

        Raises:
            ProviderRefused: the volume is missing, or was replaced by another one.
            ProviderUnavailable: another holder has it still, or it is in use in another range.
        """

    def detach(self, disk_id: str, holder: str) -> bool:
        """Detach the volume from this holder. Does nothing if another holder or none has it.

        Returns:
            Whether the holder does not have it any more; False: not yet.

        Raises:
            ProviderUnavailable: something still uses it, which the message names.
        """

    def snapshot(self, disk_id: str, snapshot_id: str, in_use: bool = False) -> Snapshot | None:
        """Copy a volume to a read-only snapshot and verify it; the adapter's docstring says how.

        A complete snapshot of this id is not changed and is returned. An incomplete one is made again.

        Args:
            disk_id: of the volume.
            snapshot_id: of the snapshot.
            in_use: also if the volume is attached. The snapshot is then crash-consistent, and marked so.

        Returns:
            The snapshot, or None: not yet.

        Raises:
            ProviderUnavailable: the volume is attached, and `in_use` was not given.
            ProviderRefused: the storage cannot copy a volume that is in use; or the volume is missing or replaced.
        """

    def write_listing(self, disk_id: str, snapshot_id: str, key: str) -> bool:
        """Write the listing of a snapshot's files to the blob store, in the form of `odc.domain.file_listing`.

        Files are by path, each folder before its contents; the marker is left out. In constant memory.

        Args:
            disk_id: of the snapshot.
            snapshot_id: of a complete snapshot.
            key: of the blob. An existing one is kept: the files of a snapshot do not change.

        Returns:
            Whether it is written; False: not yet.

        Raises:
            ProviderRefused: there is no such snapshot, or its files can never be listed. It is complete all the same.
        """

    def list_snapshots(self, disk_id: str) -> tuple[Snapshot, ...]:
        """The disk's complete snapshots, oldest first, without the keys of their listings."""

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Set the volume's size limit, if the storage has limits."""

    def delete(self, disk_id: str) -> bool:
        """Delete the disk's volume with all its files. Its snapshots stay. A missing one is not an error.

        Returns:
            Whether it is gone; False: not yet.

        Raises:
            ProviderUnavailable: it is attached, and stays.
            ProviderRefused: another folder is in the volume's place, and stays.
        """

    def delete_snapshot(self, disk_id: str, snapshot_id: str, keep_last: bool = True) -> bool:
        """Delete a snapshot. A missing one is not an error; a partial deletion is completed.

        Args:
            disk_id: of the snapshot.
            snapshot_id: of the snapshot.
            keep_last: False for a disk that was deleted, whose last snapshot goes, too.

        Returns:
            Whether it is gone; False: not yet.

        Raises:
            ProviderRefused: the disk has no newer complete snapshot, and the last one is kept.
        """

    def measure(self) -> StorageUse:
        """Return the usage of the storage and of each disk. The usage of disks may be half a minute old.

        Cost: grows with the volumes and snapshots, not with their files.
        """
