"""The snapshots of a disk, read together with the disk, and how they change. Pure.

Every change of snapshots also changes the summary in the disk's record, in one transaction: so the disk's version
covers them, and a pass or a list needs no snapshot's record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from odc.domain.disk import Disk, Snapshot, SnapshotRecord, SnapshotSummary


def with_new_snapshot(disk: Disk, snapshot: Snapshot) -> tuple[Disk, SnapshotRecord]:
    """Return the disk with one more snapshot, and the snapshot's record.

    The snapshot that is the newest already is not counted twice.
    """
    known, number = disk.snapshots, disk.snapshots.next_number
    if known.last is not None and known.last.id == snapshot.id:
        known = replace(known, count=known.count - 1, used_bytes=known.used_bytes - known.last.used_bytes)
        number -= 1
    summary = replace(
        known,
        count=known.count + 1,
        used_bytes=known.used_bytes + snapshot.used_bytes,
        oldest_at=known.oldest_at or snapshot.taken_at,
        last=snapshot,
        last_verified=snapshot if snapshot.verified_at is not None else known.last_verified,
        next_number=number + 1,
    )
    return replace(disk, snapshots=summary), SnapshotRecord(disk_id=disk.id, number=number, snapshot=snapshot)


class DiskHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A disk with all its snapshots.

    Attributes:
        disk: the disk.
        snapshots: by number, also those that are being deleted.
    """

    disk: Disk
    snapshots: tuple[SnapshotRecord, ...] = ()

    @property
    def kept(self) -> tuple[SnapshotRecord, ...]:
        """Those that are not being deleted, oldest first."""
        return tuple(record for record in self.snapshots if not record.deleting)

    @property
    def deleting(self) -> tuple[SnapshotRecord, ...]:
        """Those that are being deleted, oldest first."""
        return tuple(record for record in self.snapshots if record.deleting)

    @property
    def expendable(self) -> tuple[SnapshotRecord, ...]:
        """The snapshots that may be deleted, oldest first: those older than the newest verified one."""
        kept = self.kept
        verified = [place for place, record in enumerate(kept) if record.snapshot.verified_at is not None]
        return kept[: verified[-1]] if verified else ()

    def with_deleting(self, chosen: Iterable[SnapshotRecord], deleting: bool = True) -> DiskHistory:
        """Return the disk with these snapshots to be deleted, or not to be deleted any more."""
        ids = {record.id for record in chosen}
        return self._with(
            [replace(record, deleting=deleting) if record.id in ids else record for record in self.snapshots]
        )

    def without(self, gone: Collection[SnapshotRecord]) -> DiskHistory:
        """Return the disk without the records of these snapshots."""
        ids = {record.id for record in gone}
        return self._with([record for record in self.snapshots if record.id not in ids])

    def _with(self, records: Sequence[SnapshotRecord]) -> DiskHistory:
        disk = replace(self.disk, snapshots=summary_of(records, self.disk.snapshots.next_number))
        return DiskHistory(disk=disk, snapshots=tuple(records))


def summary_of(records: Sequence[SnapshotRecord], next_number: int) -> SnapshotSummary:
    """Return the summary of a disk's snapshots, which are given by number."""
    kept = [record.snapshot for record in records if not record.deleting]
    verified = [snapshot for snapshot in kept if snapshot.verified_at is not None]
    return SnapshotSummary(
        count=len(kept),
        deleting=len(records) - len(kept),
        used_bytes=sum(snapshot.used_bytes for snapshot in kept),
        oldest_at=kept[0].taken_at if kept else None,
        last=kept[-1] if kept else None,
        last_verified=verified[-1] if verified else None,
        next_number=next_number,
    )
