"""How full the disk storage is, and which snapshots are deleted first: pure.

Rules. The newest verified snapshot of a disk, and everything newer, is never deleted. Each disk keeps a number of
snapshots, for a number of days, within a share of its size. When the storage is nearly full, older snapshots are
deleted although these limits are kept: first those of the user who takes most, oldest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.disk_history import DiskHistory

NEGLIGIBLE = 2**20
"""Bytes of history for which no snapshot is deleted: the snapshots' own records, not files."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's policy for snapshots.

    Attributes:
        keep: snapshots of each disk; at least 1.
        days: how long a snapshot is kept; 0: without limit.
        percent: limit of the older snapshots of a disk, in percent of its size; 0: without limit.
        free_percent: part of the storage that should stay free; with less, older snapshots are deleted. With less than
            a third of it, new disks are refused.
    """

    keep: int = 7
    days: float = 30
    percent: float = 100
    free_percent: float = 15


class DiskUse(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of a disk.

    Attributes:
        live_bytes: its files now; None if unknown.
        total_bytes: its files and all its snapshots together, with shared data counted once; None if unknown.
        limit_bytes: limit of its files; 0: without limit; None if unknown.
        snapshots: id to the bytes that deleting only this one would free; empty if unknown.
    """

    live_bytes: int | None = None
    total_bytes: int | None = None
    limit_bytes: int | None = None
    snapshots: Mapping[str, int] = {}

    @property
    def history_bytes(self) -> int | None:
        """Bytes that only its snapshots use; None if unknown."""
        if self.total_bytes is None or self.live_bytes is None:
            return None
        return max(self.total_bytes - self.live_bytes, 0)


class Level(StrEnum):
    """How urgent the lack of free space is."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


class StorageUse(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of the storage.

    Attributes:
        total_bytes: its size.
        free_bytes: bytes that can still be written.
        disks: disk id to its usage; empty if the storage cannot measure it.
        settling: deleted snapshots are still being freed, so the numbers will improve.
    """

    total_bytes: int
    free_bytes: int
    disks: Mapping[str, DiskUse] = {}
    settling: bool = False

    @property
    def used_bytes(self) -> int:
        """Bytes in use for any purpose."""
        return max(self.total_bytes - self.free_bytes, 0)

    def missing_bytes(self, rule: Retention) -> int:
        """Return how many bytes of the required free space are missing; 0 or less if there is enough."""
        return int(self.total_bytes * rule.free_percent / 100) - self.free_bytes

    def is_near(self, rule: Retention) -> bool:
        """Whether less than twice the required free space is free."""
        return self.free_bytes * 50 < self.total_bytes * rule.free_percent

    def level(self, rule: Retention) -> Level:
        """Return the urgency of the lack of free space."""
        if self.missing_bytes(rule) <= 0:
            return Level.OK
        return Level.FULL if self.free_bytes * 300 < self.total_bytes * rule.free_percent else Level.LOW


def may_be_past_limits(disk: Disk, rule: Retention, now: datetime | None) -> bool:
    """Whether `past_limits` may find something: known from the disk's record alone."""
    known = disk.snapshots
    if known.count < 2 or known.last_verified is None:
        return False
    is_old = now is not None and rule.days > 0 and (known.oldest_at or now) < now - timedelta(days=rule.days)
    return known.count > rule.keep or is_old


def past_limits(history: DiskHistory, rule: Retention, now: datetime | None) -> tuple[SnapshotRecord, ...]:
    """The snapshots beyond the number and the age that are kept, oldest first.

    Args:
        history: the disk with its snapshots.
        rule: the operator's.
        now: None if the clock cannot be trusted: then nothing is too old.
    """
    old = history.expendable
    kept = max(rule.keep - (len(history.kept) - len(old)), 0)
    many = old[: max(len(old) - kept, 0)]
    if now is None or not rule.days:
        return many
    limit, numbers = now - timedelta(days=rule.days), {record.number for record in many}
    return tuple(record for record in old if record.number in numbers or record.snapshot.taken_at < limit)


