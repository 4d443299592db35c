"""What could be had, and the queue, are written by passes: queries plan nothing, and say what is true now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import a_node
from tests.world import ADA, BEN, HOUR, MINUTE, OPERATOR, World

from odc.api import views
from odc.control import pool_plans
from odc.control.pools import pool_state
from odc.control.queue_positions import Ahead
from odc.domain.promise import ready_by
from odc.domain.reservation import Reservation, State
from odc.domain.status import WaitsFor
from odc.scheduling import PoolPlan, PoolState, build_plan


class Counted:
    """An adapter that counts its calls."""

    def __init__(self, adapter: object) -> None:
        self._adapter = adapter
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., object]:
        found = getattr(self._adapter, name)

        def call(*arguments: object, **options: object) -> object:
            self.calls[name] += 1
            return found(*arguments, **options)

        return call


def starts(world: World, gpu_type: str = "h100") -> dict[int, datetime | None]:
    """When each count could be had, as another process says it."""
    found = {available.name: available for available in World.beside(world).queries.availability()}
    return {count: window.start for count, window in found[gpu_type].choices.items()}


def computed(world: World) -> dict[int, datetime | None]:
    """The same, from a plan that is made for this question."""
    stored, now, limits = world.store.observe(), world.clock.now(), world.policy.limits
    pool = pool_state("h100", stored, world.cluster.list_nodes(), (), limits, now)
    plan = build_plan(pool)
    found = {count: plan.free_for(count).start for count in starts(world)}
    return {count: ready_by(start, limits) if start and start > now else start for count, start in found.items()}


def test_queries_observe_nothing_and_plan_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.reserve(gpus=8, hours=4.0)
    waiting = [world.reserve(BEN, gpus=8, hours=1.0) for _ in range(3)]
    store = Counted(world.store)

    def build(pool: PoolState) -> PoolPlan:
        raise AssertionError("a query has planned a pool")

    monkeypatch.setattr(pool_plans, "build_plan", build)
    other = World.beside(world)
    other.build(lambda port, adapter: store if port == "store" else adapter)
    queries = other.queries
    assert [available.counts.free for available in queries.availability()] == [0]
    assert queries.find(BEN, waiting[2].id).position == 3
    page = queries.reservation_page(OPERATOR, "all", False, frozenset(), "", 100)
    assert [detail.position for detail in page.items] == [3, 2, 1, None]
    views.status_view(queries.availability(), queries.status, queries.now(), BEN)
    assert store.calls["observe"] == 0
    # The first in line waits for one that is not in its own list.
    assert store.calls["find_in_line"] <= 1


def test_the_place_in_line_and_what_is_ahead_of_one_that_no_pass_has_seen() -> None:
    world = World()
    holding = world.reserve(gpus=8)
    first = world.reserve(BEN, gpus=8)
    new = world.ask(gpus=8)
    found = World.beside(world).queries.find(ADA, new.id)
    assert (found.position, found.ahead) == (2, Ahead(WaitsFor.QUEUE, world.get(first)))
    world.cancel(first, BEN)
    found = World.beside(world).queries.find(ADA, new.id)
    assert (found.position, found.ahead) == (2, None)
    world.settle()
    found = World.beside(world).queries.find(ADA, new.id)
    assert (found.position, found.ahead) == (1, Ahead(WaitsFor.GPUS, world.get(holding)))


def test_a_reader_who_may_not_see_what_is_ahead_is_not_told() -> None:
    world = World()
    world.reserve(gpus=8)
    record = world.reserve(BEN, gpus=8)
    found = world.queries.find(ADA, record.id)
    assert (found.position, found.ahead, found.disk) == (1, None, None)


def test_no_start_is_shown_that_is_past_although_no_pass_runs() -> None:
    world = World()
    world.reserve(gpus=8, hours=1.0)
    until = starts(world)[8]
    assert until is not None
    world.clock.advance(6 * HOUR)
    assert set(starts(world).values()) == {world.clock.now()}
    world.settle()
    assert starts(world)[8] == world.clock.now()


def test_while_the_cluster_is_silent_the_last_outlook_is_shown() -> None:
    world = World()
    world.reserve(gpus=4, hours=4.0)
    before = starts(world)
    world.cluster.go_down()
    world.pass_once()
    assert starts(world) == before


def test_a_type_whose_nodes_and_reservations_are_gone_is_not_shown_any_more() -> None:
    world = World(nodes=[a_node("node-1"), a_node("node-2", gpu_type="a100")])
    assert [available.name for available in world.queries.availability()] == ["h100", "a100"]
    world.cluster.take_node("node-2")
    world.pass_once()
    assert [available.name for available in World.beside(world).queries.availability()] == ["h100"]


ACTIONS = ("reserve", "reserve", "reserve", "wait", "cancel", "silence", "heal")


def act(world: World, name: str, data: st.DataObject) -> None:
    """Do something that changes the outlook, or may."""
    live = [record for record in world.all() if record.state is not State.ENDED]
    match name:
        case "reserve" if len(live) < 8:
            who = data.draw(st.sampled_from((ADA, BEN)))
            world.ask(who, gpus=data.draw(st.sampled_from((1, 2, 4, 8))), hours=data.draw(st.sampled_from((0.5, 2.0))))
        case "cancel" if live:
            record = data.draw(st.sampled_from(live))
            world.cancel(record, OPERATOR)
        case "silence":
            world.cluster.silence("node-2")
        case "heal":
            world.cluster.heal()
        case "wait":
            world.pass_time(data.draw(st.integers(1, 40)) * MINUTE, step=5 * MINUTE)


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_stored_outlook_is_what_a_plan_made_for_the_question_says(data: st.DataObject) -> None:
    world = World(nodes=[a_node("node-1"), a_node("node-2")])
    for name in data.draw(st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=8)):
        act(world, name, data)
        world.settle()
        assert starts(world) == computed(world)
        queued = [record for record in world.all() if record.state is State.QUEUED]
        found = World.beside(world).queries.details(OPERATOR, tuple(queued))
        assert [detail.position for detail in found] == list(range(1, len(queued) + 1))
        assert [ahead_of(detail.ahead) for detail in found[1:]] == [record.id for record in queued[:-1]]


def ahead_of(ahead: Ahead | None) -> str:
    """Id of the reservation that one waits for; empty if none is known."""
    other: Reservation | None = ahead.reservation if ahead else None
    return other.id if other else ""


def test_a_window_that_is_open_stays_open_from_now_on() -> None:
    world = World()
    world.reserve(gpus=4, hours=8.0)
    world.clock.advance(timedelta(minutes=7))
    assert [starts(world)[count] for count in (1, 2, 4)] == [world.clock.now()] * 3
