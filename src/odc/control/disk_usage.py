"""Usage of the disk storage by disk and owner, and pruning by an operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from odc.control.change_parts import in_parts
from odc.control.context import Ports, StorageStatus
from odc.control.disk_histories import batches, history_change, read_history
from odc.control.operator_events import OperatorEvents
from odc.domain.commands import odc
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.disk_history import DiskHistory
from odc.domain.errors import InvalidRequest, NotFound
from odc.domain.event_kind import EventKind
from odc.domain.paging import all_pages
from odc.domain.records import Change
from odc.domain.reservation import Reservation
from odc.domain.storage import DiskUse, StorageUse, beyond, taken_by, taken_by_owner

UNUSED = DiskUse(live_bytes=0, total_bytes=0)
"""Usage of a disk that no box has used yet, such as that of a reservation that was cancelled in the queue."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """A disk as an operator sees it.

    Attributes:
        disk: the disk.
        owner: its owner's name.
        holder: the reservation that has it, if any.
        use: its usage.
        snapshots: those that are not being deleted, oldest first.
        going: the snapshots that a prune would delete, oldest first.
    """

    disk: Disk
    owner: str
    holder: Reservation | None
    use: DiskUse
    snapshots: tuple[SnapshotRecord, ...] = ()
    going: tuple[SnapshotRecord, ...] = ()


def disk_usage(ports: Ports, status: StorageStatus, keep: int, owner: str, name: str) -> tuple[DiskUsage, ...]:
    """Every disk, those of the user who takes most first, each with the snapshots that a prune would delete.

    Args:
        ports: where the records are read.
        status: the last measurement.
        keep: snapshots of each disk that are kept.
        owner: only disks of this user are pruned; empty: everyone's.
        name: only disks of this name are pruned; empty: all.

    Raises:
        InvalidRequest: `keep` is less than 1.
        NotFound: no disk has that owner and that name.
    """
    use = status.use or StorageUse(total_bytes=0, free_bytes=0)
    chosen = {disk.id for disk in _selected(ports, keep, owner, name)}
    disks = tuple(all_pages(partial(ports.history.list_disks, None)))
    histories = _histories(ports, disks)
    takes, names = taken_by_owner(disks, use), _owner_names(ports, disks)
    order = sorted(disks, key=lambda disk: (-takes[disk.owner], disk.owner, -taken_by(disk, use), disk.name))
    return tuple(
        DiskUsage(
            disk=disk,
            owner=names[disk.owner],
            holder=ports.store.find_reservation(disk.holder) if disk.holder else None,
            use=use.disks.get(disk.id, DiskUse() if disk.made else UNUSED),
            snapshots=histories[disk.id].kept,
            going=beyond(histories[disk.id], keep) if disk.id in chosen else (),
        )
        for disk in order
    )


def _histories(ports: Ports, disks: Iterable[Disk]) -> dict[str, DiskHistory]:
    """The disks with their snapshots, by id: read at once and not for each disk."""
    found: dict[str, list[SnapshotRecord]] = {disk.id: [] for disk in disks}
    for record in all_pages(partial(ports.history.list_snapshots, None)):
        if record.disk_id in found:
            found[record.disk_id].append(record)
    return {disk.id: DiskHistory(disk=disk, snapshots=tuple(found[disk.id])) for disk in disks}


def prune(ports: Ports, keep: int, owner: str, name: str, events: OperatorEvents) -> tuple[tuple[Change, ...], str]:
    """Return the changes that mark snapshots as deleted, and a sentence about them. The storage maintenance deletes
    them.

    Raises:
        InvalidRequest, NotFound: as `disk_usage`.
    """
    histories = [
        read_history(ports, disk) for disk in _selected(ports, keep, owner, name) if disk.snapshots.count > keep
    ]
    marked = [list(_marked(history, beyond(history, keep), events)) for history in histories]
    count = sum(len(beyond(history, keep)) for history in histories)
    if not count:
        return (), "there is no older snapshot to delete"
    number = sum(bool(changes) for changes in marked)
    what = f"{count} snapshot{'s' if count > 1 else ''} of {number} disk{'s' if number > 1 else ''}"
    return in_parts(change for changes in marked for change in changes), f"deleting {what}"


def _marked(history: DiskHistory, going: tuple[SnapshotRecord, ...], events: OperatorEvents) -> Iterator[Change]:
    """Yield the changes that mark the snapshots of one disk, oldest first."""
    for batch in batches(going):
        after = history.with_deleting(batch)
        told = events.of_disk(history.disk.id, EventKind.PRUNED, f"{len(batch)} snapshots are being deleted")
        yield replace(history_change(history, after), events=(told,))
        history = replace(after, disk=replace(after.disk, version=after.disk.version + 1))


def _owner_names(ports: Ports, disks: Iterable[Disk]) -> dict[str, str]:
    """Return the names of these disks' owners; key: principal."""
    users = {owner: ports.store.find_user(owner) for owner in {disk.owner for disk in disks}}
    return {owner: user.name if user and user.name else owner for owner, user in users.items()}


def _selected(ports: Ports, keep: int, owner: str, name: str) -> tuple[Disk, ...]:
    if keep < 1:
        raise InvalidRequest(f"keep must be at least 1, not {keep}: the newest verified snapshot is always kept")
    disks = tuple(all_pages(partial(ports.history.list_disks, None)))
    names = _owner_names(ports, disks) if owner else {}
    found = tuple(
        disk
        for disk in disks
        if (not owner or owner in (names[disk.owner], disk.owner)) and (not name or disk.name == name)
    )
    if not found and (owner or name):
        words = [f"named {name[:40]}"] * bool(name) + [f"of user {owner[:40]}"] * bool(owner)
        raise NotFound(f"there is no disk {' '.join(words)}", ("all disks", "sudo " + odc("disk list")))
    return found
