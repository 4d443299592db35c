"""The plan of a pool is one document: planned when its picture changes, written whole, told a few at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders import NOW, a_node, a_placed, a_reservation
from tests.world import BEN, HOUR, MINUTE, SECOND, World

from odc.adapters.memory.state_store import MemoryStateStore
from odc.control.context import Policy
from odc.control.decide import decide
from odc.control.observation import Observation
from odc.control.pool_plans import PlannedPool, Planner
from odc.control.queueing import MAX_TOLD
from odc.control.quiet_reservations import QuietReservations
from odc.domain.errors import Conflict
from odc.domain.limits import Limits
from odc.domain.pool_document import PoolDocument
from odc.domain.records import MAX_ITEMS, Change, Stored
from odc.domain.reservation import Place, Reservation, SlotRecord, State

POLICY = Policy()


class Recording(MemoryStateStore):
    """Remembers every change that was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []

    def commit(self, change: Change) -> None:
        super().commit(change)
        self.changes.append(change)


def test_a_pass_over_an_unchanged_picture_writes_nothing() -> None:
    store = Recording()
    world = World(store=store)
    world.reserve(gpus=8, hours=4.0)
    world.reserve(BEN, gpus=8)
    # What the check of the host has found out is written by the next pass.
    world.pass_time(MINUTE)
    written = len(store.changes)
    world.pass_time(HOUR, step=timedelta(minutes=1))
    # Another process has only the stored plan.
    world.crash()
    world.pass_time(HOUR, step=timedelta(minutes=1))
    assert len(store.changes) == written


def slots_of(world: World) -> dict[int, SlotRecord]:
    return dict(world.store.observe().plans["h100"].slots)


def test_the_slot_of_a_queued_reservation_is_in_the_plan_and_becomes_its_own_when_it_is_placed() -> None:
    world = World()
    holder = world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    slot = slots_of(world)[waiting.order]
    assert waiting.slot is None
    assert waiting.ready_by == slot.start + world.policy.limits.prepare
    world.cancel(holder)
    world.settle()
    placed = world.get(waiting)
    assert placed.slot is not None
    assert placed.slot.start == world.clock.now()
    assert waiting.order not in slots_of(world)


def test_a_slot_that_version_0_1_0_kept_in_its_reservation_is_held() -> None:
    world = World()
    holder = world.reserve(gpus=8)
    late, early = world.reserve(BEN, gpus=8, hours=8.0), world.reserve(gpus=8, hours=1.0)
    slots = slots_of(world)
    # As that version left them: in the other order than the line, since the later one was backfilled.
    start = slots[late.order].start
    swapped = {
        early.order: SlotRecord(start=start, nodes=("node-1",)),
        late.order: SlotRecord(start=start + 2 * HOUR, nodes=("node-1",)),
    }
    records = [
        replace(world.get(record), slot=swapped[record.order], ready_by=swapped[record.order].start + 5 * HOUR / 60)
        for record in (late, early)
    ]
    version = world.store.observe().pools["h100"]
    world.store.commit(Change(pools={"h100": version}, plans={"h100": PoolDocument()}, reservations=tuple(records)))
    world.settle()
    assert slots_of(world)[early.order].start == start
    assert slots_of(world)[late.order].start > start
    assert [world.get(record).postponements for record in (late, early)] == [0, 0]
    world.cancel(holder)
    world.settle()
    assert world.get(early).state is State.ACTIVE


def crowd(number: int) -> list[Reservation]:
    """Queued reservations of whole nodes."""
    return [
        a_reservation(order=order, version=1, spec=replace(a_reservation().spec, gpus=8, units=8))
        for order in range(1, number + 1)
    ]


def seen_with(records: list[Reservation], plan: PoolDocument, **fields: Any) -> Observation:
    stored = Stored(pools={"h100": 7}, plans={"h100": plan}, reservations=tuple(records), disks={})
    return Observation(
        **{
            "now": NOW,
            "frozen": False,
            "stored": stored,
            "nodes": (a_node("node-1"),),
            "boxes": (),
            "fault": "",
            "records": {record.id: record for record in records},
            "outcomes": {},
            "busy": frozenset(),
            **fields,
        }
    )


def planned(seen: Observation) -> dict[str, PlannedPool]:
    """As a process plans that has kept nothing."""
    return Planner(POLICY.limits).plan_pools(seen)