def beyond(history: DiskHistory, keep: int) -> tuple[SnapshotRecord, ...]:
    """Return the snapshots beyond this number of newest ones, oldest first; the newest verified one is always kept."""
    return past_limits(history, Retention(keep=max(keep, 1), days=0), None)


def is_past_share(disk: Disk, use: DiskUse | None, rule: Retention) -> bool:
    """Whether the disk's history takes more than its share."""
    history = use.history_bytes if use else None
    return history is not None and rule.percent > 0 and history > disk.size_bytes * rule.percent / 100


def past_share(history: DiskHistory, use: DiskUse | None, rule: Retention) -> tuple[SnapshotRecord, ...]:
    """Return the oldest snapshot if the disk's history exceeds its limit. One at a time: the freed space is only known
    afterwards.
    """
    return history.expendable[:1] if is_past_share(history.disk, use, rule) else ()


def has_history(disk: Disk, use: StorageUse) -> bool:
    """Whether deleting older snapshots of the disk may free space, as far as is known."""
    known = use.disks.get(disk.id)
    taken = known.history_bytes if known else None
    return disk.snapshots.count > 1 and (taken is None or taken > NEGLIGIBLE)


def first_to_go(
    histories: Iterable[DiskHistory], takes: Mapping[str, int], use: StorageUse, missing_bytes: int
) -> dict[str, tuple[SnapshotRecord, ...]]:
    """Return the snapshots to delete to free this much; key: disk id, value: oldest first.

    Snapshots of the user who uses most come first, oldest first. It stops after one whose freed space is not known: two
    snapshots may share data that deleting either one would not free, and a snapshot that is deleted without need is
    lost.

    Args:
        histories: the disks that have a history.
        takes: as `taken_by_owner` gives it, of all disks.
        use: the measurement.
        missing_bytes: how much to free.
    """
    found = [history for history in histories if has_history(history.disk, use)]
    left = {history.disk.id: list(history.expendable) for history in found}
    owners, takes = {history.disk.id: history.disk.owner for history in found}, dict(takes)
    chosen: dict[str, tuple[SnapshotRecord, ...]] = {}
    while missing_bytes > 0 and any(left.values()):
        disk_id = min(
            (key for key, records in left.items() if records),
            key=lambda k: (-takes[owners[k]], left[k][0].snapshot.taken_at),
        )
        record = left[disk_id].pop(0)
        chosen[disk_id] = (*chosen.get(disk_id, ()), record)
        gain = _gain(disk_id, record, use)
        if gain <= NEGLIGIBLE:
            break
        missing_bytes -= gain
        takes[owners[disk_id]] -= gain
    return chosen


def taken_by_owner(disks: Iterable[Disk], use: StorageUse) -> dict[str, int]:
    """Return the usage of each owner's disks with their snapshots; key: principal. If the storage cannot measure it,
    the sizes of the snapshots' files are used.
    """
    takes: dict[str, int] = {}
    for disk in disks:
        takes[disk.owner] = takes.get(disk.owner, 0) + taken_by(disk, use)
    return takes


def taken_by(disk: Disk, use: StorageUse) -> int:
    """Return the known usage of a disk with its snapshots."""
    known = use.disks.get(disk.id)
    if known is not None and known.total_bytes is not None:
        return known.total_bytes
    return disk.snapshots.used_bytes


def _gain(disk_id: str, record: SnapshotRecord, use: StorageUse) -> int:
    known = use.disks.get(disk_id)
    return known.snapshots.get(record.id, 0) if known else 0


def gib_text(count: int) -> str:
    """`12 GiB`, `0.5 GiB`, `3 GiB`, `128 MiB`, `68 KiB`, `100 bytes`; half a GiB or more is shown in GiB.

    `size_text` of `odc-box` has the same rules.
    """
    if 0 < count < 2**10:
        return f"{count} bytes"
    if 0 < count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    if count < 2**29:
        return f"{count / 2**20:.0f} MiB"
    value = count / 2**30
    number = f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")
    return f"{number} GiB"
