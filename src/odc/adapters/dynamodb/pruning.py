"""Deletion of old records in DynamoDB. What belongs to a reservation goes before it: a crash leaves no orphans."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.handovers import has_all
from odc.adapters.dynamodb.table import BY_ORDER, BY_OWNER, Table, joined
from odc.adapters.dynamodb.transaction import micros


class DynamoPruning:
    """See `odc.ports.pruning`."""

    _table: Table

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests."""
        between = (joined(0), joined(micros(before) - 1))
        oldest = list(islice(self._table.query("requests", between, index=BY_ORDER, limit=most), most))
        self._table.delete((item["pk"], item["sk"]) for item in oldest)
        return len(oldest)

    def prune_reservations(self, owner: str, keep: int, most: int) -> int:
        """Delete the owner's oldest ended reservations with their events."""
        newest = self._table.query(items.ENDED, has_all(owner), index=BY_OWNER, newest=True)
        beyond = [item["sk"] for item in islice(newest, keep, None)][::-1][:most]
        for reservation_id in beyond:
            events = list(self._table.query(f"events {reservation_id}"))
            self._table.delete((item["pk"], item["sk"]) for item in events)
            self._table.delete([("secrets", reservation_id), (items.ENDED, reservation_id)])
        return len(beyond)
