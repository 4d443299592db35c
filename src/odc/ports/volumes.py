"""Where disks keep their files. When in doubt, data is kept.

A disk has at most one volume, kept between reservations. It carries a marker with the disk's id: a box whose home has
no marker, or another's, does not start. Snapshots serve history and recovery; they are read-only.
"""

from __future__ import annotations

from typing import Protocol

from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.storage import StorageUse


class Volumes(Protocol):
    """The volumes of disks. Every method may be called again after it was interrupted at any point, and finishes.

    Different disks may be worked on at once; calls for one disk are made one after another. Every method raises
    `ProviderUnavailable` when the storage does not answer, and `ProviderRefused` for a lasting fault; after either
    no file of a volume or of an earlier snapshot is lost.
    """

    def describe(self) -> str:
        """Describe the storage in a few words for people: `btrfs (1700 GiB free)`."""

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder, of every volume that is attached now."""

    def create(self, disk_id: str, size_bytes: int) -> bool:
        """Make the disk's volume with its marker, if it is not there.

        Returns:
            True if it is new. A half-made one, from a crash, is finished and counts as new.
        """

    def label(self, label: VolumeLabel) -> None:
        """Write the label next to the volume: its owner and name. Does nothing without a complete volume."""

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the label of each complete volume, by disk id.

        Cost: one small file for each volume.
        """

    def attach(self, disk_id: str, holder: str, id_base: int = 0) -> str:
        """Mount the volume for a box, `nosuid,nodev`, and return the mount's path.

        Args:
            disk_id: a volume that exists.
            holder: `<reservation id>-<attempt>`. Attaching twice for the same holder gives the same path.
            id_base: first host id of the box's range, in which the owners of files are seen; the files themselves keep
                theirs. 0: the range that owners are stored in. Attaching again with another range changes the mapping,
                if nothing uses the mount.

        Raises:
            ProviderRefused: the volume is missing, or was replaced by another one.
            ProviderUnavailable: another holder has it still, or it is in use in another range.
        """

    def detach(self, disk_id: str, holder: str) -> None:
        """Detach the volume from this holder. Does nothing if another holder or none has it.

        Raises:
            ProviderUnavailable: the mount is still in use.
        """

    def snapshot(self, disk_id: str, snapshot_id: str) -> Snapshot:
        """Copy a detached volume to a read-only snapshot and verify it; the adapter's docstring says how.

        A complete snapshot of this id is not changed and is returned. An incomplete one is made again.
        """

    def write_listing(self, disk_id: str, snapshot_id: str, key: str) -> None:
        """Write the listing of a snapshot's files to the blob store, in the form of `odc.domain.file_listing`.

        Files are by path, each folder before its contents; the marker is left out. In constant memory.

        Args:
            disk_id: of the snapshot.
            snapshot_id: of a complete snapshot.
            key: of the blob; an existing one is replaced.

        Raises:
            ProviderRefused: there is no such snapshot.
        """

    def list_snapshots(self, disk_id: str) -> tuple[str, ...]:
        """Ids of the disk's complete snapshots, oldest first."""

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Set the volume's size limit, if the storage has limits."""

    def delete_snapshot(self, disk_id: str, snapshot_id: str) -> None:
        """Delete a snapshot. A missing one is not an error; a partial deletion is completed.

        Raises:
            ProviderRefused: the disk has no newer complete snapshot: the last one is never deleted.
        """

    def measure(self) -> StorageUse:
        """Return the usage of the storage and of each disk. The usage of disks may be half a minute old.

        Cost: grows with the volumes and snapshots, not with their files.
        """
