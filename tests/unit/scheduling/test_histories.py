"""Properties across successive plans, over random histories: no double allocation, and promises move only earlier.

The pool is planned again after every event, as a pass does. Events: time passes, requests arrive, reservations end
early or are extended, nodes are cordoned, uncordoned or added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.scheduling.oracle import eligible
from tests.unit.scheduling.pools import check_plan, pool_states, requests, units_on

from odc.scheduling import (
    Allocation,
    Claim,
    Plan,
    PoolChange,
    PoolPlan,
    PoolState,
    QueuedRequest,
    Slot,
    build_plan,
    change_plan,
    latest_end,
    plan_pool,
)

MINUTE = timedelta(minutes=1)
DELAY = timedelta(seconds=20)
EVENTS = ("time", "time", "arrival", "early end", "extension")
CHANGES = (*EVENTS * 2, "cancel", "disk", "outage", "cordon")
FAULTS = ("cordon", "uncordon", "added", "label")


class Lab:
    """A pool with its queue and running reservations, as the control plane stores them between passes."""

    def __init__(self, pool: PoolState, data: st.DataObject) -> None:
        self.now: datetime = pool.now
        self.nodes = {node.name: node for node in pool.nodes}
        self.allocations = list(pool.allocations)
        self.queued = list(pool.queued)
        self.requests = len(self.queued)
        self.data = data

    def draw(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    @property
    def state(self) -> PoolState:
        return PoolState(self.now, list(self.nodes.values()), list(self.allocations), list(self.queued))

    @property
    def promises(self) -> dict[str, Slot]:
        return {w.id: w.slot for w in self.queued if w.slot is not None and not w.slot.estimate}

    def serves(self, queued: QueuedRequest, slot: Slot) -> bool:
        """Whether every node of the slot accepts the request."""
        nodes = [self.nodes[name] for name in slot.nodes]
        return all(node.usable and eligible(node, queued) for node in nodes)

    def replan(self) -> Plan:
        """One pass: requests whose slot has started become allocations; the others keep their new slots."""
        plan = plan_pool(self.state)
        check_plan(self.state, dict(plan.slots))
        self.queued = [replace(w, slot=plan.slots.get(w.id)) for w in self.queued]
        for started in [w for w in self.queued if self._is_due(w)]:
            self.queued.remove(started)
            self.allocations += self._allocations_of(started)
        return plan

    def _is_due(self, queued: QueuedRequest) -> bool:
        return queued.slot is not None and not queued.slot.estimate and queued.slot.start <= self.now

    def _allocations_of(self, started: QueuedRequest) -> Iterable[Allocation]:
        assert started.slot is not None
        for name in started.slot.nodes:
            yield Allocation(name, units_on(self.nodes, started, name), started.slot.start + started.duration)

    def happen(self, event: str) -> None:
        getattr(self, f"_{event.replace(' ', '_')}")()

    def _time(self) -> None:
        """Advance at most to the next slot's start, or slightly past it: a pass may be late."""
        then = self.now + self.draw(1, 90) * MINUTE
        starts = [slot.start for slot in self.promises.values()]
        self.now = min([then, *(start + self.draw(0, 1) * DELAY for start in starts)])
        self.allocations = [
            allocation for allocation in self.allocations if allocation.until is None or allocation.until > self.now
        ]

    def _arrival(self) -> None:
        self.requests += 1
        self.queued.append(self.data.draw(requests(self.requests)))

    def _early_end(self) -> None:
        if self.allocations:
            del self.allocations[self.draw(0, len(self.allocations) - 1)]

    def _extension(self) -> None:
        """Extend an allocation as far as the promises allow."""
        timed = [allocation for allocation in self.allocations if allocation.until is not None]
        if timed:
            allocation = timed[self.draw(0, len(timed) - 1)]
            assert allocation.until is not None
            wanted = allocation.until + self.draw(1, 300) * MINUTE
            granted = self.latest_end(allocation, wanted)
            assert allocation.until <= granted <= wanted
            self.allocations[self.allocations.index(allocation)] = replace(allocation, until=granted)

    def latest_end(self, allocation: Allocation, wanted: datetime) -> datetime:
        """The latest end that the slots of the last plan allow."""
        assert allocation.until is not None
        claims = [
            Claim(other.units, self.now, other.until)
            for other in self.allocations
            if other is not allocation and other.node == allocation.node
        ]
        claims += [
            Claim(units_on(self.nodes, queued, allocation.node), queued.slot.start, queued.slot.start + queued.duration)
            for queued in self.queued
            if queued.slot and not queued.slot.estimate and allocation.node in queued.slot.nodes
        ]
        return latest_end(self.nodes[allocation.node], claims, allocation.units, allocation.until, wanted)

    def _cancel(self) -> None:
        if self.queued:
            del self.queued[self.draw(0, len(self.queued) - 1)]

    def _disk(self) -> None:
        """Another time at which a request's disk is free."""
        if self.queued:
            index = self.draw(0, len(self.queued) - 1)
            free = self.data.draw(st.sampled_from([None, self.now + self.draw(-60, 60) * MINUTE]))
            self.queued[index] = replace(self.queued[index], not_before=free)

    def _outage(self) -> None:
        """Nothing is planned for longer than the grace of a slot."""
        self.now += self.draw(1, 600) * MINUTE
        self.allocations = [
            allocation for allocation in self.allocations if allocation.until is None or allocation.until > self.now
        ]

    def _cordon(self) -> None:
        self._change(usable=False)

    def _uncordon(self) -> None:
        self._change(usable=True)

    def _added(self) -> None:
        self._change(available_from=None)

    def _label(self) -> None:
        self._change(labels=self.data.draw(st.sampled_from([{}, {"disk": "ssd"}])))

    def _change(self, **changes: object) -> None:
        name = sorted(self.nodes)[self.draw(0, len(self.nodes) - 1)]
        self.nodes[name] = replace(self.nodes[name], **changes)  # type: ignore[arg-type]


