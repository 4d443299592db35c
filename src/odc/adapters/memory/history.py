"""The lists of `odc.ports.history` in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.paging import PAGE_SIZE, Item, Key, Page, page_of, page_start
from odc.domain.records import AuditEvent, Subject
from odc.domain.reservation import Reservation
from odc.domain.user import User


class MemoryHistory:
    """See `odc.ports.history`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._reservations: dict[str, Reservation] = {}
        self._disks: dict[str, Disk] = {}
        self._snapshots: dict[tuple[str, str], SnapshotRecord] = {}
        self._users: dict[str, User] = {}
        self._events: dict[int, AuditEvent] = {}
        self._next_event = 1

    def _append(self, events: Iterable[AuditEvent]) -> None:
        for event in events:
            self._events[self._next_event] = event
            self._next_event += 1

    def list_live(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have not ended, newest first."""
        return self._newest(f"live {owner}", lambda r: r.live and owner in (None, r.owner), page, limit)

    def list_ended(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have ended, newest first."""
        return self._newest(f"ended {owner}", lambda r: not r.live and owner in (None, r.owner), page, limit)

    def list_named(
        self, name: str, owner: str | None, live: bool, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations of this name, newest first."""

        def matches(record: Reservation) -> bool:
            return record.live == live and record.name == name and owner in (None, record.owner)

        return self._newest(f"named {live} {owner} {name}", matches, page, limit)

    def _newest(self, listing: str, matches: Callable[[Reservation], bool], page: str, limit: int) -> Page[Reservation]:
        after = page_start(listing, page, int)
        with self._lock:
            found = [r for r in self._reservations.values() if matches(r) and (after is None or r.order < after)]
        found.sort(key=lambda r: -r.order)
        return page_of(found[: limit + 1], limit, listing, lambda r: r.order)

    def list_by_prefix(
        self, prefix: str, owner: str | None, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations whose id begins so, by id."""
        listing = f"prefix {owner} {prefix}"
        with self._lock:
            found = [r for r in self._reservations.values() if r.id.startswith(prefix) and owner in (None, r.owner)]
        return _page(found, listing, lambda r: r.id, page_start(listing, page, str), limit)

    def list_events(self, subject: Subject, page: str = "", limit: int = PAGE_SIZE) -> Page[AuditEvent]:
        """The events of a subject, in order."""
        listing = f"events {subject.kind} {subject.id}"
        with self._lock:
            found = [item for item in self._events.items() if item[1].subject == subject]
        rows = _page(found, listing, lambda item: item[0], page_start(listing, page, int), limit)
        return Page(items=tuple(event for _, event in rows.items), next=rows.next)

    def list_disks(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Disk]:
        """The owner's disks by name; with None everyone's."""
        listing = f"disks {owner}"
        with self._lock:
            found = [disk for disk in self._disks.values() if owner in (None, disk.owner)]
        after = page_start(listing, page, tuple[str, str])
        return _page(found, listing, lambda disk: (disk.owner, disk.name), after, limit)

    def list_snapshots(self, disk_id: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[SnapshotRecord]:
        """The disk's snapshots by number; with None of every disk."""
        listing = f"snapshots {disk_id}"
        with self._lock:
            found = [record for record in self._snapshots.values() if disk_id in (None, record.disk_id)]
        after = page_start(listing, page, tuple[str, int])
        return _page(found, listing, lambda record: (record.disk_id, record.number), after, limit)

    def list_users(self, page: str = "", limit: int = PAGE_SIZE) -> Page[User]:
        """Every user's record, by principal."""
        with self._lock:
            found = list(self._users.values())
        return _page(found, "users", lambda user: user.principal, page_start("users", page, str), limit)


def _page(found: list[Item], listing: str, key: Callable[[Item], Key], after: Key | None, limit: int) -> Page[Item]:
    left = sorted((item for item in found if after is None or key(item) > after), key=key)  # type: ignore[operator, arg-type]
    return page_of(left[: limit + 1], limit, listing, key)
