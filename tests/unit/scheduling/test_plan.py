"""One plan: which request starts when, and where. `test_histories.py` tests properties across successive plans."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.scheduling.oracle import Oracle
from tests.unit.scheduling.pools import HOUR, NOW, a_request, check_plan, pool_states, requests, units_on

from odc.scheduling import (
    Allocation,
    Claim,
    PoolChange,
    PoolNode,
    PoolState,
    Slot,
    build_plan,
    change_plan,
    could_ever_serve,
    latest_end,
    plan_pool,
)


def nodes_of(count: int, units: int = 8, **changes: object) -> list[PoolNode]:
    return [PoolNode(name=f"n{index}", units=units, **changes) for index in range(count)]  # type: ignore[arg-type]


@given(pool_states())
@settings(max_examples=300, deadline=None)
def test_every_request_gets_the_earliest_slot_that_delays_no_earlier_request(pool: PoolState) -> None:
    """First come, first served: each request, placed after all before it, starts exactly when the oracle says."""
    plan = plan_pool(pool)
    check_plan(pool, dict(plan.slots))
    nodes = {node.name: node for node in pool.nodes}
    oracle = Oracle(pool)
    for request in pool.queued:
        slot = plan.slots.get(request.id)
        first = oracle.earliest(request)
        if first is None:
            assert slot is None or slot.estimate
            continue
        assert slot is not None
        assert (slot.start, slot.estimate) == (first, False)
        oracle.take(slot.nodes, first, request.duration, units_on(nodes, request, slot.nodes[0]))


@given(pool_states())
@settings(max_examples=200, deadline=None)
def test_impossible_means_that_no_node_could_ever_serve_and_addable_nodes_give_estimates(
    pool: PoolState,
) -> None:
    plan = plan_pool(pool)
    could_come = [node for node in pool.nodes if node.available_from is not None]
    for request in pool.queued:
        wanted = (request.units, request.nodes, request.where)
        assert (request.id in plan.impossible) == (not could_ever_serve(pool.nodes, *wanted))
        slot = plan.slots.get(request.id)
        if could_ever_serve(could_come, *wanted):
            assert slot is not None
        if slot is not None and slot.estimate:
            new = [node.available_from for node in could_come if node.name in slot.nodes]
            assert new
            assert all(at is not None and slot.start >= at for at in new)


@given(pool_states(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_later_request_never_changes_an_earlier_slot(pool: PoolState, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(pool.queued)))
    earlier = pool.queued[:count]
    alone = plan_pool(replace(pool, queued=earlier))
    together = plan_pool(pool)
    assert {r.id: together.slots.get(r.id) for r in earlier} == {r.id: alone.slots.get(r.id) for r in earlier}
    # A plan that is changed must give the same slots, one arrival at a time.
    plan = build_plan(replace(pool, queued=earlier))
    for request in pool.queued[count:]:
        changed = change_plan(plan, PoolChange(NOW, arrived=[request]))
        assert changed is not None
        assert changed[request.id] == together.slots.get(request.id)
    # Estimates are made again each time.
    placed = {key: slot for key, slot in together.slots.items() if not slot.estimate}
    assert {key: slot for key, slot in plan.plan.slots.items() if not slot.estimate} == placed


@given(pool_states(), st.data())
@settings(max_examples=100, deadline=None)
def test_asking_for_the_earliest_slot_gives_the_slot_that_the_request_would_get(
    pool: PoolState, data: st.DataObject
) -> None:
    request = data.draw(requests(len(pool.queued)))
    plan = build_plan(pool)
    before = dict(plan.plan.slots)
    asked = plan.earliest(
        request.units,
        request.nodes,
        request.duration,
        not_before=request.not_before,
        where=request.where,
    )
    assert dict(plan.plan.slots) == before
    change_plan(plan, PoolChange(NOW, arrived=[request]))
    got = plan.slot_of(request.id)
    assert asked == (None if got is not None and got.estimate else got)


def test_a_stream_of_small_requests_does_not_delay_a_large_one_at_the_head() -> None:
    allocations = [Allocation("n0", 4, NOW + HOUR)]
    big = a_request(0, units=8, hours=2)
    slot = plan_pool(PoolState(NOW, nodes_of(1), allocations, [big])).slots["r0"]
    assert slot.start == NOW + HOUR
    small = [a_request(number, units=1, hours=5) for number in range(1, 20)]
    plan = plan_pool(PoolState(NOW, nodes_of(1), allocations, [replace(big, slot=slot), *small]))
    assert plan.slots["r0"].start == NOW + HOUR
    assert all(plan.slots[f"r{n}"].start >= NOW + 3 * HOUR for n in range(1, 20))
    short = a_request(30, units=1, hours=0.5)
    plan = plan_pool(PoolState(NOW, nodes_of(1), allocations, [replace(big, slot=slot), short]))
    assert plan.slots["r30"] == Slot(NOW, ("n0",))


def test_best_fit_leaves_empty_nodes_empty() -> None:
    allocations = [Allocation("n1", 6, NOW + 9 * HOUR)]
    assert plan_pool(PoolState(NOW, nodes_of(3), allocations, [a_request(0, units=2)])).slots["r0"].nodes == ("n1",)


def test_a_slot_on_an_unusable_node_is_replanned() -> None:
    held = a_request(0, slot=Slot(NOW + HOUR, ("n0",)), promised=NOW + HOUR)
    nodes = [replace(nodes_of(1)[0], usable=False), PoolNode("n1", 8)]
    plan = plan_pool(PoolState(NOW, nodes, [], [held]))
    assert plan.slots["r0"] == Slot(NOW, ("n1",))
    assert plan.replanned == {"r0"}


def test_slots_in_the_past_are_replanned_in_promise_order() -> None:
    past = NOW - 6 * HOUR
    queued = [
        a_request(0, units=8, slot=Slot(past + HOUR, ("n0",)), promised=past + HOUR),
        a_request(1, units=8, slot=Slot(past, ("n0",)), promised=past),
    ]
    plan = plan_pool(PoolState(NOW, nodes_of(1), [], queued))
    assert plan.slots["r1"].start == NOW
    assert plan.slots["r0"].start == NOW + HOUR


def test_an_infeasible_slot_without_a_promise_is_replanned_after_those_with_one() -> None:
    broken = Slot(NOW + HOUR, ("gone",))
    queued = [
        a_request(0, units=8, slot=broken),
        a_request(1, units=8, slot=broken, promised=NOW + HOUR),
    ]
    plan = plan_pool(PoolState(NOW, nodes_of(1), [], queued))
    assert plan.slots["r1"].start == NOW
    assert plan.slots["r0"].start == NOW + HOUR


def test_a_pass_two_seconds_late_postpones_no_slot() -> None:
    late = NOW + timedelta(seconds=2)
    first = a_request(0, units=8, slot=Slot(NOW, ("n0",)))
    second = a_request(1, units=8, slot=Slot(NOW + HOUR, ("n0",)))
    plan = plan_pool(PoolState(late, nodes_of(1), [], [first, second]))
    assert plan.slots == {"r0": Slot(NOW, ("n0",)), "r1": Slot(NOW + HOUR, ("n0",))}
    assert not plan.replanned


def test_addable_nodes_give_estimates_only_to_requests_that_no_existing_node_can_serve() -> None:
    nodes = [PoolNode("small", 4), PoolNode("new", 8, available_from=NOW + HOUR / 6)]
    plan = plan_pool(
        PoolState(NOW, nodes, [Allocation("small", 4, NOW + 5 * HOUR)], [a_request(0, 8), a_request(1, 4)])
    )
    assert plan.slots["r0"] == Slot(NOW + HOUR / 6, ("new",), estimate=True)
    assert plan.slots["r1"] == Slot(NOW + 5 * HOUR, ("small",))


def test_an_extension_ends_at_the_start_of_the_next_slot() -> None:
    node = nodes_of(1)[0]
    slots = [Claim(8, NOW + 3 * HOUR, NOW + 5 * HOUR), Claim(4, NOW + 2 * HOUR, NOW + 3 * HOUR)]
    assert latest_end(node, slots, 4, NOW + HOUR, NOW + 9 * HOUR) == NOW + 3 * HOUR
    assert latest_end(node, slots, 4, NOW + HOUR, NOW + 2 * HOUR) == NOW + 2 * HOUR
    assert latest_end(node, [Claim(4, NOW, None)], 4, NOW + HOUR, NOW + 9 * HOUR) == NOW + 9 * HOUR
    assert latest_end(node, [Claim(5, NOW, None)], 4, NOW + HOUR, NOW + 9 * HOUR) == NOW + HOUR
    assert latest_end(replace(node, usable=False), [], 4, NOW + HOUR, NOW + 9 * HOUR) == NOW + HOUR


def test_an_early_end_moves_later_slots_forward() -> None:
    allocations = [Allocation("n0", 8, NOW + 5 * HOUR)]
    plan = build_plan(PoolState(NOW, nodes_of(1), allocations, [a_request(0, 8, 2), a_request(1, 8, 1)]))
    assert plan.plan.slots["r1"].start == NOW + 7 * HOUR
    assert change_plan(plan, PoolChange(NOW, freed=allocations)) == {
        "r0": Slot(NOW, ("n0",)),
        "r1": Slot(NOW + 2 * HOUR, ("n0",)),
    }


def test_a_disk_that_is_free_earlier_moves_its_slot_forward_and_a_later_one_makes_it_infeasible() -> None:
    plan = build_plan(PoolState(NOW, nodes_of(1), [], [a_request(0, 8, 1)]))
    waiting = a_request(1, 8, 1, not_before=NOW + 3 * HOUR)
    change_plan(plan, PoolChange(NOW, arrived=[waiting]))
    bounded = PoolChange(NOW, bounded=[replace(waiting, not_before=NOW)])
    assert change_plan(plan, bounded) == {"r1": Slot(NOW + HOUR, ("n0",))}
    assert change_plan(plan, PoolChange(NOW, bounded=[waiting])) is None


@given(pool_states(), st.data())
@settings(max_examples=200, deadline=None)
def test_after_early_ends_no_slot_could_start_earlier(pool: PoolState, data: st.DataObject) -> None:
    plan = build_plan(pool)
    before = {key: slot for key, slot in plan.plan.slots.items() if not slot.estimate}
    allocations = list(pool.allocations)
    for _ in range(min(3, len(allocations))):
        ended = allocations.pop(data.draw(st.integers(0, len(allocations) - 1)))
        change_plan(plan, PoolChange(pool.now, freed=[ended]))
    after = dict(plan.plan.slots)
    assert all(after[key].start <= slot.start for key, slot in before.items())
    queued = [replace(w, slot=after[w.id]) for w in pool.queued if w.id in after]
    later = replace(pool, allocations=allocations, queued=queued)
    check_plan(later, after)
    # A new plan tries every held slot against all free windows, so it finds any improvement that the change missed.
    fresh = plan_pool(later).slots
    assert all(fresh[key] == slot for key, slot in after.items() if not slot.estimate)


def test_free_units_are_reported_with_how_long_they_stay_free() -> None:
    allocations = [Allocation("n0", 4, NOW + HOUR)]
    queued = [a_request(0, units=8, hours=2, slot=Slot(NOW + HOUR, ("n0",)))]
    plan = build_plan(PoolState(NOW, nodes_of(1), allocations, queued))
    assert (plan.free_for(4).start, plan.free_for(4).until) == (NOW, NOW + HOUR)
    assert plan.free_for(8).start == NOW + 3 * HOUR
    assert plan.free_for(16).start is None
