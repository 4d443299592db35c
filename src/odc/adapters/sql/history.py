"""The lists of `odc.ports.history` in SQL; each statement is answered by an index alone, in the index's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.adapters.sql.database import Database
from odc.adapters.sql.rows import disk_of, reservation_of, snapshot_of, user_of
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.paging import PAGE_SIZE, Item, Page, page_of, page_start
from odc.domain.records import AuditEvent, Subject
from odc.domain.reservation import Reservation
from odc.domain.user import User

_event = msgspec.json.Decoder(AuditEvent)
_r = t.reservations.c
_RECORD = sa.select(_r.id, _r.owner, _r.place, _r.version, _r.body)


class SqlHistory(Database):
    """See `odc.ports.history`."""

    def list_live(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have not ended, newest first."""
        return self._newest(f"live {owner}", _owned(_RECORD.where(_r.live), owner), page, limit)

    def list_ended(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have ended, newest first."""
        return self._newest(f"ended {owner}", _owned(_RECORD.where(sa.not_(_r.live)), owner), page, limit)

    def list_named(
        self, name: str, owner: str | None, live: bool, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations of this name, newest first."""
        if "\0" in name:
            return Page(items=())  # PostgreSQL has no such text, and no name has it
        query = _RECORD.where(_r.name == name, _r.live if live else sa.not_(_r.live))
        return self._newest(f"named {live} {owner} {name}", _owned(query, owner), page, limit)

    def _newest(self, listing: str, query: sa.Select[Any], page: str, limit: int) -> Page[Reservation]:
        after = page_start(listing, page, int)
        if after is not None:
            query = query.where(_r.place < after)
        return self._page(listing, query.order_by(_r.place.desc()), limit, reservation_of, lambda row: row.place)

    def _page(
        self,
        listing: str,
        query: sa.Select[Any],
        limit: int,
        decode: Callable[[Any], Item],
        key: Callable[[Any], object],
    ) -> Page[Item]:
        with self._reading() as connection:
            rows = page_of(list(connection.execute(query.limit(limit + 1))), limit, listing, key)
        return Page(items=tuple(map(decode, rows.items)), next=rows.next)

    def list_by_prefix(
        self, prefix: str, owner: str | None, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations whose id begins so, by id."""
        listing = f"prefix {owner} {prefix}"
        after = page_start(listing, page, str)
        # No hexadecimal digit sorts after this one.
        query = _RECORD.where(_r.id >= prefix, _r.id < prefix + "g")
        if owner is not None:
            # Not by an index of owners: an id's beginning leaves fewer rows, and they are in order.
            query = query.where(_r.owner.concat("") == owner)
        if after is not None:
            query = query.where(_r.id > after)
        return self._page(listing, query.order_by(_r.id), limit, reservation_of, lambda row: row.id)

    def list_events(self, subject: Subject, page: str = "", limit: int = PAGE_SIZE) -> Page[AuditEvent]:
        """The events of a subject, in order."""
        e, listing = t.events.c, f"events {subject.kind} {subject.id}"
        about = sa.and_(e.subject_kind == str(subject.kind), e.subject_id == subject.id)
        query = sa.select(e.place, e.body).where(about).order_by(e.place)
        after = page_start(listing, page, int)
        if after is not None:
            query = query.where(e.place > after)
        return self._page(listing, query, limit, lambda row: _event.decode(row.body), lambda row: row.place)

    def list_disks(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Disk]:
        """The owner's disks by name; with None everyone's."""
        d, listing = t.disks.c, f"disks {owner}"
        query = sa.select(d.owner, d.name, d.version, d.body).order_by(d.owner, d.name)
        if owner is not None:
            query = query.where(d.owner == owner)
        after = page_start(listing, page, tuple[str, str])
        if after is not None:
            query = query.where(sa.tuple_(d.owner, d.name) > after)
        return self._page(listing, query, limit, disk_of, lambda row: (row.owner, row.name))

    def list_snapshots(self, disk_id: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[SnapshotRecord]:
        """The disk's snapshots by number; with None of every disk."""
        s, listing = t.snapshots.c, f"snapshots {disk_id}"
        query = sa.select(s.disk_id, s.number, s.body).order_by(s.disk_id, s.number)
        if disk_id is not None:
            query = query.where(s.disk_id == disk_id)
        after = page_start(listing, page, tuple[str, int])
        if after is not None:
            query = query.where(sa.tuple_(s.disk_id, s.number) > after)
        return self._page(listing, query, limit, snapshot_of, lambda row: (row.disk_id, row.number))

    def list_users(self, page: str = "", limit: int = PAGE_SIZE) -> Page[User]:
        """Every user's record, by principal."""
        u = t.users.c
        query = sa.select(u.principal, u.version, u.body).order_by(u.principal)
        after = page_start("users", page, str)
        if after is not None:
            query = query.where(u.principal > after)
        return self._page("users", query, limit, user_of, lambda row: row.principal)


def _owned(query: sa.Select[Any], owner: str | None) -> sa.Select[Any]:
    return query if owner is None else query.where(_r.owner == owner)
