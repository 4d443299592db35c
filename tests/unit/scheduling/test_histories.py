"""What holds from plan to plan, over random histories: nothing is given twice, and a promise moves only earlier.

Each history is replanned after every event, as passes do: time goes on, requests come, reservations end early or are
extended, nodes are cordoned, come back, or are added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.scheduling.pools import check_plan, pictures, requests, units_on

from odc.scheduling import Allocation, Plan, PoolPlan, PoolState, QueuedRequest, Slot, plan_pool

MINUTE = timedelta(minutes=1)
DELAY = timedelta(seconds=20)
EVENTS = ("time", "time", "arrival", "early end", "extension")
FAULTS = ("cordon", "uncordon", "added")


class Lab:
    """A pool with its queue and what runs, as a control plane keeps them between passes."""

    def __init__(self, picture: PoolState, data: st.DataObject) -> None:
        self.now: datetime = picture.now
        self.nodes = {node.name: node for node in picture.nodes}
        self.claims = list(picture.claims)
        self.waiting = list(picture.waiting)
        self.requests = len(self.waiting)
        self.data = data

    def draw(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    @property
    def picture(self) -> PoolState:
        return PoolState(self.now, list(self.nodes.values()), list(self.claims), list(self.waiting))

    @property
    def promises(self) -> dict[str, Slot]:
        return {w.id: w.slot for w in self.waiting if w.slot is not None and not w.slot.estimate}

    def replan(self) -> Plan:
        """One pass: whoever's slot has come starts; the others keep what they were told."""
        plan = plan_pool(self.picture)
        check_plan(self.picture, dict(plan.slots))
        self.waiting = [replace(w, slot=plan.slots.get(w.id)) for w in self.waiting]
        for started in [w for w in self.waiting if self._is_due(w)]:
            self.waiting.remove(started)
            self.claims += self._claims_of(started)
        return plan

    def _is_due(self, waiting: QueuedRequest) -> bool:
        return waiting.slot is not None and not waiting.slot.estimate and waiting.slot.start <= self.now

    def _claims_of(self, started: QueuedRequest) -> Iterable[Allocation]:
        assert started.slot is not None
        for name in started.slot.nodes:
            yield Allocation(name, units_on(self.nodes, started, name), started.slot.start + started.duration)

    def happen(self, event: str) -> None:
        getattr(self, f"_{event.replace(' ', '_')}")()

    def _time(self) -> None:
        """At most to the next slot, and a moment more: a pass may come late."""
        then = self.now + self.draw(1, 90) * MINUTE
        starts = [slot.start for slot in self.promises.values()]
        self.now = min([then, *(start + self.draw(0, 1) * DELAY for start in starts)])
        self.claims = [claim for claim in self.claims if claim.until is None or claim.until > self.now]

    def _arrival(self) -> None:
        self.requests += 1
        self.waiting.append(self.data.draw(requests(self.requests)))

    def _early_end(self) -> None:
        if self.claims:
            del self.claims[self.draw(0, len(self.claims) - 1)]

    def _extension(self) -> None:
        """As far as the promises allow, and not further."""
        timed = [claim for claim in self.claims if claim.until is not None]
        if timed:
            claim = timed[self.draw(0, len(timed) - 1)]
            assert claim.until is not None
            wanted = claim.until + self.draw(1, 300) * MINUTE
            granted = PoolPlan(self.picture).latest_end(claim.node, claim.units, claim.until, wanted)
            assert claim.until <= granted <= wanted
            self.claims[self.claims.index(claim)] = replace(claim, until=granted)

    def _cordon(self) -> None:
        self._change(usable=False)

    def _uncordon(self) -> None:
        self._change(usable=True)

    def _added(self) -> None:
        self._change(available_from=None)

    def _change(self, **changes: object) -> None:
        name = sorted(self.nodes)[self.draw(0, len(self.nodes) - 1)]
        self.nodes[name] = replace(self.nodes[name], **changes)  # type: ignore[arg-type]


@given(pictures(), st.data())
@settings(max_examples=150, deadline=None)
def test_without_a_fault_no_promise_is_ever_postponed(picture: PoolState, data: st.DataObject) -> None:
    lab = Lab(picture, data)
    lab.replan()
    for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=8)):
        lab.happen(event)
        told = lab.promises
        plan = lab.replan()
        assert not plan.replanned
        for key, slot in told.items():
            assert plan.slots[key].start <= slot.start
            assert not plan.slots[key].estimate


@given(pictures(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_fault_postpones_only_those_whose_own_node_it_took(picture: PoolState, data: st.DataObject) -> None:
    lab = Lab(picture, data)
    lab.replan()
    for event in data.draw(st.lists(st.sampled_from(EVENTS + FAULTS * 2), min_size=1, max_size=8)):
        lab.happen(event)
        told = lab.promises
        unusable = {name for name, node in lab.nodes.items() if not node.usable}
        plan = lab.replan()
        assert plan.replanned == {key for key, slot in told.items() if unusable & set(slot.nodes)}
        for key in told.keys() - plan.replanned:
            assert plan.slots[key].start <= told[key].start


@given(pictures(), st.data())
@settings(max_examples=100, deadline=None)
def test_whoever_is_asked_about_gets_an_end_that_the_next_second_would_break(
    picture: PoolState, data: st.DataObject
) -> None:
    """An extension is not refused for nothing: one second more, and some slot would have to move."""
    lab = Lab(picture, data)
    lab.replan()
    timed = [claim for claim in lab.claims if claim.until is not None]
    if not timed:
        return
    claim = data.draw(st.sampled_from(timed))
    assert claim.until is not None
    wanted = claim.until + 48 * 60 * MINUTE
    granted = PoolPlan(lab.picture).latest_end(claim.node, claim.units, claim.until, wanted)
    if granted < wanted:
        lab.claims[lab.claims.index(claim)] = replace(claim, until=granted + timedelta(seconds=1))
        assert plan_pool(lab.picture).replanned or not lab.nodes[claim.node].usable
