"""Queries of clients. They read the records and the stored status of the cluster, and never call the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from odc.control.authorization import Authorizer
from odc.control.availability import TypeAvailability, availability
from odc.control.box_files import holder_of
from odc.control.context import ClusterStatus, Policy, Ports
from odc.control.disk_usage import DiskUsage, disk_usage
from odc.control.queue_positions import Ahead, QueuePositions
from odc.control.status_records import StatusRecords
from odc.control.user_admin import UserAccount, Users
from odc.domain.access import Act, Principal, allowed
from odc.domain.commands import gpu_dev
from odc.domain.disk import Disk, Snapshot, VolumeLabel, snapshot_id
from odc.domain.errors import InvalidRequest, NotFound
from odc.domain.names import cut, near_match
from odc.domain.paging import all_pages
from odc.domain.records import AuditEvent, Subject
from odc.domain.reservation import Reservation, State
from odc.domain.status import ENDED, Status
from odc.domain.user import User

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
class ReservationPart:
    """A page of a list of reservations.

    Attributes:
        items: in the list's order.
        next: token of the next page; empty on the last one.
        ended_read: how many ended reservations were read for this page, including those that were not selected.
    """

    items: tuple[ReservationDetail, ...]
    next: str
    ended_read: int


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
        return self.details(caller, (record,))[0]

    def version(self, reservation_id: str) -> int:
        """The stored version of a reservation; 0 if there is none."""
        record = self._ports.store.find_reservation(reservation_id)
        return record.version if record else 0

    def reservations(
        self, caller: Principal, user: str, ended: bool, statuses: frozenset[str]
    ) -> tuple[ReservationDetail, ...]:
        """Return reservations by place in line: every live one, and those of the newest `MAX_ENDED` ended ones that are
        selected.

        Args:
            caller: who asks.
            user: `me`, `all`, or a user's name. Only reservations of the user's principal are read; if no user, a
                forgotten one or several have the name, those of everyone are.
            ended: ended ones too.
            statuses: only these, in any case; empty means any.

        Raises:
            InvalidRequest: a status that does not exist.
            NotFound: no user of this name is known.
        """
        self._authorizer.admit(caller)
        statuses = _known(statuses)
        owner, name = self._owner(caller, user)
        listed = {record.id: record for record in all_pages(partial(self._ports.history.list_live, owner))}
        if ended or statuses & set(ENDED):
            # A reservation that ended between the two lists is in both; the later read counts.
            listed |= {r.id: r for r in self._ports.history.list_ended(owner, limit=MAX_ENDED).items}
        return self._selected(caller, sorted(listed.values(), key=lambda record: record.order), name, statuses)

    def reservation_page(
        self, caller: Principal, user: str, ended: bool, statuses: frozenset[str], page: str, limit: int
    ) -> ReservationPart:
        """Return a page of reservations: first the live ones, then the ended ones, each newest place in line first.

        A reservation that ends between two pages may be in both; the later page counts. A page may have fewer items
        than its limit, or none, and others may follow.

        Args:
            caller: who asks.
            user: as in `reservations`.
            ended: as in `reservations`.
            statuses: as in `reservations`.
            page: token from the page before; empty: the first page.
            limit: how many reservations are read for the page, 1 to `MAX_ENDED`.

        Raises:
            InvalidRequest: a status that does not exist, a limit out of range, or a token that is not of this list.
            NotFound: nobody has that user name.
        """
        self._authorizer.admit(caller)
        statuses = _known(statuses)
        if not 1 <= limit <= MAX_ENDED:
            raise InvalidRequest(f"limit must be 1 to {MAX_ENDED}, not {limit}")
        owner, name = self._owner(caller, user)
        part, _, token = page.rpartition(".")
        if part not in ("", "live", "ended"):
            raise InvalidRequest("the page token is not of this list; start again without one")
        listing = self._ports.history.list_ended if part == "ended" else self._ports.history.list_live
        found = listing(owner, token, limit)
        following = f"{part or 'live'}.{found.next}" if found.next else ""
        if not following and part != "ended" and (ended or statuses & set(ENDED)):
            following = "ended."
        return ReservationPart(
            items=self._selected(caller, found.items, name, statuses),
            next=following,
            ended_read=len(found.items) if part == "ended" else 0,
        )

    def _owner(self, caller: Principal, user: str) -> tuple[str | None, str]:
        """Return the principal whose reservations are read, None for everyone's; and the user's name that they must
        have, empty for any.

        What an operator gave to a principal has the name of the previous owner where it had ended before.
        """
        if user in ("me", "all"):
            return caller.id if user == "me" else None, ""
        named = [known for known in all_pages(self._ports.history.list_users) if known.name == user]
        return (named[0].principal, "") if len(named) == 1 and not named[0].is_former else (None, user)

    def _selected(
        self, caller: Principal, listed: Iterable[Reservation], name: str, statuses: frozenset[str]
    ) -> tuple[ReservationDetail, ...]:
        found = tuple(
            record for record in listed if name in ("", record.user) and (not statuses or record.status in statuses)
        )
        if not found and name not in ("", caller.user):
            self._check_user(name)
        return self.details(caller, found)

    def _check_user(self, name: str) -> None:
        """Refuse a name that nobody has: it is mistyped, and an empty list would hide that."""
        names = {user.name for user in all_pages(self._ports.history.list_users)}
        if name not in names:
            near = near_match(cut(name), names)
            meant = f", did you mean {near}?" if near else ""
            everyone = ("everyone's", gpu_dev("list --user all --all"))
            raise NotFound(f"no user {cut(name)!r} is known here{meant}", everyone)

    def details(self, caller: Principal, records: tuple[Reservation, ...]) -> tuple[ReservationDetail, ...]:
        """The records with their places in the queue; with their disks and what they wait for, if the caller may see
        that.
        """
        private = tuple(record for record in records if allowed(caller, Act.SEE, record.owner))
        seen = {record.id for record in private}
        disks = self._ports.store.find_disks({record.disk_id for record in private if record.disk_id})
        own = self._own_snapshots(private)
        queued = any(record.state is State.QUEUED for record in records)
        positions = QueuePositions(self.status.outlooks if queued else {}, self._ports.store, records)
        return tuple(
            ReservationDetail(
                record,
                disk,
                disk.last_snapshot if disk and record.live else own.get(record.id),
                positions.position(record),
                positions.ahead(record, disk) if record.id in seen else None,
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
        return availability(self.status, self._policy, self.now())


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