def test_a_pool_is_planned_only_when_its_nodes_its_allocations_or_its_queue_change() -> None:
    holder = a_placed(order=0, version=1, places=(Place(node="node-1", gpus=a_node("node-1").gpus),))
    records = [holder, *crowd(3)]
    first = planned(seen_with(records, PoolDocument()))["h100"]
    assert first.changed

    def again(records: list[Reservation] = records, **fields: Any) -> PlannedPool:
        return planned(seen_with(records, first.document, **fields))["h100"]

    for same in (again(), again(now=NOW + HOUR / 60), again([replace(record, version=2) for record in records])):
        assert same.document is first.document
        assert not same.changed
    due = min(slot.start for slot in first.slots.values())
    others = {
        "an arrival": again([*records, crowd(4)[-1]]),
        "an end": again(records[1:]),
        "a cancelled one": again(records[:-1]),
        "a cordoned node": again(nodes=(a_node("node-1", cordoned=True),)),
        "another node": again(nodes=(a_node("node-1"), a_node("node-2"))),
        "a label": again(nodes=(a_node("node-1", labels={"disk": "ssd"}),)),
        "a slot that nothing started": again(now=due + HOUR),
    }
    for what, plan in others.items():
        assert plan.changed, what
    assert not again(nodes=(a_node("node-1", cordoned=True),), frozen=True).changed


def test_a_thousand_slots_that_move_are_one_row_and_a_few_owners_hear_of_it_at_a_time() -> None:
    holder = a_placed(order=0, version=1, places=(Place(node="node-1", gpus=a_node("node-1").gpus),))
    records = [holder, *crowd(1000)]
    first = planned(seen_with(records, PoolDocument()))["h100"]
    told = [
        replace(record, ready_by=first.slots[record.order].start + POLICY.limits.prepare) if record.order else record
        for record in records
    ]
    # The holder ends early: all slots move.
    waiting = told[1:]
    seen = seen_with(waiting, first.document)
    plans = planned(seen)
    assert sum(plans["h100"].slots[o].start < first.slots[o].start for o in first.slots) == 1000
    proposals = decide(seen, plans, POLICY, QuietReservations()).proposals
    changes = [proposal.change for proposal in proposals if proposal.change is not None]
    assert [dict(change.pools) for change in changes] == [{"h100": 7}]
    assert len(changes[0].plans["h100"].slots) == 999
    assert len(changes[0].reservations) == 1 + MAX_TOLD
    # The line is told in its order.
    orders = [record.order for record in changes[0].reservations]
    assert orders == sorted(orders)


def test_many_placements_at_once_are_several_transactions_each_based_on_the_one_before() -> None:
    nodes = tuple(a_node(f"node-{number}") for number in range(150))
    seen = seen_with(crowd(150), PoolDocument(), nodes=nodes)
    proposals = decide(seen, planned(seen), POLICY, QuietReservations()).proposals
    changes = [proposal.change for proposal in proposals if proposal.change is not None]
    assert [change.pools["h100"] for change in changes] == [7, 8, 9, 10]
    assert sum(len(change.reservations) for change in changes) == 150
    for change in changes:
        assert change.items <= MAX_ITEMS


def test_a_hundred_boxes_that_are_gone_at_once_are_several_transactions() -> None:
    world = World(tuple(a_node(f"node-{number}") for number in range(100)), limits=unlimited())
    records = [world.ask(gpus=8, disk=f"d{number}") for number in range(50)]
    records += [world.ask(gpus=8) for _ in range(50)]
    world.settle()
    for record in records:
        world.cancel(record)
    world.settle()
    assert {record.state for record in world.all()} == {State.ENDED}


class Racing(Recording):
    """Another writer is first, once, at the first change that places something."""

    def __init__(self) -> None:
        super().__init__()
        self.race = False

    def commit(self, change: Change) -> None:
        if self.race and change.reservations:
            self.race = False
            super().commit(Change(pools=change.pools))
            raise Conflict("another writer was first")
        super().commit(change)


@pytest.mark.prompt_lists("counts what one pass writes")
def test_what_was_to_follow_a_lost_transaction_is_not_written_on_another_writers_version() -> None:
    store = Racing()
    world = World(tuple(a_node(f"node-{number}") for number in range(60)), store=store, limits=unlimited())
    for _ in range(60):
        world.ask(gpus=8)
    store.race = True
    report = world.pass_once()
    assert (report.committed, report.lost) == (0, 2)
    world.settle()
    assert {record.state for record in world.all()} == {State.ACTIVE}


def unlimited() -> Limits:
    return Limits(live_per_user=1000, gpus_per_user=10_000)


def test_every_postponement_of_a_long_queue_is_told_with_its_cause_though_not_all_at_once() -> None:
    world = World((a_node("node-1"), a_node("node-2", gpus=(), units=0, cordoned=True)), limits=unlimited())
    number = MAX_TOLD + 10
    records = [world.ask(gpus=8, hours=0.5) for _ in range(number)]
    world.settle()
    promises = {record.id: world.get(record).ready_by for record in records}
    world.clock.advance(timedelta(days=3))
    world.crash()
    world.settle(most=100)
    for record in records[2:]:
        now = world.get(record)
        before = promises[record.id]
        assert before is not None
        if now.state is State.QUEUED and now.postponements:
            told = [event for event in world.events(record) if event.kind == "postponed"]
            assert all("the cloud did not run" in event.text for event in told)
            assert now.ready_by is not None
            assert now.ready_by > world.clock.now() - SECOND
    assert sum(world.get(record).postponements for record in records) >= MAX_TOLD
