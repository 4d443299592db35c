"""What clients may know. Reads records and the last look at the cluster; asks the cluster nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from odc.control.context import Look, Policy, Ports, Sight
from odc.control.gate import Gate
from odc.control.pools import pool_picture
from odc.control.reserving import counts_on
from odc.domain.access import Act, Principal
from odc.domain.disk import Disk
from odc.domain.errors import InvalidRequest
from odc.domain.node import Node
from odc.domain.records import Event, ReservationQuery, Stored
from odc.domain.reservation import EndReason, Reservation, State
from odc.domain.user import User
from odc.scheduling import Opening, Picture, PoolPlan

LIVE = frozenset(state for state in State if state is not State.ENDED)
STATUSES = frozenset({*(str(state) for state in State if state is not State.ENDED), *(str(r) for r in EndReason)})


@dataclass(frozen=True, slots=True)
class Standing:
    """A reservation with what can only be said beside others.

    Attributes:
        record: the reservation.
        disk: its disk, if it still has one.
        position: place in its pool's queue, from 1; None when it is not queued.
        ahead: who holds what it waits for, as `user, 8 x h100`.
    """

    record: Reservation
    disk: Disk | None = None
    position: int | None = None
    ahead: str = ""


@dataclass(frozen=True, slots=True)
class TypeOutlook:
    """One GPU type: its nodes, its reservations, and when each count could be had (key: GPUs, or 0 without)."""

    name: str
    nodes: tuple[Node, ...]
    free: int
    live: tuple[Reservation, ...]
    queued: tuple[Reservation, ...]
    choices: Mapping[int, Opening]


class Queries:
    """Answers questions. May be called by several threads at once."""

    def __init__(self, ports: Ports, policy: Policy, sight: Sight, gate: Gate) -> None:
        self._ports = ports
        self._policy = policy
        self._sight = sight
        self._gate = gate

    @property
    def look(self) -> Look:
        """What the last pass saw."""
        return self._sight.look

    def now(self) -> datetime:
        """The server's clock."""
        return self._ports.clock.now()

    def me(self, caller: Principal) -> User:
        """The caller's record; an empty one if nothing is stored yet."""
        return self._ports.store.find_user(caller.id) or User(principal=caller.id, name=caller.user)

    def find(self, caller: Principal, reference: str) -> Standing:
        """The reservation that is meant.

        Raises:
            NotFound, InvalidRequest: as `Gate.resolve`.
        """
        record = self._gate.resolve(caller, reference, Act.SEE_EXISTS)
        return self.standings((record,), self._ports.store.observe() if record.state is State.QUEUED else None)[0]

    def version(self, reservation_id: str) -> int:
        """The stored version of a reservation; 0 if there is none."""
        record = self._ports.store.find_reservation(reservation_id)
        return record.version if record else 0

    def reservations(self, caller: Principal, user: str, ended: bool, statuses: frozenset[str]) -> tuple[Standing, ...]:
        """Reservations by place in line.

        Args:
            caller: who asks.
            user: `me`, `all`, or a user's name.
            ended: ended ones too.
            statuses: only these; empty means any.

        Raises:
            InvalidRequest: a status that does not exist.
        """
        unknown = statuses - STATUSES
        if unknown:
            raise InvalidRequest(f"no status {min(unknown)[:20]!r}; there are {', '.join(sorted(STATUSES))}")
        wants_ended = ended or bool(statuses & {str(reason) for reason in EndReason})
        owner = caller.id if user == "me" else None
        query = ReservationQuery(owner=owner, states=frozenset() if wants_ended else LIVE, limit=500)
        found = [
            record
            for record in self._ports.store.list_reservations(query)
            if (user in ("me", "all") or record.user == user) and (not statuses or record.status in statuses)
        ]
        queued = any(record.state is State.QUEUED for record in found)
        return self.standings(tuple(reversed(found)), self._ports.store.observe() if queued else None)

    def standings(self, records: tuple[Reservation, ...], stored: Stored | None) -> tuple[Standing, ...]:
        """The records with their disks and places in the queue; `stored` is needed for queued ones."""
        disks = {disk.id: disk for owner in {r.owner for r in records} for disk in self._ports.store.list_disks(owner)}
        lines = _lines(stored.reservations if stored else ())
        result = []
        for record in records:
            line = lines.get(record.spec.gpu_type, [])
            place = next((number for number, other in enumerate(line, 1) if other.id == record.id), None)
            ahead = _ahead(record, line, stored.reservations if stored else ()) if place else ""
            result.append(Standing(record, disks.get(record.disk_id or ""), place, ahead))
        return tuple(result)

    def history(self, caller: Principal, reference: str) -> tuple[Reservation, tuple[Event, ...]]:
        """The story of a reservation, for those who may see it whole."""
        record = self._gate.resolve(caller, reference, Act.SEE)
        return record, self._ports.store.list_events(record.id)

    def disks(self, caller: Principal) -> tuple[tuple[Disk, Reservation | None], ...]:
        """The caller's disks by name, each with the reservation that holds it."""
        found = self._ports.store.list_disks(caller.id)
        return tuple((disk, self._ports.store.find_reservation(disk.holder) if disk.holder else None) for disk in found)

    def outlook(self) -> tuple[TypeOutlook, ...]:
        """Every type that has nodes or live reservations, by name."""
        stored, look, now = self._ports.store.observe(), self._sight.look, self._ports.clock.now()
        here = {node.gpu_type for node in look.nodes} | {r.spec.gpu_type for r in stored.reservations}
        return tuple(self._outlook_of(gpu_type, stored, look, now) for gpu_type in sorted(here))

    def _outlook_of(self, gpu_type: str, stored: Stored, look: Look, now: datetime) -> TypeOutlook:
        picture = pool_picture(
            gpu_type, stored.reservations, look.nodes, look.quarantined, stored.disks, self._policy.limits, now
        )
        nodes = tuple(node for node in look.nodes if node.gpu_type == gpu_type)
        ours = [record for record in stored.reservations if record.spec.gpu_type == gpu_type]
        largest = max((node.units for node in nodes), default=0)
        has_gpus = any(node.gpus for node in nodes)
        plan = PoolPlan(picture)
        units = counts_on(largest) if has_gpus else ((1,) if nodes else ())
        return TypeOutlook(
            name=gpu_type,
            nodes=nodes,
            free=_free(picture),
            live=tuple(record for record in ours if record.occupies),
            queued=tuple(record for record in ours if record.state is State.QUEUED),
            choices={count if has_gpus else 0: self._opening(plan.free_for(count)) for count in units},
        )

    def _opening(self, opening: Opening) -> Opening:
        """The opening as a user's reservation could use it: the limits around the hours taken off."""
        if opening.until is None:
            return opening
        end = opening.until - self._policy.limits.prepare - self._policy.limits.stop
        return Opening(start=opening.start, until=end)


