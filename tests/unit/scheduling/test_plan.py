"""The promises of the planner, over random histories: nothing is given twice, nobody is postponed without a fault."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.scheduling.oracle import Oracle

from odc.scheduling import Claim, Picture, PoolNode, PoolPlan, Slot, Waiting, could_ever_serve, plan_pool

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_request(number: int, units: int = 1, hours: float = 1, **changes: object) -> Waiting:
    defaults = {"id": f"r{number}", "units": units, "nodes": 1, "duration": hours * HOUR, "order": number}
    return Waiting(**(defaults | changes))  # type: ignore[arg-type]


def nodes_of(count: int, units: int = 8, **changes: object) -> list[PoolNode]:
    return [PoolNode(name=f"n{index}", units=units, **changes) for index in range(count)]  # type: ignore[arg-type]


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    zones = draw(st.integers(1, 2))
    nodes = [
        PoolNode(name=f"n{index}", units=draw(st.sampled_from([4, 8])), zone=f"z{index % zones}")
        for index in range(draw(st.integers(1, 4)))
    ]
    nodes += [PoolNode(name="p", units=8, profiling=True)] if draw(st.booleans()) else []
    claims = []
    for node in nodes:
        free = node.units
        for _ in range(draw(st.integers(0, 2))):
            units = draw(st.integers(1, 4))
            if units <= free:
                free -= units
                claims.append(Claim(node.name, units, NOW + draw(st.integers(1, 20)) * HOUR / 4))
    waiting = []
    for number in range(draw(st.integers(0, 12))):
        gang = draw(st.integers(0, 5)) == 0
        waiting.append(
            a_request(
                number,
                units=draw(st.sampled_from([4, 8] if gang else [1, 2, 4, 8])),
                hours=draw(st.integers(1, 16)) / 4,
                nodes=2 if gang else 1,
                profiling=not gang and draw(st.integers(0, 7)) == 0,
                not_before=draw(st.sampled_from([None, None, None, NOW + HOUR])),
            )
        )
    return Picture(now=NOW, nodes=nodes, claims=claims, waiting=waiting)


def check_plan(picture: Picture, slots: dict[str, Slot]) -> None:
    """No unit is given twice; gangs are whole, in one zone; profiling is alone on its own nodes."""
    nodes = {node.name: node for node in picture.nodes}
    oracle = Oracle(picture)
    for request in picture.waiting:
        slot = slots.get(request.id)
        if slot is None or slot.estimate:
            continue
        assert len(set(slot.nodes)) == request.nodes
        assert len({nodes[name].zone for name in slot.nodes}) == 1
        assert all(nodes[name].profiling == request.profiling and nodes[name].usable for name in slot.nodes)
        units = nodes[slot.nodes[0]].units if request.profiling else request.units
        if request.nodes > 1:
            assert all(nodes[name].units == request.units for name in slot.nodes)
        for name in slot.nodes:
            assert oracle.free(name, slot.start, slot.start + request.duration) >= units
        oracle.take(slot.nodes, slot.start, request.duration, units)


@given(pictures())
@settings(max_examples=300, deadline=None)
def test_every_feasible_request_gets_the_first_slot_that_delays_nobody_before_it(picture: Picture) -> None:
    plan = plan_pool(picture)
    check_plan(picture, dict(plan.slots))
    for request in picture.waiting:
        possible = could_ever_serve(picture.nodes, request.units, request.nodes, request.profiling)
        assert (request.id in plan.slots) == possible
        assert (request.id in plan.impossible) == (not possible)
    # First come, first served: each alone behind those before it starts exactly when the oracle says.
    oracle = Oracle(picture)
    for request in picture.waiting:
        slot = plan.slots.get(request.id)
        if slot is None:
            continue
        assert slot.start == oracle.earliest(request)
        units = {n.name: n.units for n in picture.nodes}[slot.nodes[0]] if request.profiling else request.units
        oracle.take(slot.nodes, slot.start, request.duration, units)


@given(pictures(), st.integers(1, 30), st.data())
@settings(max_examples=200, deadline=None)
def test_no_promise_is_postponed_as_time_passes_and_others_come_and_end_early(
    picture: Picture, minutes: int, data: st.DataObject
) -> None:
    held = dict(plan_pool(picture).slots)
    now = NOW + timedelta(minutes=minutes)
    waiting = [replace(w, slot=held.get(w.id)) for w in picture.waiting if w.id in held and held[w.id].start > now]
    started = [w for w in picture.waiting if w.id in held and held[w.id].start <= now]
    units = {node.name: node.units for node in picture.nodes}
    claims = [claim for claim in picture.claims if claim.until is None or claim.until > now]
    claims += [
        Claim(name, units[name] if w.profiling else w.units, held[w.id].start + w.duration)
        for w in started
        for name in held[w.id].nodes
        if held[w.id].start + w.duration > now
    ]
    ended = {index for index in range(len(claims)) if data.draw(st.integers(0, 3)) == 0}
    claims = [claim for index, claim in enumerate(claims) if index not in ended]
    newcomers = [a_request(100 + number, units=1, hours=1) for number in range(data.draw(st.integers(0, 4)))]
    later = Picture(now=now, nodes=picture.nodes, claims=claims, waiting=[*waiting, *newcomers])
    plan = plan_pool(later)
    check_plan(later, dict(plan.slots))
    assert not plan.relaid
    for request in waiting:
        assert plan.slots[request.id].start <= held[request.id].start


def test_a_large_request_at_the_head_starts_by_its_promise_behind_a_stream_of_small_ones() -> None:
    claims = [Claim("n0", 4, NOW + HOUR)]
    big = a_request(0, units=8, hours=2)
    slot = plan_pool(Picture(NOW, nodes_of(1), claims, [big])).slots["r0"]
    assert slot.start == NOW + HOUR
    small = [a_request(number, units=1, hours=5) for number in range(1, 20)]
    plan = plan_pool(Picture(NOW, nodes_of(1), claims, [replace(big, slot=slot), *small]))
    assert plan.slots["r0"].start == NOW + HOUR
    assert all(plan.slots[f"r{n}"].start >= NOW + 3 * HOUR for n in range(1, 20))
    short = a_request(30, units=1, hours=0.5)
    assert PoolPlan(Picture(NOW, nodes_of(1), claims, [replace(big, slot=slot)])).add(short) == Slot(NOW, ("n0",))


def test_best_fit_keeps_whole_nodes_whole() -> None:
    claims = [Claim("n1", 6, NOW + 9 * HOUR)]
    assert plan_pool(Picture(NOW, nodes_of(3), claims, [a_request(0, units=2)])).slots["r0"].nodes == ("n1",)


def test_a_slot_on_a_node_that_takes_nothing_new_is_laid_anew() -> None:
    held = a_request(0, slot=Slot(NOW + HOUR, ("n0",)), promised=NOW + HOUR)
    nodes = [replace(nodes_of(1)[0], usable=False), PoolNode("n1", 8)]
    plan = plan_pool(Picture(NOW, nodes, [], [held]))
    assert plan.slots["r0"] == Slot(NOW, ("n1",))
    assert plan.relaid == {"r0"}


def test_slots_that_lie_in_the_past_are_laid_anew_in_promise_order() -> None:
    past = NOW - 6 * HOUR
    waiting = [
        a_request(0, units=8, slot=Slot(past + HOUR, ("n0",)), promised=past + HOUR),
        a_request(1, units=8, slot=Slot(past, ("n0",)), promised=past),
    ]
    plan = plan_pool(Picture(NOW, nodes_of(1), [], waiting))
    assert plan.slots["r1"].start == NOW
    assert plan.slots["r0"].start == NOW + HOUR


def test_a_pass_that_comes_a_moment_late_postpones_nobody() -> None:
    late = NOW + timedelta(seconds=2)
    first = a_request(0, units=8, slot=Slot(NOW, ("n0",)))
    second = a_request(1, units=8, slot=Slot(NOW + HOUR, ("n0",)))
    plan = plan_pool(Picture(late, nodes_of(1), [], [first, second]))
    assert plan.slots == {"r0": Slot(NOW, ("n0",)), "r1": Slot(NOW + HOUR, ("n0",))}
    assert not plan.relaid


def test_nodes_that_do_not_exist_yet_give_estimates_only_to_those_whom_no_node_can_serve() -> None:
    nodes = [PoolNode("small", 4), PoolNode("new", 8, available_from=NOW + HOUR / 6)]
    plan = plan_pool(Picture(NOW, nodes, [Claim("small", 4, NOW + 5 * HOUR)], [a_request(0, 8), a_request(1, 4)]))
    assert plan.slots["r0"] == Slot(NOW + HOUR / 6, ("new",), estimate=True)
    assert plan.slots["r1"] == Slot(NOW + 5 * HOUR, ("small",))


def test_an_extension_ends_where_the_next_slot_begins() -> None:
    claims = [Claim("n0", 4, NOW + HOUR)]
    waiting = [a_request(0, units=8, slot=Slot(NOW + 3 * HOUR, ("n0",)), not_before=NOW + 3 * HOUR)]
    plan = PoolPlan(Picture(NOW, nodes_of(1), claims, waiting))
    assert plan.latest_end("n0", 4, NOW + HOUR, NOW + 9 * HOUR) == NOW + 3 * HOUR
    assert plan.latest_end("n0", 4, NOW + HOUR, NOW + 2 * HOUR) == NOW + 2 * HOUR


def test_an_early_end_pulls_those_forward_who_can_use_it() -> None:
    claims = [Claim("n0", 8, NOW + 5 * HOUR)]
    plan = PoolPlan(Picture(NOW, nodes_of(1), claims, [a_request(0, 8, 2), a_request(1, 8, 1)]))
    assert plan.plan.slots["r1"].start == NOW + 7 * HOUR
    assert plan.release("n0", 8, NOW, NOW + 5 * HOUR) == ["r0", "r1"]
    assert plan.plan.slots["r0"].start == NOW
    assert plan.plan.slots["r1"].start == NOW + 2 * HOUR


@given(pictures(), st.data())
@settings(max_examples=200, deadline=None)
def test_after_early_ends_no_slot_could_start_earlier(picture: Picture, data: st.DataObject) -> None:
    plan = PoolPlan(picture)
    before = dict(plan.plan.slots)
    claims = list(picture.claims)
    for _ in range(min(3, len(claims))):
        ended = claims.pop(data.draw(st.integers(0, len(claims) - 1)))
        plan.release(ended.node, ended.units, picture.now, ended.until)
    after = dict(plan.plan.slots)
    assert all(after[key].start <= slot.start for key, slot in before.items())
    waiting = [replace(w, slot=after[w.id]) for w in picture.waiting if w.id in after]
    later = replace(picture, claims=claims, waiting=waiting)
    check_plan(later, after)
    # A plan from these slots tries every one of them on everything that is free.
    assert dict(plan_pool(later).slots) == after


def test_what_is_free_now_is_said_with_how_long_it_stays_free() -> None:
    claims = [Claim("n0", 4, NOW + HOUR)]
    waiting = [a_request(0, units=8, hours=2, slot=Slot(NOW + HOUR, ("n0",)))]
    plan = PoolPlan(Picture(NOW, nodes_of(1), claims, waiting))
    assert (plan.free_for(4).start, plan.free_for(4).until) == (NOW, NOW + HOUR)
    assert plan.free_for(8).start == NOW + 3 * HOUR
    assert plan.free_for(16).start is None
