"""Deletion of old records in DynamoDB. What belongs to a reservation goes before it: a crash leaves no orphans."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.handovers import has_all
from odc.adapters.dynamodb.table import AFTER_ALL, BY_ORDER, BY_OWNER, SEPARATOR, Table, joined
from odc.adapters.dynamodb.transaction import micros
from odc.domain.records import Subject, SubjectKind
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
            partition, _ = items.events_key(Subject.reservation(reservation_id))
            events = list(self._table.query(partition))
            self._table.delete((item["pk"], item["sk"]) for item in events)
            self._table.delete([("secrets", reservation_id), (items.ENDED, reservation_id)])

    def list_event_subjects(self, before: datetime, most: int) -> tuple[Subject, ...]:
        """Return disks, nodes and users with events from before a moment."""
        between, found = (joined(0), joined(micros(before) - 1)), list[Subject]()
        for kind in (SubjectKind.DISK, SubjectKind.NODE, SubjectKind.USER):
            partition, _ = items.events_key(Subject(kind, ""))
            old = islice(self._table.query(partition, between, index=BY_ORDER, limit=most), most)
            found += dict.fromkeys(Subject(kind, item["sk"].partition(SEPARATOR)[0]) for item in old)
        return tuple(found)[:most]

    def delete_events(self, subject: Subject, before: datetime) -> None:
        """Delete the events of a subject from before a moment."""
        partition, prefix = items.events_key(subject)
        events = self._table.query(partition, (joined(*prefix, 0), joined(*prefix, AFTER_ALL)))
        old = [item for item in events if all(items.event_of(body).at < before for body in item["events"])]
        self._table.delete((item["pk"], item["sk"]) for item in old)
