"""Reads the live reservations: those whose version is new, and all others as they were read before.

The versions and ids come as one text, out of an index that has both. For ten thousand records, a row of each costs more
than everything else of the query. As long as the text is the same, nothing has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import ne
from typing import cast

import msgspec
import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.adapters.sql.rows import in_batches, reservation_of
from odc.domain.changed_span import ChangedSpan, changed_span
from odc.domain.reservation import Reservation

_Records = tuple[Reservation, ...]


@dataclass(frozen=True, slots=True)
class LiveRecords:
    """The live reservations at one time. Immutable, so threads may share it.

    Attributes:
        text: the lines, as they were read.
        lines: version and id of each, by place in line.
        found: the records in the same order; None for one that cannot be understood.
        records: those that can be understood.
        unreadable: id to error, of the others.
    """

    text: str = ""
    lines: list[str] = field(default_factory=list)
    found: tuple[Reservation | None, ...] = ()
    records: tuple[Reservation, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)


def read_live(connection: sa.Connection, before: LiveRecords) -> LiveRecords:
    """Return the live reservations as of the connection's snapshot.

    Args:
        connection: in which all reads see one snapshot.
        before: what was read earlier; the same object is returned if nothing has changed since.
    """
    text = _versions(connection)
    if text == before.text and not before.unreadable:
        return before
    lines = text.split("\n") if text else []
    # Those that could not be understood are read again each time: they may be repaired in place.
    span = ChangedSpan(0, len(before.lines), len(lines)) if before.unreadable else None
    start, end_before, end_now = span or changed_span(before.lines, lines, ne) or (0, 0, 0)
    old = zip(before.lines[start:end_before], before.found[start:end_before], strict=True)
    known = {line: record for line, record in old if record is not None}
    changed = lines[start:end_now]
    decoded, unreadable = _decoded(connection, [_id_of(line) for line in changed if line not in known])
    fresh = (known.get(line) or decoded.get(_id_of(line)) for line in changed)
    found = (*before.found[:start], *fresh, *before.found[end_before:])
    records = tuple(record for record in found if record is not None) if unreadable else cast(_Records, found)
    return LiveRecords(text, lines, found, records, unreadable)


def _versions(connection: sa.Connection) -> str:
    r = t.reservations.c
    # SQLite keeps the order of such a subquery, too: it flattens none whose order an aggregate may depend on.
    line = (sa.cast(r.version, sa.Text) + " " + r.id).label("line")
    ordered = sa.select(line).where(r.live).order_by(r.place).subquery()
    return connection.execute(sa.select(sa.func.aggregate_strings(ordered.c.line, "\n"))).scalar() or ""


def _id_of(line: str) -> str:
    return line.partition(" ")[2]


def _decoded(connection: sa.Connection, ids: list[str]) -> tuple[dict[str, Reservation], dict[str, str]]:
    """The records by id, and the error of each that cannot be understood."""
    found: dict[str, Reservation] = {}
    unreadable: dict[str, str] = {}
    r = t.reservations.c
    for part in in_batches(ids):
        for row in connection.execute(sa.select(r.id, r.owner, r.place, r.version, r.body).where(r.id.in_(part))):
            try:
                found[row.id] = reservation_of(row)
            except (msgspec.MsgspecError, ValueError) as error:
                unreadable[row.id] = str(error)
    return found, unreadable
