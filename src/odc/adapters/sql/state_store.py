"""Records in SQLite or PostgreSQL, through SQLAlchemy Core.

Every write compares the version that was read, inside one transaction; unique indexes guard names and ids. SQLite
writers queue for the write lock, PostgreSQL's row locks do the same for each row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from odc.adapters.sql import tables as t
from odc.adapters.sql.change_writer import lock_for_writing, micros, set_clock_anchor, write_change
from odc.adapters.sql.disk_reserve import DiskReserve
from odc.adapters.sql.schema import open_engine
from odc.domain.commands import odc
from odc.domain.disk import Disk
from odc.domain.errors import Conflict, ProviderRefused, ProviderUnavailable
from odc.domain.pool_document import PoolDocument, decode_document
from odc.domain.records import (
    AuditEvent,
    Change,
    ClockAnchor,
    RequestRecord,
    ReservationQuery,
    Stored,
    StoreRoom,
)
from odc.domain.reservation import Reservation
from odc.domain.user import User

_reservation = msgspec.json.Decoder(Reservation)
_disk = msgspec.json.Decoder(Disk)
_user = msgspec.json.Decoder(User)
_event = msgspec.json.Decoder(AuditEvent)
_request = msgspec.json.Decoder(RequestRecord)
_anchor = msgspec.json.Decoder(ClockAnchor)
BATCH = 500
# PostgreSQL undid the transaction to let another through: a serialization failure, a deadlock.
_LOST_RACES = ("40001", "40P01")
Row = TypeVar("Row", Disk, User)


class SqlStateStore:
    """See `odc.ports.state_store`."""

    def __init__(self, address: str, reserve: DiskReserve | None = None) -> None:
        """Open the records and bring their schema up to date.

        Args:
            address: as SQLAlchemy reads it.
            reserve: space for the records when their file system is full; None: none is kept.

        Raises:
            ProviderUnavailable: the database does not answer.
            ProviderRefused: it was written by a newer version.
        """
        self._reserve = reserve
        self._engine = open_engine(address)
        # Decoded records by id, with the version they were decoded at; replaced whole, so threads may share it.
        self._decoded: dict[str, Reservation] = {}
        self._plans: dict[str, tuple[int, PoolDocument]] = {}

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Yield a connection in which all reads see one consistent snapshot."""
        level = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self._mapped(), self._engine.connect().execution_options(**level) as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._mapped(), self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the vendor's errors into ODC's: all except integrity errors count as passing."""
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            if getattr(cause, "sqlstate", None) in _LOST_RACES:
                raise Conflict("a write was rolled back in favour of another writer") from error
            if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                if self._reserve is not None:
                    self._reserve.release()
                text = "the file system of the records is full; nothing was written, and nothing is lost"
                raise ProviderUnavailable(text, ("see what is full", odc("doctor"))) from error
            words = str(cause).splitlines()[0]
            raise ProviderUnavailable(f"the database of records does not answer: {words}") from error

    def room(self) -> StoreRoom:
        """Return whether the records have space to grow; for PostgreSQL this is not checked."""
        try:
            return self._reserve.room() if self._reserve is not None else StoreRoom()
        except OSError as error:
            return StoreRoom(problem=f"the folder of the records cannot be read: {error.strerror or error}")

    def observe(self) -> Stored:
        """Return all live records, as one consistent snapshot; records that are unchanged since the last call are not
        decoded again.
        """
        r = t.reservations.c
        with self._reading() as connection:
            pools, plans = self._read_pools(connection)
            versions = connection.execute(sa.select(r.id, r.version).where(r.live).order_by(r.place)).all()
            known = self._decoded
            stale = [row.id for row in versions if row.id not in known or known[row.id].version != row.version]
            fresh, unreadable = self._decode_live(connection, stale)
            records = [fresh.get(row.id) or known[row.id] for row in versions if row.id not in unreadable]
            disks = _by_ids(connection, t.disks, t.disks.c.id, {x.disk_id for x in records if x.disk_id}, _disk)
            users = _by_ids(connection, t.users, t.users.c.principal, {x.owner for x in records}, _user)
            held = _users(connection, sa.select(t.users).where(t.users.c.claimed_by.is_not(None)))
        self._decoded = {record.id: record for record in records}
        return Stored(
            pools=pools,
            plans=plans,
            reservations=tuple(records),
            disks={disk.id: disk for disk in disks},
            users={user.principal: user for user in users},
            held=held,
            unreadable=unreadable,
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

    def _decode_live(self, connection: sa.Connection, ids: list[str]) -> tuple[dict[str, Reservation], dict[str, str]]:
        """The records by id, and the error of each that cannot be understood."""
        found: dict[str, Reservation] = {}
        unreadable: dict[str, str] = {}
        r = t.reservations.c
        for part in _parts(ids):
            for row in connection.execute(sa.select(r.id, r.owner, r.place, r.version, r.body).where(r.id.in_(part))):
                try:
                    found[row.id] = _full(row)
                except (msgspec.MsgspecError, ValueError) as error:
                    unreadable[row.id] = str(error)
        return found, unreadable

    def commit(self, change: Change) -> None:
        """Write the change, or nothing of it."""
        try:
            with self._writing() as connection:
                write_change(connection, change)
        except sa.exc.IntegrityError as error:
            raise Conflict("another one has that name or id") from error

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
        return _full(row) if row else None

    def list_reservations(self, query: ReservationQuery) -> tuple[Reservation, ...]:
        """The matching reservations, newest place in line first."""
        if "\0" in (query.name or ""):
            return ()  # PostgreSQL has no such text, and no name has it
        r = t.reservations.c
        wanted = sa.select(r.owner, r.place, r.version, r.body).order_by(r.place.desc()).limit(query.limit)
        if query.owner is not None:
            wanted = wanted.where(r.owner == query.owner)
        if query.id_prefix is not None:
            wanted = wanted.where(r.id >= query.id_prefix, r.id < query.id_prefix + "g")
        if query.name is not None:
            wanted = wanted.where(r.name == query.name)
        if query.states:
            wanted = wanted.where(r.state.in_([str(state) for state in query.states]))
            if all(state != "ended" for state in query.states):
                wanted = wanted.where(r.live)
        with self._reading() as connection:
            return tuple(_full(row) for row in connection.execute(wanted))

    def list_disks(self, owner: str | None) -> tuple[Disk, ...]:
        """The owner's disks by name; with None everyone's."""
        d = t.disks.c
        query = sa.select(d.version, d.body).order_by(d.owner, d.name)
        with self._reading() as connection:
            rows = connection.execute(query if owner is None else query.where(d.owner == owner))
            return tuple(replace(_disk.decode(row.body), version=row.version) for row in rows)

    def find_disk(self, disk_id: str) -> Disk | None:
        """The disk with exactly this id, or None."""
        with self._reading() as connection:
            found = _by_ids(connection, t.disks, t.disks.c.id, {disk_id}, _disk)
        return found[0] if found else None

    def list_users(self) -> tuple[User, ...]:
        """Every user's record, by principal."""
        with self._reading() as connection:
            return _users(connection, sa.select(t.users))

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests."""
        q = t.requests.c
        oldest = sa.select(q.id).where(q.received_us < micros(before)).order_by(q.received_us).limit(most)
        with self._writing() as connection:
            return connection.execute(sa.delete(t.requests).where(q.id.in_(oldest))).rowcount

    def prune_reservations(self, owner: str, keep: int, most: int) -> int:
        """Delete the owner's oldest ended reservations with their events."""
        r = t.reservations.c
        ended = sa.and_(r.owner == owner, sa.not_(r.live))
        with self._reading() as connection:
            first_gone = sa.select(r.place).where(ended).order_by(r.place.desc()).limit(1).offset(keep)
            last = connection.execute(first_gone).scalar()
            oldest = sa.select(r.id).where(ended, r.place <= (last or 0)).order_by(r.place).limit(most)
            ids = list(connection.execute(oldest).scalars())
        # An ended reservation never becomes live again, so this cannot change between reading and writing.
        for part in _parts(ids):
            with self._writing() as connection:
                connection.execute(sa.delete(t.events).where(t.events.c.reservation_id.in_(part)))
                connection.execute(sa.delete(t.reservations).where(r.id.in_(part)))
        return len(ids)

    def list_events(self, reservation_id: str) -> tuple[AuditEvent, ...]:
        """Return the events of a reservation, in order."""
        e = t.events.c
        with self._reading() as connection:
            query = sa.select(e.body).where(e.reservation_id == reservation_id).order_by(e.place)
            return tuple(_event.decode(body) for body in connection.execute(query).scalars())

    def find_user(self, principal: str) -> User | None:
        """The user's record, or None."""
        with self._reading() as connection:
            found = _by_ids(connection, t.users, t.users.c.principal, {principal}, _user)
        return found[0] if found else None

    def acquire_lease(self, name: str, holder: str, now: datetime, length: timedelta) -> bool:
        """Take or renew the lease."""
        until, at = micros(now + length), micros(now)
        leases = t.leases
        with self._writing() as connection:
            taken = connection.execute(
                sa.update(leases)
                .where(leases.c.name == name, sa.or_(leases.c.holder == holder, leases.c.until_us <= at))
                .values(holder=holder, until_us=until)
            )
            if taken.rowcount:
                return True
            known = connection.execute(sa.select(leases.c.holder).where(leases.c.name == name)).scalar()
            if known is not None:
                return False
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(leases).values(name=name, holder=holder, until_us=until))
            except sa.exc.IntegrityError:
                return False
            return True

    def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
        """Return the stored anchor; a given one replaces it."""
        query = sa.select(t.clock.c.body)
        if anchor is None:
            with self._reading() as connection:
                body = connection.execute(query).scalar()
        else:
            with self._writing() as connection:
                lock_for_writing(connection, t.clock)
                body = connection.execute(query).scalar()
                set_clock_anchor(connection, anchor)
        return _anchor.decode(body) if body else None

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


def _full(row: Any) -> Reservation:
    # The owner's column is the truth: a handover does not write the bodies of ended ones.
    return replace(_reservation.decode(row.body), owner=row.owner, version=row.version, order=row.place)


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in lists that fit one statement."""
    whole = sorted(ids)
    for begin in range(0, len(whole), BATCH):
        yield whole[begin : begin + BATCH]


def _by_ids(
    connection: sa.Connection, table: sa.Table, key: sa.Column[Any], ids: set[str], decoder: msgspec.json.Decoder[Row]
) -> list[Row]:
    rows = []
    for part in _parts(ids):
        for row in connection.execute(sa.select(table.c.version, table.c.body).where(key.in_(part))):
            rows.append(replace(decoder.decode(row.body), version=row.version))
    return rows


def _users(connection: sa.Connection, query: sa.Select[Any]) -> tuple[User, ...]:
    rows = connection.execute(query.order_by(t.users.c.principal))
    return tuple(replace(_user.decode(row.body), version=row.version) for row in rows)
