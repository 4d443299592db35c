"""A plan that a process keeps from pass to pass saves time and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import a_node
from tests.world import ADA, BEN, HOUR, MINUTE, SECOND, World

from odc.control import pool_plans, reconcile
from odc.control.observation import Observation
from odc.control.pool_plans import PlannedPool, Planner
from odc.domain.errors import InvalidRequest
from odc.domain.limits import Limits
from odc.domain.pool_document import encode_document
from odc.domain.reservation import State
from odc.scheduling import PoolPlan, PoolState, build_plan

LIMITS = Limits(live_per_user=100, gpus_per_user=1000)


class Compared(Planner):
    """Plans each pass from nothing, too, and compares."""

    def plan_pools(self, seen: Observation) -> dict[str, PlannedPool]:
        kept = super().plan_pools(seen)
        fresh = Planner(self._limits).plan_pools(seen)
        assert described(kept) == described(fresh)
        for name in kept:
            assert kept[name].plan().free_for(1) == fresh[name].plan().free_for(1)
            assert kept[name].plan().free_for(8) == fresh[name].plan().free_for(8)
        return kept


def described(pools: Mapping[str, PlannedPool]) -> object:
    """Everything that a pass uses of the plans, to the byte."""
    return {
        name: (
            *(dict(pool.slots), encode_document(pool.document), pool.changed, pool.picture),
            *([record.id for record in pool.news], pool.earliest),
        )
        for name, pool in pools.items()
    }


def arrive(world: World, data: st.DataObject) -> None:
    gpus, quarters = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.integers(1, 16))
    world.ask(data.draw(st.sampled_from([ADA, BEN])), gpus=gpus, hours=quarters / 4)


def arrive_with_a_disk(world: World, data: st.DataObject) -> None:
    # A disk that another has is refused, except while that one ends.
    with suppress(InvalidRequest):
        world.ask(gpus=4, hours=1.0, disk=data.draw(st.sampled_from(["one", "two"])))


def cancel(world: World, data: st.DataObject) -> None:
    live = [record for record in world.store.observe().reservations if record.state is not State.ENDING]
    if live:
        record = data.draw(st.sampled_from(live))
        world.cancel(record, ADA if record.owner == ADA.id else BEN)
        if record.disk_id and data.draw(st.booleans()):
            arrive_with_a_disk(world, data)


def pass_time(world: World, data: st.DataObject) -> None:
    world.pass_time(data.draw(st.integers(1, 90)) * MINUTE, step=10 * MINUTE)


def cordon(world: World, data: st.DataObject) -> None:
    world.cluster.put_node(a_node("node-2", cordoned=data.draw(st.booleans())))


def crash(world: World, data: st.DataObject) -> None:
    world.crash()


def plan_elsewhere(world: World, data: st.DataObject) -> None:
    """Another process is first: the stored plan is not the one that this process has kept."""
    arrive(world, data)
    World.beside(world).settle()


def set_the_clock(world: World, data: st.DataObject) -> None:
    """By little, which is trusted, or by much, which is not until an operator says so."""
    world.clock.jump(data.draw(st.sampled_from([-20, 20, -7200, 7200])) * SECOND)
    world.settle(most=60)
    if data.draw(st.booleans()):
        world.accept_clock()


def stand_still(world: World, data: st.DataObject) -> None:
    world.clock.advance(data.draw(st.integers(1, 300)) * MINUTE)


EVENTS = (
    *(arrive, arrive, arrive, arrive_with_a_disk, cancel, pass_time, pass_time),
    *(cordon, crash, plan_elsewhere, set_the_clock, stand_still),
)


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_pass_plans_as_a_process_would_that_has_kept_nothing(
    monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr(reconcile, "Planner", Compared)
    world = World((a_node("node-1"), a_node("node-2")), limits=LIMITS)
    for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=3, max_size=15)):
        event(world, data)
        world.settle(most=60)
    world.pass_time(2 * HOUR, step=timedelta(minutes=10))


@pytest.mark.one_process("the planner's own form of a plan is in memory; another process plans from the stored slots")
def test_one_arrival_and_one_early_end_plan_nothing_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[int] = []

    def build(pool: PoolState) -> PoolPlan:
        whole.append(len(pool.queued))
        return build_plan(pool)

    monkeypatch.setattr(pool_plans, "build_plan", build)
    world = World((a_node("node-1"), a_node("node-2")), limits=LIMITS)
    holders = [world.reserve(gpus=8, hours=4.0) for _ in range(2)]
    world.reserve(BEN, gpus=8)
    assert whole
    whole.clear()
    later = world.reserve(BEN, gpus=4)
    world.cancel(holders[0])
    world.settle()
    assert [world.get(record).state for record in (later, holders[0])] == [State.QUEUED, State.ENDED]
    world.cancel(later, BEN)
    world.settle()
    # A pool without a queue has no slots to plan: its plan is only asked what is free.
    assert not any(whole)
