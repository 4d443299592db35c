"""A disk: the user's named home, kept between reservations. Its identity is its id; its name is only a label.

At most one reservation holds it, and only the holder's release frees it. One more may wait for it, if the holder is
ending and will not be queued again.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    """

    disk_id: str
    owner: str = ""
    user: str = ""
    name: str = ""
    size_bytes: int = 0


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
        snapshots: oldest first.
        deleting: snapshots whose deletion is decided; they may be deleted already, partly or completely.
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
    snapshots: tuple[Snapshot, ...] = ()
    deleting: tuple[Snapshot, ...] = ()
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

    def without(self, snapshots: Iterable[Snapshot]) -> Disk:
        """The disk with these snapshots to be deleted; the intent is written before anything is deleted."""
        going = {snapshot.id for snapshot in snapshots}
        return msgspec.structs.replace(
            self,
            snapshots=tuple(snapshot for snapshot in self.snapshots if snapshot.id not in going),
            deleting=(*self.deleting, *(snapshot for snapshot in self.snapshots if snapshot.id in going)),
        )

    @property
    def last_snapshot(self) -> Snapshot | None:
        """The newest snapshot, or None."""
        return self.snapshots[-1] if self.snapshots else None
