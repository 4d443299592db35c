"""A disk: the user's named home, kept between reservations. Its identity is its id; its name is only a label.

Its snapshots are records of their own, since there may be a thousand of them; `disk_history` has the rules.

At most one reservation holds it, and only the holder's release frees it. One more may wait for it, if the holder is
ending and will not be queued again.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A point-in-time copy of a disk's volume.

    Attributes:
        id: as `snapshot_id` gives it, so that taking it twice gives the same one.
        taken_at: when the copy was complete.
        verified_at: when it was verified as complete; None until then.
        used_bytes: size of the files.
        listing: key of the file listing in the blob store.
        crash_consistent: it was taken while the volume was in use: it has the files as a power cut would have left
            them.
    """

    id: str
    taken_at: datetime
    verified_at: datetime | None = None
    used_bytes: int = 0
    listing: str = ""
    crash_consistent: bool = False


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a disk, as it is stored.

    It has no version: a change that writes or deletes it also writes its disk, whose version covers it.

    Attributes:
        disk_id: of which disk.
        number: its place among the disk's snapshots; a newer one has a larger number, whatever the clock says.
        snapshot: the snapshot.
        deleting: its deletion is decided; it may be deleted already, partly or completely.
    """

    disk_id: str
    number: int
    snapshot: Snapshot
    deleting: bool = False

    @property
    def id(self) -> str:
        """The snapshot's id, unique among those of the disk."""
        return self.snapshot.id


class SnapshotSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a disk's snapshots without reading their records.

    Attributes:
        count: of the snapshots, without those that are being deleted.
        deleting: of those whose deletion is decided.
        used_bytes: sizes of the counted ones' files, together.
        oldest_at: when the oldest counted one was taken; None if there is none.
        last: the newest counted one.
        last_verified: the newest counted one that is verified.
        next_number: the number of the next snapshot.
    """

    count: int = 0
    deleting: int = 0
    used_bytes: int = 0
    oldest_at: datetime | None = None
    last: Snapshot | None = None
    last_verified: Snapshot | None = None
    next_number: int = 1


def snapshot_id(holder: str, number: int = 0) -> str:
    """The id of a snapshot of what one attempt did.

    Args:
        holder: `<reservation id>-<attempt>`.
        number: 0 for the snapshot at its end, from 1 on for those that are taken while it runs.
    """
    return f"{holder}-{number}" if number else holder


class VolumeLabel(msgspec.Struct, frozen=True, kw_only=True):
    """The label next to a volume, which identifies it without its record. Empty fields: there is no label.

    Attributes:
        disk_id: of which disk.
        owner: principal.
        user: the owner's name.
        name: the owner's name for the disk.
        size_bytes: its size limit.
        zone: where it is; empty: every node can attach it.
    """

    disk_id: str
    owner: str = ""
    user: str = ""
    name: str = ""
    size_bytes: int = 0
    zone: str = ""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One disk.

    Attributes:
        id: 32 hexadecimal digits.
        version: as read from the store; 0 for one that is not stored yet.
        owner: principal.
        name: unique among the owner's disks.
        size_bytes: its size limit.
        created_at: when it was first asked for.
        made: a box has used its volume: from then on a missing volume is a fault and is not created again.
        holder: id of the reservation that has it, None when it is free.
        successor: id of the reservation that gets it next.
        snapshots: what is known of its snapshots; stored as `snapshot_summary`, since version 0.1.0 stored all of them
            as `snapshots`.
        fault: its current fault; empty if there is none.
        zone: where its volume is, so that only nodes of this zone can attach it; empty: any node can.
    """

    id: str
    version: int = 0
    owner: str
    name: str
    size_bytes: int
    created_at: datetime
    made: bool = False
    holder: str | None = None
    successor: str | None = None
    snapshots: SnapshotSummary = msgspec.field(default=SnapshotSummary(), name="snapshot_summary")
    fault: str = ""
    zone: str = ""

    def claimed_by(self, reservation_id: str) -> Disk:
        """The disk with one more claimant: the holder if it was free, else the successor."""
        if self.holder is None:
            return msgspec.structs.replace(self, holder=reservation_id)
        return msgspec.structs.replace(self, successor=reservation_id)

    def released_by(self, reservation_id: str) -> Disk:
        """The disk without this claimant; its successor, if any, holds it then. Others' claims stay."""
        if self.successor == reservation_id:
            return msgspec.structs.replace(self, successor=None)
        if self.holder == reservation_id:
            return msgspec.structs.replace(self, holder=self.successor, successor=None)
        return self

    @property
    def concerns_passes(self) -> bool:
        """Whether passes read its record: another reservation waits for it, or it binds its holder to a zone.

        The holder of any other disk is its only claimant, and nothing that it may do depends on the disk.
        """
        return self.holder is not None and (self.successor is not None or self.zone != "")

    @property
    def last_snapshot(self) -> Snapshot | None:
        """The newest snapshot, or None."""
        return self.snapshots.last
