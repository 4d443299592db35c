"""Reads the snapshots of a disk, and writes how they have changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from odc.control.change_parts import MAX_PART_ITEMS
from odc.control.context import Ports
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.disk_history import DiskHistory
from odc.domain.paging import all_pages
from odc.domain.records import Change

MAX_SNAPSHOTS = MAX_PART_ITEMS - 5
"""Snapshots of one transaction, next to their disk."""


def read_history(ports: Ports, disk: Disk) -> DiskHistory:
    """Return the disk with its snapshots.

    If they have changed since the disk was read, so has its version: a change that is based on them conflicts.

    Cost: grows with the disk's snapshots.
    """
    return DiskHistory(disk=disk, snapshots=tuple(all_pages(partial(ports.history.list_snapshots, disk.id))))


def history_change(before: DiskHistory, after: DiskHistory) -> Change:
    """Return the change that writes the difference; empty if there is none."""
    known, kept = set(before.snapshots), {record.id for record in after.snapshots}
    written = tuple(record for record in after.snapshots if record not in known)
    deleted = tuple(record for record in before.snapshots if record.id not in kept)
    if not written and not deleted:
        return Change()
    return Change(disks=(after.disk,), snapshots=written, deleted_snapshots=deleted)


def batches(records: Sequence[SnapshotRecord]) -> Iterator[Sequence[SnapshotRecord]]:
    """Yield the records in groups that one transaction takes."""
    for begin in range(0, len(records), MAX_SNAPSHOTS):
        yield records[begin : begin + MAX_SNAPSHOTS]
