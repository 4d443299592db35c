"""Deletion of old records in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.adapters.sql.change_writer import micros
from odc.adapters.sql.database import Database
from odc.adapters.sql.rows import in_batches, reservation_of
from odc.domain.records import AuditEvent, Subject, SubjectKind
from odc.domain.reservation import Reservation

_r = t.reservations.c
_ended = sa.not_(_r.live)
_RECORD = sa.select(_r.owner, _r.place, _r.version, _r.body)
_e = t.events.c
_event = msgspec.json.Decoder(AuditEvent)
_OTHERS = (SubjectKind.DISK, SubjectKind.NODE, SubjectKind.USER)


class SqlPruning(Database):
    """See `odc.ports.pruning`."""

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests."""
        q = t.requests.c
        oldest = sa.select(q.id).where(q.received_us < micros(before)).order_by(q.received_us).limit(most)
        with self._writing() as connection:
            return connection.execute(sa.delete(t.requests).where(q.id.in_(oldest))).rowcount

    def list_oldest_ended(self, most: int) -> tuple[Reservation, ...]:
        """Return the ended reservations with the oldest places in line."""
        with self._reading() as connection:
            rows = connection.execute(_RECORD.where(_ended).order_by(_r.place).limit(most))
            return tuple(map(reservation_of, rows))

    def list_ended_beyond(self, owner: str, keep: int, most: int) -> tuple[Reservation, ...]:
        """Return the owner's ended reservations beyond those that are kept."""
        own = sa.and_(_r.owner == owner, _ended)
        with self._reading() as connection:
            first_gone = sa.select(_r.place).where(own).order_by(_r.place.desc()).limit(1).offset(keep)
            last = connection.execute(first_gone).scalar()
            rows = connection.execute(_RECORD.where(own, _r.place <= (last or 0)).order_by(_r.place).limit(most))
            return tuple(map(reservation_of, rows))

    def delete_ended(self, ids: Sequence[str]) -> None:
        """Delete these ended reservations, with their events and secrets."""
        for part in in_batches(ids):
            with self._writing() as connection:
                gone = list(connection.execute(sa.select(_r.id).where(_r.id.in_(part), _ended)).scalars())
                about = sa.and_(_e.subject_kind == str(SubjectKind.RESERVATION), _e.subject_id.in_(gone))
                connection.execute(sa.delete(t.events).where(about))
                connection.execute(sa.delete(t.secrets).where(t.secrets.c.reservation_id.in_(gone)))
                connection.execute(sa.delete(t.reservations).where(_r.id.in_(gone)))

    def list_event_subjects(self, before: datetime, most: int) -> tuple[Subject, ...]:
        """Return disks, nodes and users whose first event is from before a moment."""
        first = sa.select(sa.func.min(_e.place)).where(_e.subject_kind.in_(map(str, _OTHERS)))
        first = first.group_by(_e.subject_kind, _e.subject_id)
        with self._reading() as connection:
            places = sorted(connection.execute(first).scalars())[:most]
            bodies = [
                body
                for part in in_batches(places)
                for body in connection.execute(sa.select(_e.body).where(_e.place.in_(part))).scalars()
            ]
        return tuple(event.subject for event in map(_event.decode, bodies) if event.at < before)

    def delete_events(self, subject: Subject, before: datetime) -> None:
        """Delete the events of a subject from before a moment."""
        about = sa.and_(_e.subject_kind == str(subject.kind), _e.subject_id == subject.id)
        with self._writing() as connection:
            rows = connection.execute(sa.select(_e.place, _e.body).where(about)).all()
            for part in in_batches([row.place for row in rows if _event.decode(row.body).at < before]):
                connection.execute(sa.delete(t.events).where(_e.place.in_(part)))
