"""The plan of one pool: who starts when, and where. Promises that are held.

Rules (design, section 6). First come first served with conservative backfill: a later request may use a gap, never
delay an earlier slot. A held slot is kept, or moves earlier; it is laid anew only when facts make it infeasible, then
in promise order. A gang is whole nodes of one zone, all or nothing. Profiling nodes take only profiling requests,
alone. Nodes that could be added give estimates, and only to those whom no existing node can serve. Best fit: of the
nodes free at the earliest start, the one with the fewest free units.

Pure: time is part of the pool. Units are GPUs, or shares of a node without GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from odc.scheduling.model import Allocation, OpenWindow, Plan, PoolState, QueuedRequest, Slot, could_ever_serve
from odc.scheduling.node_timelines import MICROSECOND, NodeTimelines, PlacedSlot, from_micros, to_micros
from odc.scheduling.timeline import FOREVER

START_GRACE = timedelta(seconds=30)
"""How late a pass may come to a slot that is free: it then still starts in its own interval, so that the slots laid
against its end stay where they are. The prepare limit absorbs the delay."""


NO_PROMISE = datetime.max.replace(tzinfo=UTC)
"""Orders a request without a promise after every request with one."""


def plan_pool(pool: PoolState) -> Plan:
    """The plan of one pool at one time."""
    return PoolPlan(pool).plan


class PoolPlan:
    """A pool's plan, kept for questions against the same pool. Not for several threads at once."""

    def __init__(self, pool: PoolState) -> None:
        """Lay the plan: held slots first, broken ones anew in promise order, new ones in line; then pull forward."""
        self._now = to_micros(pool.now)
        exists = [node for node in pool.nodes if node.available_from is None]
        self._all = list(pool.nodes)
        self._plain = NodeTimelines([node for node in exists if not node.profiling], self._now)
        self._profiling = NodeTimelines([node for node in exists if node.profiling], self._now)
        self._held: dict[str, PlacedSlot] = {}
        self._estimates: dict[str, Slot] = {}
        self._impossible: set[str] = set()
        self._relaid: set[str] = set()
        self._take_allocations(pool.allocations)
        self._lay(pool.queued)
        self._pull_forward()

    @property
    def plan(self) -> Plan:
        """The slots as they are now."""
        slots = {key: self._slot(held) for key, held in self._held.items()}
        return Plan(
            slots={**slots, **self._estimates},
            impossible=frozenset(self._impossible),
            replanned=frozenset(self._relaid),
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
        found = field.find(self._size(field, units, profiling), nodes, duration // MICROSECOND, self._floor(not_before))
        return None if found is None else self._named(field, *found)

    def add(self, request: QueuedRequest) -> Slot | None:
        """Place one more arrival behind all others; None if no existing node can serve it."""
        self._lay_new(request)
        return self._slot(self._held[request.id]) if request.id in self._held else self._estimates.get(request.id)

    def free_for(self, units: int, nodes: int = 1, profiling: bool = False) -> OpenWindow:
        """When such a request could start, however short, and how long it could last from then."""
        field = self._field(profiling)
        size = self._size(field, units, profiling)
        found = field.find(size, nodes, 1, 0)
        if found is None:
            return OpenWindow(start=None)
        start, chosen = found
        if nodes == 1:
            # Of the windows that start then, the longest is what one would want to know.
            ends = [w[3] for w in field.index(size).all() if w[0] == start]
            end = max(ends)
        else:
            end = min(field.profiles[index].first_lack(start, size) for index in chosen)
        return OpenWindow(start=from_micros(start), until=None if end >= FOREVER else from_micros(end))

    def release(self, node: str, units: int, start: datetime, end: datetime | None) -> list[str]:
        """Free these units, as an early end does, and pull slots forward; the ids that moved, by place in line.

        Who has no slot, or an estimate only, gets one in the next plan.
        """
        for field in (self._plain, self._profiling):
            if node in field.number:
                begin = max(to_micros(start), self._now)
                until = FOREVER if end is None else to_micros(end)
                field.change(field.number[node], begin, until, units)
        return self._pull_forward()

    def latest_end(self, node: str, units: int, current_end: datetime, wanted_end: datetime) -> datetime:
        """The latest end in `[current_end, wanted_end]` that breaks no slot of the node."""
        for field in (self._plain, self._profiling):
            if node in field.number:
                lack = field.profiles[field.number[node]].first_lack(to_micros(current_end), units)
                return min(wanted_end, max(current_end, from_micros(lack))) if lack < FOREVER else wanted_end
        return current_end

    def _field(self, profiling: bool) -> NodeTimelines:
        return self._profiling if profiling else self._plain

    def _size(self, field: NodeTimelines, units: int, profiling: bool) -> int:
        """What the request takes of its node: on a profiling node all of it."""
        return max((node.units for node in field.nodes), default=units) if profiling else units

    def _floor(self, not_before: datetime | None) -> int:
        return 0 if not_before is None or to_micros(not_before) <= self._now else to_micros(not_before)

    def _named(self, field: NodeTimelines, start: int, nodes: Sequence[int]) -> Slot:
        return Slot(start=from_micros(start), nodes=tuple(field.nodes[index].name for index in nodes))

    def _slot(self, held: PlacedSlot) -> Slot:
        return self._named(self._field(held.request.profiling), held.start, held.nodes)

    def _take_allocations(self, allocations: Sequence[Allocation]) -> None:
        for field in (self._plain, self._profiling):
            for allocation in allocations:
                if allocation.node in field.number:
                    until = FOREVER if allocation.until is None else max(to_micros(allocation.until), self._now + 1)
                    field.change(field.number[allocation.node], self._now, until, -allocation.units)
            for index, node in enumerate(field.nodes):
                if not node.usable:
                    field.close(index)

    def _lay(self, requests: Sequence[QueuedRequest]) -> None:
        by_promise = sorted(requests, key=lambda w: (w.promised or NO_PROMISE, w.order))
        broken = [w for w in by_promise if w.slot is not None and not w.slot.estimate and not self._keep(w, w.slot)]
        for each in broken:
            self._relaid.add(each.id)
            self._lay_new(each)
        for each in sorted(requests, key=lambda w: w.order):
            if each.slot is None or each.slot.estimate:
                self._lay_new(each)

    def _keep(self, request: QueuedRequest, slot: Slot) -> bool:
        """Take the held slot's units where they are, if they are free; False if the slot is infeasible."""
        field = self._field(request.profiling)
        if any(name not in field.number for name in slot.nodes) or len(slot.nodes) != request.nodes:
            return False
        start = to_micros(slot.start)
        duration = request.duration // MICROSECOND
        if start < self._now - START_GRACE // MICROSECOND:
            start = self._now
        start = max(start, self._floor(request.not_before))
        if start > max(to_micros(slot.start), self._now):
            return False
        nodes = [field.number[name] for name in slot.nodes]
        size = self._size(field, request.units, request.profiling)
        begin = max(start, self._now)
        if any(field.profiles[index].least_free(begin, start + duration) < size for index in nodes):
            return False
        self._take(PlacedSlot(request, start, nodes, size, duration, look_again=True))
        return True

    def _lay_new(self, request: QueuedRequest) -> None:
        field = self._field(request.profiling)
        size = self._size(field, request.units, request.profiling)
        duration = request.duration // MICROSECOND
        found = field.find(size, request.nodes, duration, self._floor(request.not_before))
        if found is not None:
            self._take(PlacedSlot(request, found[0], found[1], size, duration))
            return
        estimate = self._estimate(request)
        if estimate is not None:
            self._estimates[request.id] = estimate
        elif not could_ever_serve(self._all, request.units, request.nodes, request.profiling):
            self._impossible.add(request.id)

    def _estimate(self, request: QueuedRequest) -> Slot | None:
        """When nodes that do not exist yet could serve it, each request looked at by itself."""
        could = [
            replace(node, available_from=node.available_from or from_micros(self._now))
            for node in self._all
            if node.profiling == request.profiling and (node.available_from or node.usable)
        ]
        field = NodeTimelines(could, self._now)
        for index, node in enumerate(could):
            if node.name in self._plain.number or node.name in self._profiling.number:
                own = self._field(request.profiling)
                source = own.profiles[own.number[node.name]]
                field.profiles[index].times, field.profiles[index].free = source.times, source.free
        size = self._size(field, request.units, request.profiling)
        found = field.find(size, request.nodes, request.duration // MICROSECOND, self._floor(request.not_before))
        return None if found is None else replace(self._named(field, *found), estimate=True)

    def _take(self, held: PlacedSlot) -> None:
        self._held[held.request.id] = held
        self._field(held.request.profiling).take(held)

    def _pull_forward(self) -> list[str]:
        """Move slots earlier, in arrival order, until a whole round moves none; the ids that moved.

        Cost: small for slots near which nothing came free.
        """
        line = sorted(self._held.values(), key=lambda held: held.request.order)
        moved: dict[str, None] = {}
        changed = True
        while changed:
            changed = False
            for held in line:
                field = self._profiling if held.request.profiling else self._plain
                if held.start > self._now and field.may_improve(held) and self._improve(field, held):
                    moved[held.request.id] = None
                    changed = True
            self._plain.next_round()
            self._profiling.next_round()
        self._plain.forget_gains()
        self._profiling.forget_gains()
        return list(moved)

    def _improve(self, field: NodeTimelines, held: PlacedSlot) -> bool:
        """Move one slot earlier if it can be; its own units count as free for it."""
        held.look_again, beside = False, held.look_again
        floor = self._floor(held.request.not_before)
        if floor >= held.start or not self._is_worth_lifting(field, held, floor, beside):
            field.index(held.units).gains.recheck()
            return False
        field.lift(held)
        found = field.find(held.units, len(held.nodes), held.duration, floor, held.start)
        better = found is not None and found[0] < held.start
        if found is not None and better:
            held.start, held.nodes = found
        field.take(held)
        return better

    def _is_worth_lifting(self, field: NodeTimelines, held: PlacedSlot, floor: int, beside: bool) -> bool:
        """Whether something earlier fits beside the slot, or what is free reaches up to its begin.

        A gang may do both at once: stay on one of its nodes, and leave another.
        """
        index = field.index(held.units)
        if (beside or len(held.nodes) > 1) and any(index.window_at(node, held.start - 1) for node in held.nodes):
            return True
        found = field.find(held.units, len(held.nodes), held.duration, floor, held.start)
        return found is not None and found[0] < held.start
