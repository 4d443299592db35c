"""The plan of one pool: who starts when, and where. Promises that are held.

Rules (design, section 6). First come first served with conservative backfill: a later request may use a gap, never
delay an earlier slot. A held slot is kept, or moves earlier; it is laid anew only when facts make it infeasible, then
in promise order. A gang is whole nodes of one zone, all or nothing. Profiling nodes take only profiling requests,
alone. Nodes that could be added give estimates, and only to those whom no existing node can serve. Best fit: of the
nodes free at the earliest start, the one with the fewest free units.

Pure: time is part of the picture. Units are GPUs, or shares of a node without GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from odc.scheduling.profile import FOREVER, Profile
from odc.scheduling.windows import SizeIndex

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LATE = timedelta(seconds=30)
"""How late a pass may come to a slot that is free: it then still starts in its own interval, so that the slots laid
against its end stay where they are. The prepare limit absorbs the delay."""


@dataclass(frozen=True, slots=True)
class PoolNode:
    """One node of the pool.

    Attributes:
        name: unique.
        units: GPUs, or shares of a node without GPUs.
        zone: gangs lie in one.
        profiling: takes only profiling requests, each alone.
        usable: False (cordoned, silent): takes nothing new; claims on it still count.
        available_from: an autoscaler could add it by then; None for a node that exists.
    """

    name: str
    units: int
    zone: str = ""
    profiling: bool = False
    usable: bool = True
    available_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Units of a node that are held until then; None: nobody knows until when."""

    node: str
    units: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned start on these nodes, in rank order. An estimate is no promise: a node does not exist yet."""

    start: datetime
    nodes: tuple[str, ...]
    estimate: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """One queued request.

    Attributes:
        id: its own.
        units: on each node.
        nodes: more than 1 is a gang of whole nodes.
        duration: the whole span of the slot, limits included.
        order: place in line; smaller is earlier.
        slot: held from earlier passes; None if it has none.
        not_before: earliest start for another cause than nodes, such as its disk.
        profiling: wants a profiling node, alone.
        promised: the promise that was told, for the order of laying anew.
    """

    id: str
    units: int
    nodes: int
    duration: timedelta
    order: int
    slot: Slot | None = None
    not_before: datetime | None = None
    profiling: bool = False
    promised: datetime | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One pool at one time."""

    now: datetime
    nodes: Sequence[PoolNode]
    claims: Sequence[Claim]
    waiting: Sequence[Waiting]


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of a pool.

    Attributes:
        slots: request id to slot, for every request that some node can serve.
        impossible: ids that no node could serve, now or later.
        relaid: ids whose held slot had become infeasible.
    """

    slots: Mapping[str, Slot]
    impossible: frozenset[str]
    relaid: frozenset[str]


@dataclass(frozen=True, slots=True)
class Opening:
    """When units could be had: the start (None: never), and the end that a reservation may last to (None: no end)."""

    start: datetime | None
    until: datetime | None = None


def plan_pool(picture: Picture) -> Plan:
    """The plan of one pool at one time."""
    return PoolPlan(picture).plan


def could_ever_serve(nodes: Iterable[PoolNode], units: int, count: int = 1, profiling: bool = False) -> bool:
    """Whether the nodes, all free, could serve such a request. Impossible is not busy."""
    zones: dict[str, int] = {}
    for node in nodes:
        if node.profiling == profiling and (node.units >= units if count == 1 else node.units == units):
            zones[node.zone] = zones.get(node.zone, 0) + 1
    return any(fitting >= count for fitting in zones.values())


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


class Field:
    """Nodes of one kind (plain or profiling, existing or not) with their profiles and indexes."""

    def __init__(self, nodes: Sequence[PoolNode], now: int) -> None:
        self.nodes = list(nodes)
        self.zones = [node.zone for node in nodes]
        self.number = {node.name: index for index, node in enumerate(nodes)}
        self.profiles = [
            Profile(index, node.units, max(now, _micros(node.available_from)) if node.available_from else now)
            for index, node in enumerate(nodes)
        ]
        self._sizes: dict[int, SizeIndex] = {}

    def index(self, size: int) -> SizeIndex:
        """The windows of a size; made when first asked for."""
        if size not in self._sizes:
            self._sizes[size] = SizeIndex(size, self.profiles)
        return self._sizes[size]

    def change(self, node: int, start: int, end: int, by: int) -> None:
        """Give (or take, if negative) units of a node over `[start, end)`."""
        profile = self.profiles[node]
        profile.change(start, end, by)
        for size in self._sizes.values():
            size.renew(profile)

    def close(self, node: int) -> None:
        """Let the node take nothing new, ever."""
        self.change(node, 0, FOREVER, -self.nodes[node].units - 1)

    def find(self, units: int, count: int, duration: int, not_before: int) -> tuple[int, list[int]] | None:
        """The earliest start and its nodes, or None."""
        if count == 1:
            window = self.index(units).earliest(duration, not_before)
            return None if window is None else (max(window[0], not_before), [window[2]])
        return self.index(units).gang(count, duration, self.zones, not_before)


@dataclass(slots=True)
class _Held:
    """A request's slot inside the plan: where its units are taken."""

    waiting: Waiting
    field: Field
    start: int
    nodes: list[int]
    units: int
    duration: int


