"""The disk storage as operators see it, and disks without a record as their owners see them: pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from odc.api.messages.storage import DiskUseView, OrphanedDiskView, SnapshotUseView, StorageView
from odc.api.problem_views import problem_views
from odc.control.context import StorageStatus
from odc.control.disk_usage import DiskUsage
from odc.domain.disk import SnapshotRecord, VolumeLabel
from odc.domain.problem_text import problem_texts


def storage_view(accounts: tuple[DiskUsage, ...], look: StorageStatus, now: datetime) -> StorageView:
    """Return the storage with every disk."""
    use = look.use
    return StorageView(
        now=now,
        level=str(look.level),
        total_bytes=use.total_bytes if use else 0,
        free_bytes=use.free_bytes if use else 0,
        sizes_bytes=sum(account.disk.size_bytes for account in accounts),
        settling=use is None or use.settling,
        disks=tuple(_disk(account) for account in accounts),
        problems=problem_texts(look.problems),
        problem_details=problem_views(look.problems),
    )


def _disk(account: DiskUsage) -> DiskUseView:
    disk = account.disk
    return DiskUseView(
        id=disk.id,
        name=disk.name,
        owner=account.owner,
        size_bytes=disk.size_bytes,
        files_bytes=account.use.live_bytes,
        history_bytes=account.use.history_bytes,
        holder=account.holder.id if account.holder else disk.holder,
        holder_name=account.holder.name if account.holder else None,
        snapshots=tuple(_snapshot(record, account) for record in account.snapshots),
        deleting=disk.snapshots.deleting,
    )


def _snapshot(record: SnapshotRecord, account: DiskUsage) -> SnapshotUseView:
    snapshot = record.snapshot
    return SnapshotUseView(
        id=snapshot.id,
        taken_at=snapshot.taken_at,
        verified=snapshot.verified_at is not None,
        used_bytes=snapshot.used_bytes,
        frees_bytes=account.use.snapshots.get(snapshot.id),
        goes=record in account.going,
    )


def orphan_views(labels: Iterable[VolumeLabel]) -> tuple[OrphanedDiskView, ...]:
    """The disks without a record that have these labels."""
    return tuple(OrphanedDiskView(id=label.disk_id, name=label.name) for label in labels)
