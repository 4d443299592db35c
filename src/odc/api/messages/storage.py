"""Disks, as their owners see them and as operators do."""

from __future__ import annotations

from datetime import datetime

import msgspec

from odc.api.messages.problems import ProblemView
from odc.api.messages.reservations import SnapshotView


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    """One of the caller's disks.

    Attributes:
        name: as the owner calls it.
        size_bytes: the limit of its files.
        used_bytes: size of its files at the last measurement; None if unknown.
        history_bytes: bytes that only its snapshots use; None if unknown.
        created_at: when it was first asked for.
        holder: name of the reservation that has it, None when it is free.
        holder_id: its id.
        snapshot: the last one.
        fault: its current fault; empty if there is none.
    """

    name: str
    size_bytes: int
    used_bytes: int | None
    history_bytes: int | None = None
    created_at: datetime
    holder: str | None = None
    holder_id: str | None = None
    snapshot: SnapshotView | None = None
    fault: str = ""


class OrphanedDiskView(msgspec.Struct, frozen=True, kw_only=True):
    """One of the caller's disks that has files but no record. It cannot be used until an operator recovers it.

    Attributes:
        id: 32 hexadecimal digits.
        name: as the owner calls it.
    """

    id: str
    name: str


class DiskList(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's disks.

    Attributes:
        disks: by name.
        orphaned: disks that have files but no record, by id.
    """

    disks: tuple[DiskView, ...]
    orphaned: tuple[OrphanedDiskView, ...] = ()


class SnapshotUseView(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot.

    Attributes:
        id: `<reservation id>-<attempt>`.
        taken_at: when.
        verified: whether it was found complete.
        used_bytes: size of its files.
        frees_bytes: bytes that deleting only this one would free; None if unknown.
        goes: whether the requested prune would delete it.
    """

    id: str
    taken_at: datetime
    verified: bool
    used_bytes: int
    frees_bytes: int | None = None
    goes: bool = False


class DiskUseView(msgspec.Struct, frozen=True, kw_only=True):
    """One disk.

    Attributes:
        id: 32 hexadecimal digits; its folder has this name.
        name: as its owner calls it.
        owner: the owner's name.
        size_bytes: the limit of its files.
        files_bytes: size of its files now; None if unknown.
        history_bytes: bytes that only its snapshots use; None if unknown.
        holder: id of the reservation that has it; None when it is free.
        holder_name: name of that reservation; None if it is free or the reservation has no record.
        snapshots: oldest first.
        deleting: snapshots whose deletion is under way.
    """

    id: str
    name: str
    owner: str
    size_bytes: int
    files_bytes: int | None = None
    history_bytes: int | None = None
    holder: str | None = None
    holder_name: str | None = None
    snapshots: tuple[SnapshotUseView, ...] = ()
    deleting: int = 0


class StorageView(msgspec.Struct, frozen=True, kw_only=True):
    """The disk storage, as it was measured last.

    Attributes:
        now: the server's clock.
        level: ok, low or full; while full, new disks are refused.
        total_bytes: its size.
        free_bytes: bytes that can still be written.
        sizes_bytes: the limits of all disks together.
        settling: deleted snapshots are still being freed.
        disks: those of the user who uses most first.
        problems: faults of the storage, as sentences.
        problem_details: the same as data, in the same order.
    """

    now: datetime
    level: str
    total_bytes: int
    free_bytes: int
    sizes_bytes: int
    settling: bool
    disks: tuple[DiskUseView, ...]
    problems: tuple[str, ...] = ()
    problem_details: tuple[ProblemView, ...] = ()
