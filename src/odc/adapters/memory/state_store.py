"""Records in memory, with every rule of the real store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from odc.adapters.memory.history import MemoryHistory
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.document import Document
from odc.domain.errors import Conflict, InvariantError
from odc.domain.pool_document import PoolDocument
from odc.domain.records import (
    Change,
    ClockAnchor,
    Handover,
    RequestRecord,
    Stored,
    StoreRoom,
    Subject,
    SubjectKind,
)
from odc.domain.reservation import Reservation, Secrets
from odc.domain.user import User


class MemoryStateStore(MemoryHistory):
    """All ports of the records: `state_store`, `documents`, `history`, `leases`, `pruning` and `store_space`.

    Nothing outlives the process.
    """

    def __init__(self, most_items: int | None = None) -> None:
        """Make an empty store.

        Args:
            most_items: a change of more items is a bug of its writer, as in the store that takes the fewest; None: any
                number is taken.
        """
        super().__init__()
        self._most_items = most_items
        self.space = StoreRoom()
        self._pools: dict[str, int] = {}
        self._plans: dict[str, PoolDocument] = {}
        self._secrets: dict[str, Secrets] = {}
        self._live: dict[str, Reservation] = {}
        self._hidden: dict[str, str] = {}
        self._documents: dict[str, Document] = {}
        self._requests: dict[str, RequestRecord] = {}
        self._leases: dict[str, tuple[str, datetime]] = {}
        self._anchor: ClockAnchor | None = None
        self._next_order = 1

    def room(self) -> StoreRoom:
        """Return the value that a test has set."""
        return self.space

    def observe(self) -> Stored:
        """Return all live records, as one consistent snapshot."""
        with self._lock:
            live = sorted((r for r in self._live.values() if r.id not in self._hidden), key=lambda r: r.order)
            return Stored(
                pools=dict(self._pools),
                plans=dict(self._plans),
                reservations=tuple(live),
                disks={key: disk for key, disk in self._disks.items() if disk.concerns_passes},
                held=tuple(user for key, user in sorted(self._users.items()) if user.claimed_by),
                unreadable=dict(self._hidden),
            )

    def commit(self, change: Change) -> None:
        """Write the change, or nothing of it."""
        if self._most_items is not None and change.items > self._most_items:
            raise InvariantError(f"a change of {change.items} items; at most {self._most_items} are written at once")
        with self._lock:
            self._check(change)
            for pool, version in change.pools.items():
                self._pools[pool] = version + 1
            self._plans.update(change.plans)
            for record in change.reservations:
                self._write(record)
            self._secrets |= {secrets.reservation_id: secrets for secrets in change.secrets}
            self._disks |= {disk.id: replace(disk, version=disk.version + 1) for disk in change.disks}
            self._snapshots |= {(record.disk_id, record.id): record for record in change.snapshots}
            for gone in change.deleted_snapshots:
                self._snapshots.pop((gone.disk_id, gone.id), None)
            self._users |= {user.principal: replace(user, version=user.version + 1) for user in change.users}
            self._documents |= {one.name: replace(one, version=one.version + 1) for one in change.documents}
            if change.handover is not None:
                self._hand_over(change.handover)
            self._anchor = change.clock_anchor or self._anchor
            self._append(change.events)
            if change.request is not None:
                self._requests[change.request.id] = change.request

    def _write(self, record: Reservation) -> None:
        order = record.order
        if record.version == 0:
            order, self._next_order = self._next_order, self._next_order + 1
        written = replace(record, version=record.version + 1, order=order)
        self._reservations[record.id] = written
        self._live.pop(record.id, None)
        if written.live:
            self._live[record.id] = written

    def _hand_over(self, handover: Handover) -> None:
        old = handover.user.principal
        for record in [r for r in self._reservations.values() if r.owner == old and not r.live]:
            self._reservations[record.id] = replace(record, owner=handover.to, version=record.version + 1)
        del self._users[old]

    def _check(self, change: Change) -> None:
        if change.handover is not None:
            gone = change.handover.user
            known_user = self._users.get(gone.principal)
            _same(f"user {gone.principal}", known_user.version if known_user else 0, gone.version)
        for pool, version in change.pools.items():
            _same(f"pool {pool}", self._pools.get(pool, 0), version)
        for record in change.reservations:
            known = self._reservations.get(record.id)
            _same(f"reservation {record.id}", known.version if known else 0, record.version)
        for disk in change.disks:
            known_disk = self._disks.get(disk.id)
            _same(f"disk {disk.id}", known_disk.version if known_disk else 0, disk.version)
        for user in change.users:
            stored_user = self._users.get(user.principal)
            _same(f"user {user.principal}", stored_user.version if stored_user else 0, user.version)
        for document in change.documents:
            stored = self._documents.get(document.name)
            _same(f"document {document.name}", stored.version if stored else 0, document.version)
        if change.request is not None and change.request.id in self._requests:
            raise Conflict(f"request {change.request.id} is taken")
        self._check_names(change)

    def _check_names(self, change: Change) -> None:
        reservations = self._live | {record.id: record for record in change.reservations}
        held = [(record.owner, record.name) for record in reservations.values() if record.holds_name]
        disks = self._disks | {disk.id: disk for disk in change.disks}
        named = [(disk.owner, disk.name) for disk in disks.values()]
        if len(set(held)) != len(held) or len(set(named)) != len(named):
            raise Conflict("another one of the owner has that name")

    def find_request(self, request_id: str) -> RequestRecord | None:
        """The request with its answer, or None."""
        with self._lock:
            return self._requests.get(request_id)

    def find_reservation(self, reservation_id: str) -> Reservation | None:
        """The record with exactly this id, or None."""
        with self._lock:
            return self._reservations.get(reservation_id)

    def find_secrets(self, reservation_id: str) -> Secrets | None:
        """Return the secrets of exactly this reservation, or None."""
        with self._lock:
            return self._secrets.get(reservation_id)

    def find_in_line(self, order: int) -> Reservation | None:
        """The live reservation with this place in line, or None."""
        with self._lock:
            return next((record for record in self._live.values() if record.order == order), None)

    def find_disks(self, ids: Iterable[str]) -> dict[str, Disk]:
        """Return the disks that exist of those with these ids."""
        with self._lock:
            return {disk_id: self._disks[disk_id] for disk_id in ids if disk_id in self._disks}

    def find_disk(self, disk_id: str) -> Disk | None:
        """The disk with exactly this id, or None."""
        with self._lock:
            return self._disks.get(disk_id)

    def list_document_versions(self) -> dict[str, int]:
        """The version of every document."""
        with self._lock:
            return {name: document.version for name, document in self._documents.items()}

    def find_documents(self, names: Iterable[str]) -> tuple[Document, ...]:
        """The documents of these names that exist."""
        with self._lock:
            return tuple(self._documents[name] for name in names if name in self._documents)

    def find_snapshots(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], SnapshotRecord]:
        """Return the snapshots that exist of those with these ids."""
        with self._lock:
            return {key: self._snapshots[key] for key in keys if key in self._snapshots}

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests."""
        with self._lock:
            old = sorted((r for r in self._requests.values() if r.received_at < before), key=lambda r: r.received_at)
            for request in old[:most]:
                del self._requests[request.id]
            return len(old[:most])

    def list_oldest_ended(self, most: int) -> tuple[Reservation, ...]:
        """Return the ended reservations with the oldest places in line."""
        with self._lock:
            return tuple(sorted((r for r in self._reservations.values() if not r.live), key=_place)[:most])

    def list_ended_beyond(self, owner: str, keep: int, most: int) -> tuple[Reservation, ...]:
        """Return the owner's ended reservations beyond those that are kept."""
        with self._lock:
            ended = sorted((r for r in self._reservations.values() if r.owner == owner and not r.live), key=_place)
        return tuple(ended[: max(len(ended) - keep, 0)][:most])

    def delete_ended(self, ids: Sequence[str]) -> None:
        """Delete these ended reservations, with their events and secrets."""
        with self._lock:
            gone = {key for key in ids if key in self._reservations and not self._reservations[key].live}
            subjects = {Subject.reservation(key) for key in gone}
            self._reservations = {key: r for key, r in self._reservations.items() if key not in gone}
            self._secrets = {key: secrets for key, secrets in self._secrets.items() if key not in gone}
            self._events = {key: event for key, event in self._events.items() if event.subject not in subjects}

    def list_event_subjects(self, before: datetime, most: int) -> tuple[Subject, ...]:
        """Return disks, nodes and users with events from before a moment."""
        with self._lock:
            found = dict.fromkeys(event.subject for event in self._events.values() if event.at < before)
        return tuple(subject for subject in found if subject.kind is not SubjectKind.RESERVATION)[:most]

    def delete_events(self, subject: Subject, before: datetime) -> None:
        """Delete the events of a subject from before a moment."""
        with self._lock:
            self._events = {
                key: event for key, event in self._events.items() if event.subject != subject or event.at >= before
            }

    def find_user(self, principal: str) -> User | None:
        """The user's record, or None."""
        with self._lock:
            return self._users.get(principal)

    def acquire_lease(self, name: str, holder: str, now: datetime, length: timedelta) -> bool:
        """Take or renew the lease."""
        with self._lock:
            known, until = self._leases.get(name, (holder, now))
            if known != holder and until > now:
                return False
            self._leases[name] = (holder, now + length)
            return True

    def expire_lease(self, name: str) -> None:
        """End the lease."""
        with self._lock:
            self._leases.pop(name, None)

    def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
        """Return the stored anchor; a given one replaces it."""
        with self._lock:
            before = self._anchor
            self._anchor = anchor or before
            return before

    def hide(self, reservation_id: str, why: str) -> None:
        """Make a live record unreadable from now on, as if a newer version had written it."""
        with self._lock:
            self._hidden[reservation_id] = why


def _place(record: Reservation) -> int:
    return record.order


def _same(what: str, stored: int, read: int) -> None:
    if stored != read:
        raise Conflict(f"{what} has changed: version {stored}, read was {read}")
