"""Writes one change with compare-and-set: every row only if it still has the version that was read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.domain.errors import Conflict
from odc.domain.pool_document import encode_document
from odc.domain.records import Change, ClockAnchor, Handover
from odc.domain.reservation import Reservation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


def write_change(connection: sa.Connection, change: Change) -> None:
    """Write the whole change within the connection's transaction, which the caller rolls back after an error.

    Rows of each table are written in the order of their keys, so that two changes at once cannot deadlock.

    Raises:
        Conflict: a stored version differs from the one that was read.
        IntegrityError: a new row, or a name, exists already.
    """
    for pool, version in sorted(change.pools.items()):
        plan = {"plan": encode_document(change.plans[pool])} if pool in change.plans else {}
        _put(connection, t.pools, t.pools.c.name, pool, version, plan)
    for record in sorted(change.reservations, key=lambda r: r.id):
        _put_reservation(connection, record)
    for disk in sorted(change.disks, key=lambda d: d.id):
        columns: dict[str, Any] = {"owner": disk.owner, "name": disk.name, "body": _encode(disk)}
        columns["concerns_passes"] = disk.concerns_passes
        _put(connection, t.disks, t.disks.c.id, disk.id, disk.version, columns)
    _put_unversioned(connection, change)
    for user in sorted(change.users, key=lambda u: u.principal):
        columns = {"claimed_by": user.claimed_by or None, "body": _encode(user)}
        _put(connection, t.users, t.users.c.principal, user.principal, user.version, columns)
    for document in sorted(change.documents, key=lambda d: d.name):
        columns = {"body": document.body}
        _put(connection, t.documents, t.documents.c.name, document.name, document.version, columns)
    if change.handover is not None:
        _hand_over(connection, change.handover)
    if change.clock_anchor is not None:
        set_clock_anchor(connection, change.clock_anchor)
    _append(connection, change)


def _append(connection: sa.Connection, change: Change) -> None:
    """Append the events and the request, which are never changed afterwards."""
    if change.events:
        rows = [
            {"subject_kind": str(event.subject_kind), "subject_id": event.subject_id, "body": _encode(event)}
            for event in change.events
        ]
        connection.execute(sa.insert(t.events), rows)
    if change.request is not None:
        row = {"received_us": micros(change.request.received_at), "body": _encode(change.request)}
        connection.execute(sa.insert(t.requests).values(id=change.request.id, **row))


def _put_reservation(connection: sa.Connection, record: Reservation) -> None:
    columns: dict[str, Any] = {
        "owner": record.owner,
        "name": record.name,
        "held_name": record.name if record.holds_name else None,
        "state": str(record.state),
        "live": record.live,
        "body": _encode(record),
    }
    _put(connection, t.reservations, t.reservations.c.id, record.id, record.version, columns)


def _put_unversioned(connection: sa.Connection, change: Change) -> None:
    """Write secrets, and write and delete snapshots. The records that they belong to are written before, and keep
    other writers away.
    """
    s = t.snapshots.c
    for secrets in sorted(change.secrets, key=lambda secrets: secrets.reservation_id):
        connection.execute(sa.delete(t.secrets).where(t.secrets.c.reservation_id == secrets.reservation_id))
        row = {"reservation_id": secrets.reservation_id, "body": _encode(secrets)}
        connection.execute(sa.insert(t.secrets).values(row))
    touched = sorted({(record.disk_id, record.id) for record in (*change.snapshots, *change.deleted_snapshots)})
    for disk_id, snapshot_id in touched:
        connection.execute(sa.delete(t.snapshots).where(s.disk_id == disk_id, s.id == snapshot_id))
    rows = [
        {"disk_id": record.disk_id, "id": record.id, "number": record.number, "body": _encode(record)}
        for record in change.snapshots
    ]
    if rows:
        connection.execute(sa.insert(t.snapshots), rows)


def set_clock_anchor(connection: sa.Connection, anchor: ClockAnchor) -> None:
    """Replace the stored anchor."""
    lock_for_writing(connection, t.clock)
    connection.execute(sa.delete(t.clock))
    connection.execute(sa.insert(t.clock).values(id=1, body=_encode(anchor)))


def _hand_over(connection: sa.Connection, handover: Handover) -> None:
    """Delete the user's record, and give the ended reservations to the other principal.

    Raises:
        Conflict: the record has changed since it was read.
    """
    user, u, r = handover.user, t.users.c, t.reservations.c
    query = sa.delete(t.users).where(u.principal == user.principal, u.version == user.version)
    if connection.execute(query).rowcount != 1:
        raise Conflict(f"users {user.principal} has changed since it was read")
    ended = sa.update(t.reservations).where(r.owner == user.principal, sa.not_(r.live))
    connection.execute(ended.values(owner=handover.to, version=r.version + 1))


def _put(
    connection: sa.Connection, table: sa.Table, key: sa.Column[Any], identity: str, read: int, columns: dict[str, Any]
) -> None:
    """Write one row with the version that was read plus one; a version of 0 makes it.

    Raises:
        Conflict: the stored version differs.
        IntegrityError: version 0, and the row is there.
    """
    if read == 0:
        connection.execute(sa.insert(table).values({key.name: identity, "version": 1, **columns}))
        return
    query = sa.update(table).where(key == identity, table.c.version == read)
    if connection.execute(query.values(version=read + 1, **columns)).rowcount != 1:
        raise Conflict(f"{table.name} {identity} has changed since it was read")


def lock_for_writing(connection: sa.Connection, table: sa.Table) -> None:
    """Until the transaction ends, no other writes the table; SQLite's writers are alone already."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")


def micros(moment: datetime) -> int:
    """Microseconds since 1970: times are compared as numbers, the same in both databases."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
