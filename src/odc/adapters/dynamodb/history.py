"""The lists of `odc.ports.history` in DynamoDB: each is a range of one partition, sorted by the table or an index."""

from __future__ import annotations

from heapq import merge
from itertools import islice

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.table import (
    AFTER_ALL,
    BY_NAME,
    BY_ORDER,
    BY_OWNER,
    BY_OWNER_AND_NAME,
    Item,
    Table,
    is_key,
    joined,
)
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.paging import PAGE_SIZE, Page, page_of, page_start
from odc.domain.records import AuditEvent, Subject
from odc.domain.reservation import Reservation
from odc.domain.user import User


class DynamoHistory:
    """See `odc.ports.history`."""

    _table: Table

    def list_live(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have not ended, newest first."""
        return self._of_owner(f"live {owner}", items.LIVE, owner, page, limit)

    def list_ended(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have ended, newest first."""
        return self._of_owner(f"ended {owner}", items.ENDED, owner, page, limit)

    def _of_owner(self, listing: str, partition: str, owner: str | None, page: str, limit: int) -> Page[Reservation]:
        if owner is None:
            return self._newest(listing, (partition, BY_ORDER), (), page, limit)
        return self._newest(listing, (partition, BY_OWNER), (owner,), page, limit)

    def list_named(
        self, name: str, owner: str | None, live: bool, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations of this name, newest first."""
        listing, partition = f"named {live} {owner} {name}", items.LIVE if live else items.ENDED
        if not is_key(name):
            page_start(listing, page, int)
            return Page(items=())
        if owner is None:
            return self._newest(listing, (partition, BY_NAME), (name,), page, limit)
        return self._newest(listing, (partition, BY_OWNER_AND_NAME), (owner, name), page, limit)

    def _newest(
        self, listing: str, where: tuple[str, str], prefix: tuple[str, ...], page: str, limit: int
    ) -> Page[Reservation]:
        """A page of those whose sort key is the prefix and the place in line."""
        after = page_start(listing, page, int)
        between = (joined(*prefix, 0), joined(*prefix, AFTER_ALL if after is None else after - 1))
        found = self._table.query(where[0], between, index=where[1], newest=True, limit=limit + 1)
        records = [items.reservation_of(item) for item in islice(found, limit + 1)]
        return page_of(records, limit, listing, lambda record: record.order)

    def list_by_prefix(
        self, prefix: str, owner: str | None, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations whose id begins so, by id."""
        listing = f"prefix {owner} {prefix}"
        after = page_start(listing, page, str)
        between = (prefix if after is None else after + "0", prefix + AFTER_ALL)
        both = [self._table.query(part, between, limit=limit + 1, owner=owner) for part in (items.LIVE, items.ENDED)]
        found = merge(*both, key=_sort_key)
        records = [items.reservation_of(item) for item in islice(found, limit + 1)]
        return page_of(records, limit, listing, lambda record: record.id)

    def list_events(self, subject: Subject, page: str = "", limit: int = PAGE_SIZE) -> Page[AuditEvent]:
        """The events of a subject, in order. A page's token has the item, and the event's number in it."""
        listing = f"events {subject.kind} {subject.id}"
        after = page_start(listing, page, tuple[str, int]) or ("", -1)
        partition, prefix = items.events_key(subject)
        stored = self._table.query(partition, (after[0] or joined(*prefix, 0), joined(*prefix, AFTER_ALL)))
        flat = (
            ((item["sk"], number), items.event_of(body))
            for item in stored
            for number, body in enumerate(item["events"])
        )
        rows = page_of(
            list(islice((row for row in flat if row[0] > after), limit + 1)), limit, listing, lambda row: row[0]
        )
        return Page(items=tuple(event for _, event in rows.items), next=rows.next)

    def list_disks(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Disk]:
        """The owner's disks by name; with None everyone's."""
        listing = f"disks {owner}"
        after = page_start(listing, page, tuple[str, str])
        # Nothing sorts between a key and the same with the smallest character after it.
        first = joined(*after) + "\x01" if after else joined(owner or "", "") if owner else "\x01"
        last = joined(owner, AFTER_ALL) if owner else AFTER_ALL
        found = self._table.query(items.DISKS, (first, last), index=BY_OWNER_AND_NAME, limit=limit + 1)
        disks = [items.disk_of(item) for item in islice(found, limit + 1)]
        return page_of(disks, limit, listing, lambda disk: (disk.owner, disk.name))

    def list_snapshots(self, disk_id: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[SnapshotRecord]:
        """The disk's snapshots by number; with None of every disk."""
        listing = f"snapshots {disk_id}"
        after = page_start(listing, page, tuple[str, int])
        first = joined(after[0], after[1] + 1) if after else joined(disk_id or "", 0)
        last = joined(disk_id, AFTER_ALL) if disk_id is not None else AFTER_ALL
        found = self._table.query(items.SNAPSHOTS, (first, last), index=BY_ORDER, limit=limit + 1)
        records = [items.snapshot_of(item) for item in islice(found, limit + 1)]
        return page_of(records, limit, listing, lambda record: (record.disk_id, record.number))

    def list_users(self, page: str = "", limit: int = PAGE_SIZE) -> Page[User]:
        """Every user's record, by principal."""
        after = page_start("users", page, str)
        between = (after + "\x01", AFTER_ALL) if after else None
        found = self._table.query(items.USERS, between, limit=limit + 1)
        users = [items.user_of(item) for item in islice(found, limit + 1)]
        return page_of(users, limit, "users", lambda user: user.principal)


def _sort_key(item: Item) -> str:
    key: str = item["sk"]
    return key
