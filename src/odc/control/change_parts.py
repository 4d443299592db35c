"""Work that may be larger than one transaction, as several: each is complete by itself, and none is large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

from msgspec.structs import replace

from odc.domain.records import MAX_ITEMS, Change

MAX_PART_ITEMS = MAX_ITEMS // 2
"""Small ones, because another writer's change of one record makes the whole part conflict."""


def in_parts(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes, in order, in transactions that are far from the limit of items.

    A change that is larger than that by itself is a part of its own. A record is in each part once: a change of a
    record that the part has already begins the next one, and its version is one more.

    Args:
        changes: of reservations, disks, snapshots, users and events.
    """
    return tuple(_parts(changes))


def at_once_or_in_parts(begin: Change, changes: Sequence[Change], end: Change) -> tuple[Change, ...]:
    """Return all changes as one, if one transaction holds them; else the beginning, the changes in parts, and the end.

    Args:
        begin: the intent, which is written first.
        changes: as for `in_parts`; each of different records.
        end: makes the intent obsolete.
    """
    every = (begin, *changes, end)
    if sum(change.items for change in every) <= MAX_ITEMS - 1:
        return (replace(reduce(_combined, every), handover=end.handover),)
    return tuple(change for change in (begin, *in_parts(changes), end) if change.items)


def _parts(changes: Iterable[Change]) -> Iterator[Change]:
    part = Change()
    for change in changes:
        if part.items and (part.items + change.items > MAX_PART_ITEMS or _ids(part) & _ids(change)):
            yield part
            part = Change()
        part = _combined(part, change)
    if part.items:
        yield part


def _ids(change: Change) -> set[str]:
    records = {record.id for record in change.reservations} | {disk.id for disk in change.disks}
    return records | {user.principal for user in change.users}


def _combined(one: Change, other: Change) -> Change:
    return replace(
        one,
        reservations=one.reservations + other.reservations,
        disks=one.disks + other.disks,
        snapshots=one.snapshots + other.snapshots,
        deleted_snapshots=one.deleted_snapshots + other.deleted_snapshots,
        users=one.users + other.users,
        events=one.events + other.events,
    )
