"""Queries of clients. They read the records and the stored status of the cluster, and never call the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from odc.control.authorization import Authorizer
from odc.control.box_files import holder_of
from odc.control.context import ClusterStatus, Policy, Ports
from odc.control.disk_usage import DiskUsage, disk_usage
from odc.control.pools import pool_state
from odc.control.reserving import counts_on
from odc.control.status_records import StatusRecords
from odc.control.user_admin import UserAccount, Users
from odc.domain.access import Act, Principal
from odc.domain.commands import gpu_dev
from odc.domain.disk import Disk, Snapshot, VolumeLabel, snapshot_id
from odc.domain.errors import InvalidRequest, NotFound
from odc.domain.names import cut, near_match
from odc.domain.node import Node
from odc.domain.paging import Page, all_pages
from odc.domain.promise import ready_by
from odc.domain.records import AuditEvent, Stored, Subject
from odc.domain.reservation import Reservation, State
from odc.domain.status import ENDED, Status, WaitsFor
from odc.domain.user import User
from odc.scheduling import OpenWindow, PoolState, build_plan

MAX_ENDED = 500
STATUSES = frozenset(Status)

_SYNONYMS = {
    **dict.fromkeys(("running", "ready", "started"), "active"),
    **dict.fromkeys(("pending", "waiting"), "queued"),
    **dict.fromkeys(("starting", "creating"), "preparing"),
    **dict.fromkeys(("stopping", "terminating"), "ending"),
    **dict.fromkeys(("done", "completed", "finished", "over"), "expired"),
}
"""Names of statuses in other tools; used in suggestions only."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a queued reservation waits for.

    Attributes:
        kind: which of the three.
        reservation: the one before it, or the one that has the GPUs; None for a disk.
        disk: name of its own disk, if it waits for that.
    """

    kind: WaitsFor
    reservation: Reservation | None = None
    disk: str = ""


@dataclass(frozen=True, slots=True)
class ReservationDetail:
    """A reservation with the facts that depend on other reservations.

    Attributes:
        record: the reservation.
        disk: its disk, if it still has one.
        snapshot: the disk's last snapshot; of an ended reservation, the one taken at its end, while it is kept.
        position: place in its pool's queue, from 1; None when it is not queued.
        ahead: what it waits for; None when it is not queued, or waits for no other reservation.
    """

    record: Reservation
    disk: Disk | None = None
    snapshot: Snapshot | None = None
    position: int | None = None
    ahead: Ahead | None = None


@dataclass(frozen=True, slots=True)
class TypeAvailability:
    """One GPU type: its nodes, its reservations, and when each count could be had (key: GPUs, or 0 without)."""

    name: str
    nodes: tuple[Node, ...]
    free: int
    has_gpus: bool
    live: tuple[Reservation, ...]
    queued: tuple[Reservation, ...]
    choices: Mapping[int, OpenWindow]


class Queries:
    """Answers questions. May be called by several threads at once."""

    def __init__(self, ports: Ports, policy: Policy, status: StatusRecords, authorizer: Authorizer) -> None:
        self._ports = ports
        self._policy = policy
        self._status = status
        self._authorizer = authorizer

    @property
    def status(self) -> ClusterStatus:
        """The cluster as the last pass observed it."""
        return self._status.current

    def now(self) -> datetime:
        """The server's clock."""
        return self._ports.clock.now()

    def me(self, caller: Principal) -> User:
        """Return the caller's record; an empty one if none is stored yet.

        Raises:
            NotAllowed: as `Authorizer.admit`; every query of the caller's own records raises this too.
        """
        self._authorizer.admit(caller)
        return self._ports.store.find_user(caller.id) or User(principal=caller.id, name=caller.user)

    def find(self, caller: Principal, reference: str) -> ReservationDetail:
        """Return the reservation that the reference means to the caller.

        Raises:
            NotFound, InvalidRequest: as `Authorizer.resolve`.
        """
        self._authorizer.admit(caller)
        record = self._authorizer.resolve(caller, reference, Act.SEE_EXISTS)
        return self.details((record,), self._ports.store.observe() if record.state is State.QUEUED else None)[0]

    def version(self, reservation_id: str) -> int:
        """The stored version of a reservation; 0 if there is none."""
        record = self._ports.store.find_reservation(reservation_id)
        return record.version if record else 0

    def reservations(
        self, caller: Principal, user: str, ended: bool, statuses: frozenset[str]
    ) -> tuple[ReservationDetail, ...]:
        """Return reservations by place in line: every live one, and the newest of the ended.

        Args:
            caller: who asks.
            user: `me`, `all`, or a user's name.
            ended: ended ones too.
            statuses: only these, in any case; empty means any.

        Raises:
            InvalidRequest: a status that does not exist.
            NotFound: no user of this name is known.
        """
        self._authorizer.admit(caller)
        statuses = _known(statuses)
        owner = caller.id if user == "me" else None
        listed = {record.id: record for record in all_pages(partial(self._ports.history.list_live, owner))}
        if ended or statuses & set(ENDED):
            # A reservation that ended between the two lists is in both; the later read counts.
            listed |= {r.id: r for r in self._ports.history.list_ended(owner, limit=MAX_ENDED).items}
        return self._selected(caller, sorted(listed.values(), key=lambda record: record.order), user, statuses)

    def reservation_page(
        self, caller: Principal, user: str, ended: bool, statuses: frozenset[str], page: str, limit: int
    ) -> Page[ReservationDetail]:
        """Return a page of reservations: first the live ones, then the ended ones, each newest place in line first.

        A reservation that ends between two pages may be in both; the later page counts. A page may have fewer items
        than its limit, or none, and others may follow.

        Args:
            caller: who asks.
            user: as in `reservations`.
            ended: as in `reservations`.
            statuses: as in `reservations`.
            page: token from the page before; empty: the first page.
            limit: the most items of the page, 1 to `MAX_ENDED`.

        Raises:
            InvalidRequest: a status that does not exist, a limit out of range, or a token that is not of this list.
            NotFound: nobody has that user name.
        """
        self._authorizer.admit(caller)
        statuses = _known(statuses)
        if not 1 <= limit <= MAX_ENDED:
            raise InvalidRequest(f"limit must be 1 to {MAX_ENDED}, not {limit}")
        owner = caller.id if user == "me" else None
        part, _, token = page.rpartition(".")
        if part not in ("", "live", "ended"):
            raise InvalidRequest("the page token is not of this list; start again without one")
        listing = self._ports.history.list_ended if part == "ended" else self._ports.history.list_live
        found = listing(owner, token, limit)
        following = f"{part or 'live'}.{found.next}" if found.next else ""
        if not following and part != "ended" and (ended or statuses & set(ENDED)):
            following = "ended."
        return Page(items=self._selected(caller, found.items, user, statuses), next=following)

    def _selected(
        self, caller: Principal, listed: Iterable[Reservation], user: str, statuses: frozenset[str]
    ) -> tuple[ReservationDetail, ...]:
        found = tuple(
            record
            for record in listed
            if (user in ("me", "all") or record.user == user) and (not statuses or record.status in statuses)
        )
        if not found and user not in ("me", "all", caller.user):
            self._check_user(user)
        queued = any(record.state is State.QUEUED for record in found)
        return self.details(found, self._ports.store.observe() if queued else None)

    def _check_user(self, name: str) -> None:
        """Refuse a name that nobody has: it is mistyped, and an empty list would hide that."""
        names = {user.name for user in all_pages(self._ports.history.list_users)}
        if name not in names:
            near = near_match(cut(name), names)
            meant = f", did you mean {near}?" if near else ""
            everyone = ("everyone's", gpu_dev("list --user all --all"))
            raise NotFound(f"no user {cut(name)!r} is known here{meant}", everyone)

    def details(self, records: tuple[Reservation, ...], stored: Stored | None) -> tuple[ReservationDetail, ...]:
        """The records with their disks and places in the queue; `stored` is needed for queued ones."""
        owners = {record.owner for record in records}
        listed = (all_pages(partial(self._ports.history.list_disks, owner)) for owner in owners)
        disks = {disk.id: disk for several in listed for disk in several}
        own = self._own_snapshots(records)
        positions = QueuePositions(stored.reservations if stored else ())
        return tuple(
            ReservationDetail(
                record,
                disk,
                disk.last_snapshot if disk and record.live else own.get(record.id),
                positions.position(record),
                positions.ahead(record, disk),
            )
            for record in records
            for disk in (disks.get(record.disk_id or ""),)
        )

    def _own_snapshots(self, records: Iterable[Reservation]) -> dict[str, Snapshot]:
        """The snapshots that were taken at the ends of reservations and are kept; key: the reservation's id."""
        keys = {
            (record.disk_id, snapshot_id(holder_of(record))): record.id
            for record in records
            if record.disk_id and not record.live
        }
        found = self._ports.store.find_snapshots(keys) if keys else {}
        return {keys[key]: one.snapshot for key, one in found.items() if not one.deleting}

    def storage(self, caller: Principal, keep: int, owner: str, disk: str) -> tuple[DiskUsage, ...]:
        """Return every disk with its usage, for operators; the arguments are those of `disk_usage`.

        Raises:
            NotAllowed: the caller is not an operator.
            InvalidRequest, NotFound: as `disk_usage`.
        """
        self._authorizer.require(caller, Act.OPERATE)
        return disk_usage(self._ports, self.status.storage, keep, owner, disk)

    def history(self, caller: Principal, reference: str) -> tuple[Reservation, tuple[AuditEvent, ...]]:
        """Return the events of a reservation, for callers who may see all of it."""
        self._authorizer.admit(caller)
        record = self._authorizer.resolve(caller, reference, Act.SEE)
        return record, tuple(all_pages(partial(self._ports.history.list_events, Subject.reservation(record.id))))

    def disks(self, caller: Principal) -> tuple[tuple[Disk, Reservation | None], ...]:
        """The caller's disks by name, each with the reservation that holds it."""
        self._authorizer.admit(caller)
        found = all_pages(partial(self._ports.history.list_disks, caller.id))
        return tuple((disk, self._ports.store.find_reservation(disk.holder) if disk.holder else None) for disk in found)

    def orphaned_disks(self, caller: Principal) -> tuple[VolumeLabel, ...]:
        """The labels of the caller's disks that have files but no record, as of the last measurement."""
        self._authorizer.admit(caller)
        return tuple(label for label in self.status.storage.orphans if label.owner == caller.id)

    def users(self, caller: Principal) -> tuple[UserAccount, ...]:
        """Return every user with their disks and reservations, for operators.

        Raises:
            NotAllowed: the caller is not an operator.
        """
        self._authorizer.admit(caller)
        self._authorizer.require(caller, Act.OPERATE)
        return Users(self._ports).accounts()

    def availability(self) -> tuple[TypeAvailability, ...]:
        """Return every type that has nodes or live reservations: in the catalog's order, then the machine's own; last,
        those without GPUs.
        """
        stored, status, now = self._ports.store.observe(), self._status.current, self._ports.clock.now()
        here = {node.gpu_type for node in status.nodes} | {r.spec.gpu_type for r in stored.reservations}
        with_gpus = {name for name in here if self._policy.catalog.has_gpus(name)}
        known = [*self._policy.catalog.types]
        order = {name: place for place, name in enumerate(known)}
        types = sorted(here, key=lambda name: (name not in with_gpus, order.get(name, len(known)), name))
        return tuple(self._availability_of(gpu_type, stored, status, now) for gpu_type in types)

    def _availability_of(self, gpu_type: str, stored: Stored, status: ClusterStatus, now: datetime) -> TypeAvailability:
        pool = pool_state(gpu_type, stored, status.nodes, status.quarantined, self._policy.limits, now)
        nodes = tuple(node for node in status.nodes if node.gpu_type == gpu_type)
        ours = [record for record in stored.reservations if record.spec.gpu_type == gpu_type]
        largest = max((node.units for node in nodes), default=0)
        with_gpus = self._policy.catalog.has_gpus(gpu_type)
        plan = build_plan(pool)
        units = counts_on(largest) if with_gpus else ((1,) if nodes else ())
        return TypeAvailability(
            name=gpu_type,
            nodes=nodes,
            free=_free(pool),
            has_gpus=with_gpus,
            live=tuple(record for record in ours if record.occupies),
            queued=tuple(record for record in ours if record.state is State.QUEUED),
            choices={count if with_gpus else 0: self._open_window(plan.free_for(count), now) for count in units},
        )

    def _open_window(self, window: OpenWindow, now: datetime) -> OpenWindow:
        """Return the window that a user's reservation could use: from now, or from the promise that it would get, and
        without the time limits of preparing and stopping.
        """
        start, until, limits = window.start, window.until, self._policy.limits
        if start is not None and start > now:
            start = ready_by(start, limits)
        return OpenWindow(start=start, until=None if until is None else until - limits.prepare - limits.stop)