def _free(picture: Picture) -> int:
    """Units that could be had now."""
    taken: dict[str, int] = {}
    for claim in picture.claims:
        taken[claim.node] = taken.get(claim.node, 0) + claim.units
    return sum(max(node.units - taken.get(node.name, 0), 0) for node in picture.nodes if node.usable)


def _lines(records: Iterable[Reservation]) -> dict[str, list[Reservation]]:
    """The queued reservations of each pool, by place in line."""
    lines: dict[str, list[Reservation]] = {}
    for record in sorted(records, key=lambda r: r.order):
        if record.state is State.QUEUED:
            lines.setdefault(record.spec.gpu_type, []).append(record)
    return lines


def _ahead(record: Reservation, line: Iterable[Reservation], records: Iterable[Reservation]) -> str:
    """Who holds what it waits for: the next before it in line, else the first of those that run to end."""
    before = [other for other in line if other.order < record.order]
    if before:
        return what_of(before[-1])
    running = [r for r in records if r.occupies and r.spec.gpu_type == record.spec.gpu_type and r.id != record.id]
    running.sort(key=lambda r: (r.expires_at is None, r.expires_at or r.created_at))
    return what_of(running[0]) if running else ""


def what_of(record: Reservation) -> str:
    """A reservation as others may see it: `user, 8 x h100`."""
    spec = record.spec
    count = f"{spec.gpus * spec.nodes} x {spec.gpu_type}" if spec.gpus else spec.gpu_type
    return f"{record.user}, {count}"
