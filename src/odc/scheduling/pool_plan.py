"""The plan of one pool as it is changed: slots are kept, placed, moved and removed. `plan` says in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest

from odc.scheduling.model import (
    ANYWHERE,
    Allocation,
    OpenWindow,
    Plan,
    PoolNode,
    QueuedRequest,
    Slot,
    Where,
    could_ever_serve,
)
from odc.scheduling.node_timelines import MICROSECOND, NodeTimelines, PlacedSlot, from_micros, to_micros
from odc.scheduling.timeline import BEGINNING, FOREVER

START_GRACE = timedelta(seconds=30)
"""How late a pass may come to a slot and still start it in its own interval, so that slots planned against its end stay
feasible. The limit on preparing counts from the slot's start and absorbs the delay."""

_SHORTEST = 1
"""Microseconds: the duration to search with for a request that may be as short as it likes."""


class PoolPlan:
    """The slots of a pool, and what is free next to them. Not for use by several threads at once."""

    def __init__(self, nodes: Iterable[PoolNode], now: datetime) -> None:
        """An empty plan: usable nodes are free, the others are closed."""
        self._now = to_micros(now)
        self._nodes = list(nodes)
        self._timelines = NodeTimelines([node for node in self._nodes if node.available_from is None], self._now)
        self._placed: dict[str, PlacedSlot] = {}
        self._unplaced: dict[str, QueuedRequest] = {}
        self._estimates: dict[str, Slot] = {}
        self._impossible: set[str] = set()
        self._replanned: set[str] = set()
        self._servable: dict[tuple[int, int, Where], bool] = {}
        for index, node in enumerate(self._timelines.nodes):
            if not node.usable:
                self._timelines.close(index)

    @property
    def plan(self) -> Plan:
        """The slots as they are now."""
        placed = {request_id: self._named(slot.start, slot.nodes) for request_id, slot in self._placed.items()}
        return Plan(
            slots={**placed, **self._estimates},
            impossible=frozenset(self._impossible),
            replanned=self.replanned,
        )

    def allocate(self, allocations: Iterable[Allocation]) -> None:
        """Take units that are in use. Call it before any slot is placed: it does not look for conflicts with slots."""
        for node, units, end in self._claims(allocations):
            # One that should have ended still holds its units at this moment.
            self._timelines.change(node, self._now, max(end, self._now + 1), -units)

    @property
    def replanned(self) -> frozenset[str]:
        """The requests whose slot from an earlier plan had become infeasible."""
        return frozenset(self._replanned)

    def slot_of(self, request_id: str) -> Slot | None:
        """The slot of a request, or an estimate; None if no known time serves it."""
        placed = self._placed.get(request_id)
        return self._estimates.get(request_id) if placed is None else self._named(placed.start, placed.nodes)

    @property
    def unplaced(self) -> list[QueuedRequest]:
        """The requests without a slot on nodes that exist."""
        return list(self._unplaced.values())

    def advance(self, now: datetime) -> bool:
        """Let time pass. Nothing becomes free by it: what has a known end is free from then on anyway.

        Returns:
            False if a slot was missed, that is, has been due for longer than `START_GRACE`, or if the clock was set
            back. The plan is unusable then.
        """
        self._replanned.clear()
        if to_micros(now) <= self._now:
            return to_micros(now) == self._now
        self._now = to_micros(now)
        self._timelines.advance(self._now)
        missed = self._now - START_GRACE // MICROSECOND
        return all(slot.start >= missed for slot in self._placed.values())

    def reallocate(self, freed: Iterable[Allocation], taken: Iterable[Allocation], gone: Iterable[str]) -> bool:
        """Replace allocations by others, and remove slots. Slots stay where they are.

        A slot that has become an allocation is in `gone`, and the allocation in `taken`: if both end at the same time,
        nothing changes on the node.

        Args:
            freed: that were part of the plan. Those that should have ended by now count as ended then.
            taken: in their place, or in that of removed slots; they end later than now.
            gone: ids of requests that are not queued any more.

        Returns:
            False if units are taken that are not free. The plan is unusable then.
        """
        ends: dict[tuple[int, int], Counter[int]] = {}
        for node, units, end in self._claims(freed):
            ends.setdefault((node, units), Counter())[end] += 1
        for slot in self._remove(gone):
            for node in slot.nodes:
                ends.setdefault((node, slot.units), Counter())[slot.start + slot.duration] += 1
        for node, units, end in self._claims(taken):
            ends.setdefault((node, units), Counter())[end] -= 1
        taking = []
        for (node, units), counts in ends.items():
            before, after = sorted((+counts).elements()), sorted((-counts).elements())
            # Of two claims on the same units, only the difference of their ends changes anything.
            for old, new in zip_longest(before, after, fillvalue=self._now):
                if new < old:
                    self._timelines.change(node, new, old, units)
                else:
                    taking.append((node, units, old, new))
        return all(self._take_free(*each) for each in taking)

    def _claims(self, allocations: Iterable[Allocation]) -> Iterator[tuple[int, int, int]]:
        """Allocations as node, units and end."""
        for allocation in allocations:
            node = self._timelines.index_of.get(allocation.node)
            if node is not None:
                end = FOREVER if allocation.until is None else to_micros(allocation.until)
                yield node, allocation.units, end

    def _remove(self, gone: Iterable[str]) -> Iterator[PlacedSlot]:
        """Remove slots; yields those that are due, whose units are still taken."""
        for request_id in gone:
            self._forget_unplaced(request_id)
            slot = self._placed.pop(request_id, None)
            if slot is not None and slot.start <= self._now:
                self._timelines.forget(slot)
                yield slot
            elif slot is not None:
                self._timelines.remove(slot)

    def _take_free(self, node: int, units: int, start: int, end: int) -> bool:
        """Take units, and return whether they were free. On a node that accepts nothing new, nothing depends on it."""
        timeline = self._timelines.timelines[node]
        free = start >= end or timeline.least_free(start, end) >= units or not self._timelines.nodes[node].usable
        self._timelines.change(node, start, end, -units)
        return free

    def bound(self, request: QueuedRequest) -> bool:
        """Replace a request by one with another `not_before`.

        Returns:
            False if its slot begins too early now. The plan is unusable then.
        """
        slot = self._placed.get(request.id)
        if slot is None:
            self._unplaced[request.id] = request
            return True
        slot.request, slot.retry = request, True
        self._timelines.freed = True
        return self._floor(request.not_before) <= max(slot.start, self._now)

    def keep(self, request: QueuedRequest, slot: Slot) -> bool:
        """Place the request in the slot that it has from an earlier plan.

        Returns:
            False if the slot is infeasible; then nothing is placed.
        """
        timelines = self._timelines
        if any(name not in timelines.index_of for name in slot.nodes) or len(slot.nodes) != request.nodes:
            return False
        nodes = [timelines.index_of[name] for name in slot.nodes]
        # A node may have lost a label, or have been given to profiling.
        if not timelines.allowed(request.where).issuperset(nodes):
            return False
        held = to_micros(slot.start)
        missed = held < self._now - START_GRACE // MICROSECOND
        start = max(self._now if missed else held, self._floor(request.not_before))
        # It has to start later than held, for example because its disk is in use for longer. Then any node will do, and
        # the units of the held slot are free for others until then.
        if start > max(held, self._now):
            return False
        size = self._size(timelines, request.units, request.where)
        end = start + request.duration // MICROSECOND
        # Timelines know nothing of the past: of a slot that is due, the rest must be free.
        rest = max(start, self._now)
        if any(timelines.timelines[index].least_free(rest, end) < size for index in nodes):
            return False
        # Units may have become free since the last plan, and grown windows record only what happens in this one.
        self._timelines.freed = True
        self._take(PlacedSlot(request, start, nodes, size, end - start, retry=True))
        return True

    def place(self, request: QueuedRequest) -> None:
        """Place a request after all others, at the earliest start that is free; else record an estimate, or nothing."""
        self._forget_unplaced(request.id)
        found = self._find(self._timelines, request)
        if found is not None:
            start, nodes = found
            size = self._size(self._timelines, request.units, request.where)
            self._take(PlacedSlot(request, start, nodes, size, request.duration // MICROSECOND))
            return
        self._unplaced[request.id] = request
        estimate = self._estimate(request)
        if estimate is not None:
            self._estimates[request.id] = estimate
        elif not self._could_ever_serve(request.units, request.nodes, request.where):
            self._impossible.add(request.id)

    def _forget_unplaced(self, request_id: str) -> None:
        self._unplaced.pop(request_id, None)
        self._estimates.pop(request_id, None)
        self._impossible.discard(request_id)

    def _could_ever_serve(self, units: int, nodes: int, where: Where) -> bool:
        key = (units, nodes, where)
        if key not in self._servable:
            self._servable[key] = could_ever_serve(self._nodes, units, nodes, where)
        return self._servable[key]

    def replan(self, request: QueuedRequest) -> None:
        """Place a request whose slot is infeasible like a new one, and list it in `Plan.replanned`."""
        self._replanned.add(request.id)
        self.place(request)

    def earliest(
        self,
        units: int,
        nodes: int,
        duration: timedelta,
        *,
        not_before: datetime | None = None,
        where: Where = ANYWHERE,
    ) -> Slot | None:
        """The slot that one more request would get; nothing is placed. None if no existing node can serve it."""
        size = self._size(self._timelines, units, where)
        found = self._timelines.find(size, nodes, duration // MICROSECOND, self._floor(not_before), where)
        return None if found is None else self._named(*found)

    def free_for(self, units: int, nodes: int = 1, where: Where = ANYWHERE) -> OpenWindow:
        """When a request of any duration could start at the earliest, and how long it could last from then."""
        timelines = self._timelines
        size = self._size(timelines, units, where)
        found = timelines.find(size, nodes, _SHORTEST, BEGINNING, where)
        if found is None:
            return OpenWindow(start=None)
        start, chosen = found
        if nodes == 1:
            # `find` prefers best fit. A user who chooses a duration wants the longest of the windows that start then.
            end = max(window.end for window in timelines.windows(size, where).all() if window.start == start)
        else:
            end = min(timelines.timelines[index].first_lack(start, size) for index in chosen)
        return OpenWindow(start=from_micros(start), until=None if end >= FOREVER else from_micros(end))

    def move_forward(self) -> list[str]:
        """Move slots to earlier starts, in order of arrival, until a whole round moves none.

        Returns:
            Ids of the requests that moved, in the order in which they moved first.

        Cost: a binary search for each slot and round; more only for slots that something free may help.
        """
        timelines = self._timelines
        if not timelines.freed:
            return []
        line = sorted(self._placed.values(), key=lambda slot: slot.request.order)
        moved: dict[str, None] = {}  # a set that keeps its order
        changed = True
        while changed:
            changed = False
            for slot in line:
                # A slot that is due starts in this pass; it must not change its nodes any more.
                if slot.start > self._now and timelines.may_start_earlier(slot) and self._improve(timelines, slot):
                    moved[slot.request.id] = None
                    changed = True
            timelines.next_round()
        timelines.clear_grown()
        return list(moved)

    def _improve(self, timelines: NodeTimelines, slot: PlacedSlot) -> bool:
        """Move one slot to the earliest start that is free, counting its own units; False if that is where it is."""
        floor = self._floor(slot.request.not_before)
        if floor >= slot.start or not self._can_improve(timelines, slot, floor):
            # `may_start_earlier` was wrong, perhaps because of windows that are gone.
            timelines.windows_for(slot).grown.rebuild_if_stale()
            return False
        timelines.remove(slot)
        found = timelines.find(slot.units, len(slot.nodes), slot.duration, floor, slot.request.where, slot.start)
        better = found is not None and found[0] < slot.start
        if found is not None and better:
            slot.start, slot.nodes = found
        timelines.add(slot)
        return better

    def _can_improve(self, timelines: NodeTimelines, slot: PlacedSlot, floor: int) -> bool:
        """Whether it is worth lifting the slot; it stays in place meanwhile. True may be wrong, False is not."""
        windows = timelines.windows_for(slot)
        # Units next to the slot became free, so the slot may slide forward on its own nodes. A gang may also do both at
        # once, stay on one of its nodes and leave another: neither the flag nor the search below sees that alone.
        retry, slot.retry = slot.retry, False
        may_slide = retry or len(slot.nodes) > 1
        if may_slide and any(windows.window_at(node, slot.start - 1) for node in slot.nodes):
            return True
        found = timelines.find(slot.units, len(slot.nodes), slot.duration, floor, slot.request.where, slot.start)
        return found is not None and found[0] < slot.start

    def _estimate(self, request: QueuedRequest) -> Slot | None:
        """When the request could start if nodes were added for it.

        Every such request is looked at by itself: estimates take nothing, from slots or from each other.
        """
        existing = self._timelines
        # A gang may need existing nodes and added ones together.
        nodes = [node for node in self._nodes if request.where.allows(node)]
        nodes = [node for node in nodes if node.usable or node.name not in existing.index_of]
        if all(node.name in existing.index_of for node in nodes):
            return None
        together = NodeTimelines(nodes, self._now)
        for index, node in enumerate(nodes):
            if node.name in existing.index_of:
                together.timelines[index] = existing.timelines[existing.index_of[node.name]].copy(index)
        found = self._find(together, request)
        if found is None:
            return None
        start, chosen = found
        return Slot(from_micros(start), tuple(together.nodes[index].name for index in chosen), estimate=True)

    def _find(self, timelines: NodeTimelines, request: QueuedRequest) -> tuple[int, list[int]] | None:
        size = self._size(timelines, request.units, request.where)
        floor = self._floor(request.not_before)
        return timelines.find(size, request.nodes, request.duration // MICROSECOND, floor, request.where)

    def _take(self, slot: PlacedSlot) -> None:
        self._placed[slot.request.id] = slot
        self._timelines.add(slot)

    def _size(self, timelines: NodeTimelines, units: int, where: Where) -> int:
        """Units that a request takes on its node: of a profiling node all, since it must be alone there."""
        if not where.profiling:
            return units
        return max((timelines.nodes[index].units for index in timelines.allowed(where)), default=units)

    def _floor(self, not_before: datetime | None) -> int:
        """The lower bound of a search. `BEGINNING` where timelines have no earlier time: that search is faster."""
        return BEGINNING if not_before is None or to_micros(not_before) <= self._now else to_micros(not_before)

    def _named(self, start: int, nodes: Sequence[int]) -> Slot:
        return Slot(start=from_micros(start), nodes=tuple(self._timelines.nodes[index].name for index in nodes))