def _known(statuses: frozenset[str]) -> frozenset[str]:
    """Return the statuses in the spelling of `Status`.

    Raises:
        InvalidRequest: one of them does not exist.
    """
    statuses = frozenset(status.strip().lower() for status in statuses)
    unknown = statuses - STATUSES
    if unknown:
        near = _SYNONYMS.get(min(unknown)) or near_match(min(unknown), STATUSES)
        meant = f", did you mean {near}?" if near else ""
        raise InvalidRequest(f"no status {min(unknown)[:20]!r}{meant}; there are {', '.join(sorted(STATUSES))}")
    return statuses


def _free(pool: PoolState) -> int:
    """Return the number of units that are free now."""
    taken: dict[str, int] = {}
    for allocation in pool.allocations:
        taken[allocation.node] = taken.get(allocation.node, 0) + allocation.units
    return sum(max(node.units - taken.get(node.name, 0), 0) for node in pool.nodes if node.usable)


class QueuePositions:
    """The queue of every pool: each reservation's position and what it waits for. Made once for a whole list."""

    def __init__(self, records: Iterable[Reservation]) -> None:
        self._positions: dict[str, int] = {}
        self._before: dict[str, Reservation] = {}
        last: dict[str, tuple[int, Reservation]] = {}
        self._occupants: dict[str, list[Reservation]] = {}
        for record in sorted(records, key=lambda r: r.order):
            pool = record.spec.gpu_type
            if record.occupies:
                self._occupants.setdefault(pool, []).append(record)
            if record.state is State.QUEUED:
                if pool in last:
                    self._before[record.id] = last[pool][1]
                last[pool] = (last[pool][0] + 1 if pool in last else 1, record)
                self._positions[record.id] = last[pool][0]

    def position(self, record: Reservation) -> int | None:
        """Its place in its pool's queue, from 1; None if it is not queued."""
        return self._positions.get(record.id)

    def ahead(self, record: Reservation, disk: Disk | None) -> Ahead | None:
        """Return what it waits for: its own disk, else the reservation before it in the queue, else the GPUs of
        another.
        """
        if record.id not in self._positions:
            return None
        if disk is not None and disk.holder not in (None, record.id):
            return Ahead(WaitsFor.DISK, disk=disk.name)
        if before := self._before.get(record.id):
            return Ahead(WaitsFor.QUEUE, before)
        last = self._last_before(record)
        return Ahead(WaitsFor.GPUS, last) if last else None

    def _last_before(self, record: Reservation) -> Reservation | None:
        """Return the occupant that ends last before the promise, since it determines the promise; without a promise,
        the one that ends first.

        Cost: grows with the pool's occupants; asked for the head of each line only.
        """
        there = self._occupants.get(record.spec.gpu_type, [])
        promised = record.ready_by
        ending = [other for other in there if promised and other.expires_at and other.expires_at <= promised]
        return max(ending, key=_end_of) if ending else min(there, key=_end_of, default=None)


def _end_of(record: Reservation) -> tuple[bool, datetime]:
    return record.expires_at is None, record.expires_at or record.created_at
