"""Deletion of old records in SQL."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.adapters.sql.change_writer import micros
from odc.adapters.sql.database import Database
from odc.adapters.sql.rows import in_batches


class SqlPruning(Database):
    """See `odc.ports.pruning`."""

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
        for part in in_batches(ids):
            with self._writing() as connection:
                connection.execute(sa.delete(t.events).where(t.events.c.reservation_id.in_(part)))
                connection.execute(sa.delete(t.secrets).where(t.secrets.c.reservation_id.in_(part)))
                connection.execute(sa.delete(t.reservations).where(r.id.in_(part)))
        return len(ids)
