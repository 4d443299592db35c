"""Leases and the clock anchor in SQL."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from odc.adapters.sql import tables as t
from odc.adapters.sql.change_writer import lock_for_writing, micros, set_clock_anchor
from odc.adapters.sql.database import Database
from odc.domain.records import ClockAnchor

_anchor = msgspec.json.Decoder(ClockAnchor)


class SqlLeases(Database):
    """See `odc.ports.leases`."""

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

    def expire_lease(self, name: str) -> None:
        """End the lease."""
        with self._writing() as connection:
            connection.execute(sa.update(t.leases).where(t.leases.c.name == name).values(until_us=0))

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
