"""A new process for each pass, which knows nothing of the ones before: everything comes to its end."""

from __future__ import annotations

from datetime import timedelta

from tests.world import HOUR, MINUTE, World

from odc.adapters.memory.cluster import NEVER
from odc.control.context import ClusterStatus
from odc.control.task_runner import InlineRunner
from odc.domain.errors import ProviderUnavailable
from odc.domain.reservation import EndReason, State

BUDGET = timedelta(seconds=30)


def cold_pass(world: World) -> int:
    """A pass of a new process; how many transactions it wrote."""
    world.build(runner=InlineRunner())
    report = world.plane.reconciler.reconcile_with_tasks(BUDGET)
    world.check()
    return report.committed


def to_rest(world: World) -> None:
    """Passes of new processes until one writes nothing."""
    for _ in range(10):
        if not cold_pass(world):
            return
    raise AssertionError("ten processes at one moment all wrote something")


def test_a_reservation_starts_and_ends_although_no_process_lives_for_two_passes() -> None:
    world = World()
    record = world.ask(disk="proj")
    cold_pass(world)
    assert world.get(record).state is State.ACTIVE
    world.volumes.write(world.disk("proj").id, "result")
    to_rest(world)
    world.clock.advance(HOUR)
    cold_pass(world)
    ended = world.get(record)
    assert ended.ended_why is EndReason.EXPIRED
    assert world.cluster.peek() == ()
    assert world.cluster.leftovers() == frozenset()
    assert world.disk("proj").last_snapshot is not None
    for kind in ("placed", "ready", "stopped", "snapshot", "ended"):
        assert world.story(record).count(kind) == 1


def test_a_start_that_takes_its_time_is_taken_up_again_by_the_next_process() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.ask()
    to_rest(world)
    begun = world.clock.now()
    box = world.cluster.peek()[0]
    for _ in range(3):
        world.clock.advance(timedelta(seconds=20))
        assert cold_pass(world) == 0
        now = world.get(record)
        assert now.under_way is not None
        assert (now.state, now.under_way.name, now.under_way.since) == (State.PREPARING, "ssh", begun)
    world.cluster.heal()
    to_rest(world)
    assert world.get(record).state is State.ACTIVE
    assert world.cluster.peek()[0].uid == box.uid
    assert world.get(record).phases[-1].seconds == 60.0


def test_a_limit_is_kept_although_every_process_only_looks_once() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.ask()
    for _ in range(20):
        to_rest(world)
        world.clock.advance(MINUTE)
    ended = world.get(record)
    assert (ended.state, ended.ended_why, ended.attempt) == (State.ENDED, EndReason.FAILED, 3)


def test_a_fault_is_retried_by_later_processes_with_its_delay() -> None:
    world = World()
    world.cluster.faults.add("create_box", ProviderUnavailable("not now"), 2)
    record = world.ask()
    to_rest(world)
    fault = world.get(record).fault
    assert fault is not None
    assert fault.count == 1
    for _ in range(2):
        world.clock.advance(timedelta(seconds=5))
        to_rest(world)
    assert world.get(record).state is State.ACTIVE


def test_a_process_whose_budget_is_over_leaves_the_rest_to_the_next() -> None:
    world = World()
    record = world.ask()
    world.build(runner=InlineRunner())
    world.plane.reconciler.reconcile_with_tasks(timedelta(0))
    assert world.get(record).state is State.PREPARING
    assert world.status.current != ClusterStatus()
    cold_pass(world)
    assert world.get(record).state is State.ACTIVE
