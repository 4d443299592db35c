"""Deletion of old records in DynamoDB. What belongs to a reservation goes before it: a crash leaves no orphans."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.handovers import has_all
from odc.adapters.dynamodb.table import AFTER_ALL, BY_ORDER, BY_OWNER, Table, joined
from odc.adapters.dynamodb.transaction import micros
from odc.domain.records import Subject
from odc.domain.reservation import Reservation


class DynamoPruning:
    """See `odc.ports.pruning`."""

    _table: Table

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests."""
        between = (joined(0), joined(micros(before) - 1))
        oldest = list(islice(self._table.query("requests", between, index=BY_ORDER, limit=most), most))
        self._table.delete((item["pk"], item["sk"]) for item in oldest)
        return len(oldest)

    def list_oldest_ended(self, most: int) -> tuple[Reservation, ...]:
        """Return the ended reservations with the oldest places in line."""
        found = self._table.query(items.ENDED, (joined(0), AFTER_ALL), index=BY_ORDER, limit=most)
        return tuple(map(items.reservation_of, islice(found, most)))

    def list_ended_beyond(self, owner: str, keep: int, most: int) -> tuple[Reservation, ...]:
        """Return the owner's ended reservations beyond those that are kept."""
        newest = self._table.query(items.ENDED, has_all(owner), index=BY_OWNER, newest=True)
        beyond = list(islice(newest, keep, None))[::-1][:most]
        return tuple(map(items.reservation_of, beyond))

    def delete_ended(self, ids: Sequence[str]) -> None:
        """Delete these ended reservations, with their events and secrets."""
        for _, reservation_id in self._table.get_many((items.ENDED, key) for key in ids):
            events = list(self._table.query(items.events_key(Subject.reservation(reservation_id))))
            self._table.delete((item["pk"], item["sk"]) for item in events)
            self._table.delete([("secrets", reservation_id), (items.ENDED, reservation_id)])
