"""Records in SQLite or PostgreSQL, through SQLAlchemy Core.

Every write compares the version that was read, inside one transaction; unique indexes guard names and ids. SQLite
writers queue for the write lock, PostgreSQL's row locks do the same for each row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.adapters.sql.change_writer import write_change
from odc.adapters.sql.disk_reserve import DiskReserve
from odc.adapters.sql.history import SqlHistory
from odc.adapters.sql.leases import SqlLeases
from odc.adapters.sql.live_records import LiveRecords, read_live
from odc.adapters.sql.pruning import SqlPruning
from odc.adapters.sql.rows import (
    disk_decoder,
    disk_of,
    in_batches,
    reservation_of,
    rows_by_id,
    snapshot_of,
    user_decoder,
    user_of,
)
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.document import Document
from odc.domain.errors import Conflict, ProviderRefused
from odc.domain.pool_document import PoolDocument, decode_document
from odc.domain.problem import Problem, ProblemKind
from odc.domain.records import Change, RequestRecord, Stored, StoreRoom
from odc.domain.reservation import Reservation, Secrets
from odc.domain.user import User

_request = msgspec.json.Decoder(RequestRecord)
_secrets = msgspec.json.Decoder(Secrets)


class SqlStateStore(SqlHistory, SqlLeases, SqlPruning):
    """All ports of the records: `state_store`, `documents`, `history`, `leases`, `pruning` and `store_space`."""

    def __init__(self, address: str, reserve: DiskReserve | None = None) -> None:
        """Open the records; the arguments and errors are those of `Database`."""
        super().__init__(address, reserve)
        # As they were read last; replaced whole, so threads may share it.
        self._live = LiveRecords()
        # Plans with the version of their pool, as they were read or written.
        self._plans: dict[str, tuple[int, PoolDocument]] = {}

    def room(self) -> StoreRoom:
        """Return whether the records have space to grow; for PostgreSQL this is not checked."""
        try:
            return self._reserve.room() if self._reserve is not None else StoreRoom()
        except OSError as error:
            why = error.strerror or str(error)
            return StoreRoom(problem=Problem(kind=ProblemKind.RECORDS_FOLDER, detail=why))

    def observe(self) -> Stored:
        """Return all live records, as one consistent snapshot; records that are unchanged since the last call are not
        decoded again.
        """
        with self._reading() as connection:
            pools, plans = self._read_pools(connection)
            live = read_live(connection, self._live)
            d = t.disks.c
            disks = map(disk_of, connection.execute(sa.select(d.version, d.body).where(d.concerns_passes)).all())
            claimed = sa.select(t.users).where(t.users.c.claimed_by.is_not(None)).order_by(t.users.c.principal)
            held = tuple(user_of(row) for row in connection.execute(claimed))
        self._live = live
        return Stored(
            pools=pools,
            plans=plans,
            reservations=live.records,
            disks={disk.id: disk for disk in disks},
            held=held,
            unreadable=live.unreadable,
        )

    def _read_pools(self, connection: sa.Connection) -> tuple[dict[str, int], dict[str, PoolDocument]]:
        """Return the version and the plan of each pool; a plan is read only if the version is new."""
        p, known = t.pools.c, self._plans
        pools = {row.name: row.version for row in connection.execute(sa.select(p.name, p.version))}
        stale = [name for name, version in pools.items() if name not in known or known[name][0] != version]
        fresh = {}
        if stale:
            for row in connection.execute(sa.select(p.name, p.plan).where(p.name.in_(stale))):
                fresh[row.name] = (pools[row.name], _plan_of(row.plan))
        self._plans = {name: fresh.get(name) or known[name] for name in pools}
        return pools, {name: plan for name, (_, plan) in self._plans.items()}

    def commit(self, change: Change) -> None:
        """Write the change, or nothing of it."""
        try:
            with self._writing() as connection:
                write_change(connection, change)
        except sa.exc.IntegrityError as error:
            raise Conflict("another one has that name or id") from error
        self._remember_plans(change)

    def _remember_plans(self, change: Change) -> None:
        """Keep what was just written: with the versions of this change, nobody else can have written anything."""
        known = self._plans
        for pool, version in change.pools.items():
            before = known.get(pool)
            if pool in change.plans:
                self._plans = {**self._plans, pool: (version + 1, change.plans[pool])}
            elif before is not None and before[0] == version:
                self._plans = {**self._plans, pool: (version + 1, before[1])}

    def find_request(self, request_id: str) -> RequestRecord | None:
        """The request with its answer, or None."""
        with self._reading() as connection:
            query = sa.select(t.requests.c.body).where(t.requests.c.id == request_id)
            body = connection.execute(query).scalar()
        return _request.decode(body) if body else None

    def find_reservation(self, reservation_id: str) -> Reservation | None:
        """The record with exactly this id, or None."""
        r = t.reservations.c
        with self._reading() as connection:
            row = connection.execute(
                sa.select(r.owner, r.place, r.version, r.body).where(r.id == reservation_id)
            ).first()
        return reservation_of(row) if row else None

    def find_secrets(self, reservation_id: str) -> Secrets | None:
        """Return the secrets of exactly this reservation, or None."""
        with self._reading() as connection:
            query = sa.select(t.secrets.c.body).where(t.secrets.c.reservation_id == reservation_id)
            body = connection.execute(query).scalar()
        return _secrets.decode(body) if body else None

    def find_in_line(self, order: int) -> Reservation | None:
        """The live reservation with this place in line, or None."""
        r = t.reservations.c
        with self._reading() as connection:
            query = sa.select(r.owner, r.place, r.version, r.body).where(r.place == order, r.live)
            row = connection.execute(query).first()
        return reservation_of(row) if row else None

    def find_disks(self, ids: Iterable[str]) -> dict[str, Disk]:
        """Return the disks that exist of those with these ids."""
        with self._reading() as connection:
            found = rows_by_id(connection, t.disks, t.disks.c.id, set(ids), disk_decoder)
        return {disk.id: disk for disk in found}

    def find_disk(self, disk_id: str) -> Disk | None:
        """The disk with exactly this id, or None."""
        with self._reading() as connection:
            found = rows_by_id(connection, t.disks, t.disks.c.id, {disk_id}, disk_decoder)
        return found[0] if found else None

    def find_snapshots(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], SnapshotRecord]:
        """Return the snapshots that exist of those with these ids."""
        s = t.snapshots.c
        found = {}
        with self._reading() as connection:
            for part in in_batches(keys):
                rows = connection.execute(sa.select(s.body).where(sa.tuple_(s.disk_id, s.id).in_(part)))
                found.update({(record.disk_id, record.id): record for record in map(snapshot_of, rows)})
        return found

    def find_user(self, principal: str) -> User | None:
        """The user's record, or None."""
        with self._reading() as connection:
            found = rows_by_id(connection, t.users, t.users.c.principal, {principal}, user_decoder)
        return found[0] if found else None

    def list_document_versions(self) -> dict[str, int]:
        """The version of every document."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(t.documents.c.name, t.documents.c.version))
            return {row.name: row.version for row in rows}

    def find_documents(self, names: Iterable[str]) -> tuple[Document, ...]:
        """The documents of these names that exist."""
        found: list[Document] = []
        with self._reading() as connection:
            for part in in_batches(names):
                rows = connection.execute(sa.select(t.documents).where(t.documents.c.name.in_(part)))
                found += [Document(name=row.name, version=row.version, body=row.body) for row in rows]
        return tuple(found)

    def back_up(self, target: Path) -> None:
        """A whole, consistent copy in a new SQLite file, while writers go on."""
        if self._engine.dialect.name != "sqlite":
            raise ProviderRefused("PostgreSQL makes its own backups", ("use it", "pg_dump"))
        if target.exists():
            raise ProviderRefused(f"{target} exists; a backup never replaces a file")
        with self._mapped(), self._engine.connect() as connection:
            source: Any = connection.connection.dbapi_connection
            copy = sqlite3.connect(target)
            try:
                source.backup(copy)
            finally:
                copy.close()


def _plan_of(body: bytes | None) -> PoolDocument:
    """The stored plan; an empty one if there is none, or one that cannot be read: the next pass makes it again."""
    try:
        return decode_document(body) if body else PoolDocument()
    except ValueError:
        return PoolDocument()
