"""The live reservations by state and GPU type, kept from pass to pass: only what has changed is grouped again. Pure.

Unchanged records are the same objects, so what is kept depends on nothing else. From nothing, the groups are the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter

from odc.domain.changed_span import changed_span
from odc.domain.reservation import Reservation, State

_order = attrgetter("order")


@dataclass(frozen=True, slots=True)
class GroupedRecords:
    """The live reservations of one observation.

    Attributes:
        records: all of them, by place in line.
        queued: by GPU type, the queued ones by place in line; a type without any is left out.
        placed: by GPU type, the others, in the same way.
        all_placed: those of every type, type by type.
        by_id: all of them, by id.
    """

    records: tuple[Reservation, ...] = ()
    queued: Mapping[str, Sequence[Reservation]] = field(default_factory=dict)
    placed: Mapping[str, Sequence[Reservation]] = field(default_factory=dict)
    all_placed: tuple[Reservation, ...] = ()
    by_id: Mapping[str, Reservation] = field(default_factory=dict)


def group_records(records: tuple[Reservation, ...], before: GroupedRecords) -> GroupedRecords:
    """Return the records in groups; groups without a change are the same objects as before.

    Args:
        records: by place in line.
        before: earlier groups, or empty ones.
    """
    span = changed_span(before.records, records)
    if span is None:
        return before
    old, new = before.records[span.start : span.end_before], records[span.start : span.end_now]
    queued_before, placed_before = _by_type(old)
    queued_now, placed_now = _by_type(new)
    placed = _with_changes(before.placed, placed_before, placed_now)
    same = placed is before.placed
    return GroupedRecords(
        records=records,
        queued=_with_changes(before.queued, queued_before, queued_now),
        placed=placed,
        all_placed=before.all_placed if same else tuple(chain.from_iterable(placed[name] for name in sorted(placed))),
        by_id=_by_id(before.by_id, old, new),
    )


_Groups = Mapping[str, Sequence[Reservation]]


def _by_type(records: Iterable[Reservation]) -> tuple[_Groups, _Groups]:
    """The queued ones, and the others."""
    queued: dict[str, list[Reservation]] = defaultdict(list)
    placed: dict[str, list[Reservation]] = defaultdict(list)
    # There may be many, and looking up a member of an enum costs more than the comparison.
    waits = State.QUEUED
    for record in records:
        (queued if record.state is waits else placed)[record.spec.gpu_type].append(record)
    return queued, placed


def _with_changes(groups: _Groups, old: _Groups, new: _Groups) -> _Groups:
    """The groups, in which the new records replace the old ones. Both are of the same span of places in line."""
    touched = old.keys() | new.keys()
    if not touched:
        return groups
    changed = dict(groups)
    for gpu_type in sorted(touched):
        group, gone, come = changed.pop(gpu_type, ()), old.get(gpu_type, ()), new.get(gpu_type, ())
        first = min(part[0].order for part in (gone, come) if part)
        last = max(part[-1].order for part in (gone, come) if part)
        start, end = bisect_left(group, first, key=_order), bisect_right(group, last, key=_order)
        if group := (*group[:start], *come, *group[end:]):
            changed[gpu_type] = group
    return changed


def _by_id(
    known: Mapping[str, Reservation], old: Iterable[Reservation], new: Iterable[Reservation]
) -> Mapping[str, Reservation]:
    found = dict(known)
    for record in old:
        del found[record.id]
    found.update({record.id: record for record in new})
    return found
