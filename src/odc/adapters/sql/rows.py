"""Rows as records: the body is JSON, the columns next to it are the truth for what queries compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.reservation import Reservation
from odc.domain.user import User

_reservation = msgspec.json.Decoder(Reservation)
disk_decoder = msgspec.json.Decoder(Disk)
_snapshot = msgspec.json.Decoder(SnapshotRecord)
user_decoder = msgspec.json.Decoder(User)
BATCH = 500
Row = TypeVar("Row", Disk, User)
Id = TypeVar("Id", str, tuple[str, str])


def reservation_of(row: Any) -> Reservation:
    """The record of a row with the columns `owner`, `place`, `version` and `body`."""
    # The owner's column is the truth: a handover does not write the bodies of ended ones.
    return replace(_reservation.decode(row.body), owner=row.owner, version=row.version, order=row.place)


def disk_of(row: Any) -> Disk:
    """The record of a row with the columns `version` and `body`."""
    return replace(disk_decoder.decode(row.body), version=row.version)


def snapshot_of(row: Any) -> SnapshotRecord:
    """The record of a row with the column `body`."""
    return _snapshot.decode(row.body)


def user_of(row: Any) -> User:
    """The record of a row with the columns `version` and `body`."""
    return replace(user_decoder.decode(row.body), version=row.version)


def in_batches(ids: Iterable[Id]) -> Iterator[list[Id]]:
    """The ids in lists that fit one statement."""
    whole = sorted(ids)
    for begin in range(0, len(whole), BATCH):
        yield whole[begin : begin + BATCH]


def rows_by_id(
    connection: sa.Connection, table: sa.Table, key: sa.Column[Any], ids: set[str], decoder: msgspec.json.Decoder[Row]
) -> list[Row]:
    """The records with these ids that exist."""
    rows = []
    for part in in_batches(ids):
        for row in connection.execute(sa.select(table.c.version, table.c.body).where(key.in_(part))):
            rows.append(replace(decoder.decode(row.body), version=row.version))
    return rows