class PoolPlan:
    """A pool's plan, kept for questions against the same picture. Not for several threads at once."""

    def __init__(self, picture: Picture) -> None:
        """Lay the plan: held slots first, broken ones anew in promise order, new ones in line; then pull forward."""
        self._now = _micros(picture.now)
        exists = [node for node in picture.nodes if node.available_from is None]
        self._all = list(picture.nodes)
        self._plain = Field([node for node in exists if not node.profiling], self._now)
        self._profiling = Field([node for node in exists if node.profiling], self._now)
        self._held: dict[str, _Held] = {}
        self._estimates: dict[str, Slot] = {}
        self._impossible: set[str] = set()
        self._relaid: set[str] = set()
        self._take_claims(picture.claims)
        self._lay(picture.waiting)
        self._pull_forward()

    @property
    def plan(self) -> Plan:
        """The slots as they are now."""
        slots = {key: self._slot(held) for key, held in self._held.items()}
        return Plan(
            slots={**slots, **self._estimates},
            impossible=frozenset(self._impossible),
            relaid=frozenset(self._relaid),
        )

    def earliest(
        self,
        units: int,
        nodes: int,
        duration: timedelta,
        *,
        not_before: datetime | None = None,
        profiling: bool = False,
    ) -> Slot | None:
        """The slot that one more arrival would get; nothing is placed."""
        field = self._field(profiling)
        found = field.find(
            self._size(field, units, profiling), nodes, duration // _MICROSECOND, self._floor(not_before)
        )
        return None if found is None else self._named(field, *found)

    def add(self, waiting: Waiting) -> Slot | None:
        """Place one more arrival behind all others; None if no existing node can serve it."""
        self._lay_new(waiting)
        return self._slot(self._held[waiting.id]) if waiting.id in self._held else self._estimates.get(waiting.id)

    def free_for(self, units: int, nodes: int = 1, profiling: bool = False) -> Opening:
        """When such a request could start, however short, and how long it could last from then."""
        field = self._field(profiling)
        size = self._size(field, units, profiling)
        found = field.find(size, nodes, 1, 0)
        if found is None:
            return Opening(start=None)
        start, chosen = found
        if nodes == 1:
            # Of the windows that start then, the longest is what one would want to know.
            ends = [w[3] for w in field.index(size).all() if w[0] == start]
            end = max(ends)
        else:
            end = min(field.profiles[index].first_lack(start, size) for index in chosen)
        return Opening(start=_moment(start), until=None if end >= FOREVER else _moment(end))

    def release(self, node: str, units: int, start: datetime, end: datetime | None) -> list[str]:
        """Free these units, as an early end does, and pull slots forward; the ids that moved, by place in line."""
        for field in (self._plain, self._profiling):
            if node in field.number:
                begin = max(_micros(start), self._now)
                until = FOREVER if end is None else _micros(end)
                field.change(field.number[node], begin, until, units)
        return self._pull_forward()

    def latest_end(self, node: str, units: int, current_end: datetime, wanted_end: datetime) -> datetime:
        """The latest end in `[current_end, wanted_end]` that breaks no slot of the node."""
        for field in (self._plain, self._profiling):
            if node in field.number:
                lack = field.profiles[field.number[node]].first_lack(_micros(current_end), units)
                return min(wanted_end, max(current_end, _moment(lack))) if lack < FOREVER else wanted_end
        return current_end

    def _field(self, profiling: bool) -> Field:
        return self._profiling if profiling else self._plain

    def _size(self, field: Field, units: int, profiling: bool) -> int:
        """What the request takes of its node: on a profiling node all of it."""
        return max((node.units for node in field.nodes), default=units) if profiling else units

    def _floor(self, not_before: datetime | None) -> int:
        return 0 if not_before is None or _micros(not_before) <= self._now else _micros(not_before)

    def _named(self, field: Field, start: int, nodes: Sequence[int]) -> Slot:
        return Slot(start=_moment(start), nodes=tuple(field.nodes[index].name for index in nodes))

    def _slot(self, held: _Held) -> Slot:
        return self._named(held.field, held.start, held.nodes)

    def _take_claims(self, claims: Sequence[Claim]) -> None:
        for field in (self._plain, self._profiling):
            for claim in claims:
                if claim.node in field.number:
                    until = FOREVER if claim.until is None else max(_micros(claim.until), self._now + 1)
                    field.change(field.number[claim.node], self._now, until, -claim.units)
            for index, node in enumerate(field.nodes):
                if not node.usable:
                    field.close(index)

    def _lay(self, waiting: Sequence[Waiting]) -> None:
        by_promise = sorted(waiting, key=lambda w: (w.promised or _moment(FOREVER >> 12), w.order))
        broken = [w for w in by_promise if w.slot is not None and not w.slot.estimate and not self._keep(w, w.slot)]
        for each in broken:
            self._relaid.add(each.id)
            self._lay_new(each)
        for each in sorted(waiting, key=lambda w: w.order):
            if each.slot is None or each.slot.estimate:
                self._lay_new(each)

    def _keep(self, waiting: Waiting, slot: Slot) -> bool:
        """Take the held slot's units where they are, if they are free; False if the slot is infeasible."""
        field = self._field(waiting.profiling)
        if any(name not in field.number for name in slot.nodes) or len(slot.nodes) != waiting.nodes:
            return False
        start = _micros(slot.start)
        duration = waiting.duration // _MICROSECOND
        if start < self._now - LATE // _MICROSECOND:
            start = self._now
        start = max(start, self._floor(waiting.not_before))
        if start > max(_micros(slot.start), self._now):
            return False
        nodes = [field.number[name] for name in slot.nodes]
        size = self._size(field, waiting.units, waiting.profiling)
        begin = max(start, self._now)
        if any(field.profiles[index].least_free(begin, start + duration) < size for index in nodes):
            return False
        self._take(_Held(waiting, field, start, nodes, size, duration))
        return True

    def _lay_new(self, waiting: Waiting) -> None:
        field = self._field(waiting.profiling)
        size = self._size(field, waiting.units, waiting.profiling)
        duration = waiting.duration // _MICROSECOND
        found = field.find(size, waiting.nodes, duration, self._floor(waiting.not_before))
        if found is not None:
            self._take(_Held(waiting, field, found[0], found[1], size, duration))
            return
        estimate = self._estimate(waiting)
        if estimate is not None:
            self._estimates[waiting.id] = estimate
        elif not could_ever_serve(self._all, waiting.units, waiting.nodes, waiting.profiling):
            self._impossible.add(waiting.id)

    def _estimate(self, waiting: Waiting) -> Slot | None:
        """When nodes that do not exist yet could serve it, each request looked at by itself."""
        could = [
            replace(node, available_from=node.available_from or _moment(self._now))
            for node in self._all
            if node.profiling == waiting.profiling and (node.available_from or node.usable)
        ]
        field = Field(could, self._now)
        for index, node in enumerate(could):
            if node.name in self._plain.number or node.name in self._profiling.number:
                own = self._field(waiting.profiling)
                source = own.profiles[own.number[node.name]]
                field.profiles[index].times, field.profiles[index].free = source.times, source.free
        size = self._size(field, waiting.units, waiting.profiling)
        found = field.find(size, waiting.nodes, waiting.duration // _MICROSECOND, self._floor(waiting.not_before))
        return None if found is None else replace(self._named(field, *found), estimate=True)

    def _take(self, held: _Held) -> None:
        self._held[held.waiting.id] = held
        for index in held.nodes:
            held.field.change(index, held.start, held.start + held.duration, -held.units)

    def _lift(self, held: _Held) -> None:
        for index in held.nodes:
            held.field.change(index, held.start, held.start + held.duration, held.units)

    def _pull_forward(self) -> list[str]:
        """Move slots earlier, in arrival order, until a whole round moves none; the ids that moved."""
        line = sorted(self._held.values(), key=lambda held: held.waiting.order)
        moved: dict[str, None] = {}
        while True:
            before = len(moved)
            changed = False
            for held in line:
                if held.start > self._now and self._improve(held):
                    moved[held.waiting.id] = None
                    changed = True
            if not changed:
                return list(moved) if before or moved else []

    def _improve(self, held: _Held) -> bool:
        """Move one slot earlier if it can be; its own units count as free for it."""
        if not self._may_move(held):
            return False
        before = held.start, held.nodes
        self._lift(held)
        found = held.field.find(held.units, len(held.nodes), held.duration, self._floor(held.waiting.not_before))
        better = found is not None and found[0] < held.start
        if found is not None and better:
            held.start, held.nodes = found
        else:
            held.start, held.nodes = before
        self._take(held)
        return better

    def _may_move(self, held: _Held) -> bool:
        """Whether lifting could be worth it: something earlier fits beside the slot, or reaches up to its begin."""
        floor = self._floor(held.waiting.not_before)
        if floor >= held.start:
            return False
        index = held.field.index(held.units)
        if any(index.window_at(node, held.start - 1) for node in held.nodes):
            return True
        found = held.field.find(held.units, len(held.nodes), held.duration, floor)
        return found is not None and found[0] < held.start
