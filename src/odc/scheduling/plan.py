"""The plan of one pool: which request starts when, and on which nodes.

Start with `plan_pool`. The comment below explains how it works. Pure: the time is part of the pool's state.
"""

# Theory of operation
# ===================
#
# The policy: conservative backfill
# ---------------------------------
# Requests are served first come, first served. Every queued request has a slot: a planned start on named nodes. A
# later request may use a gap in front of an earlier one's slot (backfill) if it fits there for its whole duration. It
# never delays an earlier slot, not even that of a request far down the line (conservative; the well-known "EASY"
# backfill protects only the first in line). That is what makes a promise possible: a user hears one time at which SSH
# answers at the latest, and it moves only earlier, except after a fault.
#
# Durations are upper bounds: a slot spans the reservation's hours and the limits on preparing and stopping it. So
# plans err on one side only. A reservation that ends early leaves a gap, and slots move forward into it.
#
# How a plan is built (`build_plan`)
# ----------------------------------
# 1. Allocations. Each node has a timeline: its free units as a step function of time (`timeline`). Units in use are
#    taken until their latest end; a node that accepts nothing new is closed.
# 2. Held slots. A request that has a slot from an earlier plan keeps it: its units are taken where they were. All of
#    them come before any new slot, so new requests find only what is left.
# 3. Infeasible slots. A held slot whose node is gone, closed or in use for longer than expected (always a fault: see
#    below) gets the earliest start that is free now, in the order of the promises, so that the request which was to
#    start first loses least.
# 4. New requests, in order of arrival, each at the earliest start that is free now (`node_timelines`, and
#    `window_index` for how it is found quickly). An estimate is not a held slot; it is made again each time.
# 5. Move forward. Slots move to earlier starts that have become free, in order of arrival, until none can.
#
# Which nodes may serve a request
# ------------------------------
# A request may need labels, an architecture, a zone (that of its disk) or a profiling node: its key `Where` says which.
# All nodes share one set of timelines, whatever the keys, because a plain request and one with labels compete for the
# same units. Only the indexes of open windows are separate: one for each size and set of nodes that is asked for.
#
# What is invariant, and why
# --------------------------
# * No unit is taken twice. Every slot takes its units from the timelines as it is placed, and `find` returns only
#   starts at which they are free for the whole duration.
# * A later request never delays an earlier slot. Steps 2 to 4 only take, and what is taken is never taken away from
#   the slot that has it; step 5 moves a slot only to an earlier start, into what is free.
# * A held slot stays feasible from plan to plan. Its units were free in the last plan. Since then, time has passed,
#   requests have arrived (they got what was left), reservations have ended early (that only frees), slots have become
#   allocations which end when the slot would have ended, and extensions would be granted up to the next slot only
#   (`latest_end`). Anything else is a fault: a node is lost or cordoned, a box outlives its limit.
# * A pass comes a little late to every start. A slot that has been due for less than `START_GRACE` keeps its own
#   interval, in the past: moved to the present it would overlap the slot that was planned against its end.
# * Step 5 ends: each move makes one start earlier and none later, and starts are whole microseconds from now on.
#
# Moving forward: rounds, grown windows, lifting
# ----------------------------------------------
# Every slot was placed at the earliest start that was free at the time, so it can improve only through units that
# became free later: by an early end, or because another slot moved and left its old place. An open window that became
# larger is a *grown window* (`grown_windows`); a slot that none of them can help is not searched for at all.
#
# Trying every slot once, in order of arrival, is a *round*. A move frees units that may help any other slot, also one
# that was tried earlier in the round, so rounds are repeated until one of them moves nothing. A grown window is
# forgotten as soon as every slot has been tried against it.
#
# A slot's own units can be part of its better place: a slot from 3 to 5 o'clock on a node that is now free from 2 to 3
# can start at 2, but there is no open window of two hours as long as the slot itself is there. So the search is done
# with the slot *lifted*: removed, searched for, and added again at the better start or where it was. Lifting changes
# the timelines and indexes twice, which costs far more than a search. `_can_improve` finds out first, with the slot
# in place, whether it is worth it.
#
# Cost
# ----
# With n nodes and q queued requests: taking or freeing units is linear in the steps of the nodes concerned. Finding
# the earliest start on one node is linear in the windows of about the request's length, and usually far cheaper;
# for a gang it is linear in the windows up to its start. A plan from nothing makes q searches. In step 5 each slot
# costs one binary search in a round, unless something became free that may help it. `make bench` measures plans of
# 1,000 requests on 128 nodes and of 10,000 on 1,250; the budgets are in docs/performance.md.
#
# What is here although nothing uses it yet
# -----------------------------------------
# Gangs and estimates are parts of the policy that a cloud of several machines needs, and they shape the data
# structures; adding them later would mean writing the planner again. One machine has no other node for a gang and no
# autoscaler, so `control/pools.py` leaves those fields at their defaults. The tests in tests/unit/scheduling use them.
#
# The incremental half of `PoolPlan` (`earliest`, `add`, `release`, `latest_end`) answers single questions on a plan
# that is kept, without planning the pool again. Today every pass plans from nothing, which is fast enough for one
# machine; extensions and larger pools will call these. The tests compare them with full plans.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from odc.scheduling.model import (
    ANYWHERE,
    Allocation,
    OpenWindow,
    Plan,
    PoolNode,
    PoolState,
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