@given(pool_states(), st.data())
@settings(max_examples=150, deadline=None)
def test_without_a_fault_no_promise_is_ever_postponed(pool: PoolState, data: st.DataObject) -> None:
    lab = Lab(pool, data)
    lab.replan()
    for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=8)):
        lab.happen(event)
        before = lab.promises
        plan = lab.replan()
        assert not plan.replanned
        for key, slot in before.items():
            assert plan.slots[key].start <= slot.start
            assert not plan.slots[key].estimate


@given(pool_states(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_fault_postpones_only_slots_on_nodes_that_do_not_serve_them_any_more(
    pool: PoolState, data: st.DataObject
) -> None:
    lab = Lab(pool, data)
    lab.replan()
    for event in data.draw(st.lists(st.sampled_from(EVENTS + FAULTS * 2), min_size=1, max_size=8)):
        lab.happen(event)
        before = lab.promises
        broken = {w.id for w in lab.queued if w.id in before and not lab.serves(w, before[w.id])}
        plan = lab.replan()
        assert plan.replanned == broken
        for key in before.keys() - plan.replanned:
            assert plan.slots[key].start <= before[key].start


def change_between(before: PoolState, after: PoolState) -> PoolChange:
    """The difference of two states with the same nodes."""
    freed, taken = list(before.allocations), list(after.allocations)
    for allocation in before.allocations:
        if allocation in taken:
            freed.remove(allocation)
            taken.remove(allocation)
    old, new = {w.id: w for w in before.queued}, {w.id: w for w in after.queued}
    return PoolChange(
        now=after.now,
        freed=freed,
        taken=taken,
        gone=[key for key in old if key not in new],
        bounded=[new[key] for key in old if key in new and old[key].not_before != new[key].not_before],
        arrived=[new[key] for key in new if key not in old],
    )


def changed_or_new(plan: PoolPlan, before: PoolState, after: PoolState) -> PoolPlan:
    """The plan of the state after: changed if that is possible, else made from nothing."""
    if before.nodes != after.nodes or change_plan(plan, change_between(before, after)) is None:
        return build_plan(after)
    return plan


@given(pool_states(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_plan_that_is_changed_is_the_plan_from_nothing(pool: PoolState, data: st.DataObject) -> None:
    lab = Lab(pool, data)
    lab.replan()
    before = lab.state
    kept = build_plan(before)
    for _ in range(data.draw(st.integers(1, 8))):
        for event in data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3)):
            lab.happen(event)
        after = lab.state
        kept = changed_or_new(kept, before, after)
        # Those that are placed in their slots are gone in the next state.
        from_nothing = lab.replan()
        assert kept.plan == from_nothing
        before = after


@given(pool_states(), st.data())
@settings(max_examples=100, deadline=None)
def test_the_latest_end_is_the_last_one_that_breaks_no_slot(pool: PoolState, data: st.DataObject) -> None:
    """An extension is cut only when one second more would break a slot."""
    lab = Lab(pool, data)
    lab.replan()
    timed = [allocation for allocation in lab.allocations if allocation.until is not None]
    if not timed:
        return
    allocation = data.draw(st.sampled_from(timed))
    assert allocation.until is not None
    wanted = allocation.until + 48 * 60 * MINUTE
    granted = lab.latest_end(allocation, wanted)
    if granted < wanted:
        lab.allocations[lab.allocations.index(allocation)] = replace(allocation, until=granted + timedelta(seconds=1))
        assert plan_pool(lab.state).replanned or not lab.nodes[allocation.node].usable