NO_PROMISE = datetime.max.replace(tzinfo=UTC)
"""Sorts a request without a promise after all requests with one."""

_SHORTEST = 1
"""Microseconds: the duration to search with for a request that may be as short as it likes."""


def plan_pool(pool: PoolState) -> Plan:
    """The plan of one pool at one time."""
    return build_plan(pool).plan


def build_plan(pool: PoolState) -> PoolPlan:
    """Plan a pool, and keep the plan for questions about the same state. The steps are those of the comment above."""
    plan = PoolPlan(pool.nodes, pool.now)
    plan.allocate(pool.allocations)

    new: list[QueuedRequest] = []
    infeasible: list[QueuedRequest] = []
    for request in sorted(pool.queued, key=lambda each: (each.promised or NO_PROMISE, each.order)):
        if request.slot is None or request.slot.estimate:
            new.append(request)
        elif not plan.keep(request, request.slot):
            infeasible.append(request)
    for request in infeasible:
        plan.replan(request)
    for request in sorted(new, key=lambda each: each.order):
        plan.place(request)

    plan.move_forward()
    return plan


class PoolPlan:
    """A plan that can be extended and asked. Made by `build_plan`; not for use by several threads at once."""

    def __init__(self, nodes: Iterable[PoolNode], now: datetime) -> None:
        """An empty plan: usable nodes are free, the others are closed."""
        self._now = to_micros(now)
        self._nodes = list(nodes)
        self._timelines = NodeTimelines([node for node in self._nodes if node.available_from is None], self._now)
        self._placed: dict[str, PlacedSlot] = {}
        self._estimates: dict[str, Slot] = {}
        self._impossible: set[str] = set()
        self._replanned: set[str] = set()
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
            replanned=frozenset(self._replanned),
        )

    def allocate(self, allocations: Iterable[Allocation]) -> None:
        """Take units that are in use. Call it before any slot is placed: it does not look for conflicts with slots."""
        for allocation in allocations:
            node = self._timelines.index_of.get(allocation.node)
            if node is not None:
                # One that should have ended still holds its units at this moment.
                end = FOREVER if allocation.until is None else max(to_micros(allocation.until), self._now + 1)
                self._timelines.change(node, self._now, end, -allocation.units)

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
        self._take(PlacedSlot(request, start, nodes, size, end - start, retry=True))
        return True

    def place(self, request: QueuedRequest) -> None:
        """Place a request after all others, at the earliest start that is free; else record an estimate, or nothing."""
        found = self._find(self._timelines, request)
        if found is not None:
            start, nodes = found
            size = self._size(self._timelines, request.units, request.where)
            self._take(PlacedSlot(request, start, nodes, size, request.duration // MICROSECOND))
            return
        estimate = self._estimate(request)
        if estimate is not None:
            self._estimates[request.id] = estimate
        elif not could_ever_serve(self._nodes, request.units, request.nodes, request.where):
            self._impossible.add(request.id)

    def replan(self, request: QueuedRequest) -> None:
        """Place a request whose slot is infeasible like a new one, and list it in `Plan.replanned`."""
        self._replanned.add(request.id)
        self.place(request)

    def add(self, request: QueuedRequest) -> Slot | None:
        """Place one more request after all others.

        Returns:
            Its slot; an estimate if only nodes that could be added serve it; None if no known time serves it.
        """
        self.place(request)
        placed = self._placed.get(request.id)
        return self._estimates.get(request.id) if placed is None else self._named(placed.start, placed.nodes)

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

    def release(self, node: str, units: int, start: datetime, end: datetime | None) -> list[str]:
        """Free units over `[start, end)`, as an early end does, and move slots forward.

        A request that has no slot, or an estimate, gets a slot in the next plan.

        Args:
            node: by name; one that is not in the pool is ignored.
            units: that were taken over the whole interval.
            start: when they are free.
            end: until when they were taken; None if that was unknown.

        Returns:
            Ids of the requests that start earlier now, in the order in which they moved first.
        """
        index = self._timelines.index_of.get(node)
        if index is not None:
            until = FOREVER if end is None else to_micros(end)
            self._timelines.change(index, max(to_micros(start), self._now), until, units)
        return self.move_forward()

    def latest_end(self, node: str, units: int, current_end: datetime, wanted_end: datetime) -> datetime:
        """The latest end in `[current_end, wanted_end]` for an allocation of these units that breaks no slot."""
        index = self._timelines.index_of.get(node)
        if index is None:
            return current_end
        lack = self._timelines.timelines[index].first_lack(to_micros(current_end), units)
        # Not from_micros(FOREVER): the year would be too large for a datetime.
        return wanted_end if lack >= FOREVER else min(wanted_end, max(current_end, from_micros(lack)))

    def move_forward(self) -> list[str]:
        """Move slots to earlier starts, in order of arrival, until a whole round moves none.

        Returns:
            Ids of the requests that moved, in the order in which they moved first.

        Cost: a binary search for each slot and round; more only for slots that something free may help.
        """
        timelines = self._timelines
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
