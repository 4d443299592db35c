"""Tasks that run for long, beside the passes: nothing waits for them, and nothing starts over them."""

from __future__ import annotations

from typing import Any

from tests.held_runner import HeldRunner
from tests.world import BEN, HOUR, MINUTE, Fuse, World, spec_of, tasks_of

from odc.adapters.memory.cluster import NEVER
from odc.control.task_runner import Done, NotYet
from odc.domain.box import BoxSeen
from odc.domain.errors import ProviderUnavailable
from odc.domain.reservation import EndReason, GivenUp, State
from odc.domain.status import EndCause


def held_world() -> tuple[World, HeldRunner]:
    world, runner = World(), HeldRunner()
    world.build(runner=runner)
    world.settle()
    return world, runner


def test_a_cancel_waits_for_the_task_that_runs_and_the_stop_comes_after_it() -> None:
    world, runner = held_world()
    record = world.reserve(disk="proj")
    assert runner.running() == ["prepare"]
    world.cancel(record)
    world.settle()
    assert (world.get(record).state, runner.running()) == (State.ENDING, ["prepare"])
    runner.finish()
    assert world.cluster.peek() == ()
    for task in ("stop", "clean"):
        world.settle()
        assert runner.running() == [task]
        runner.finish()
    world.settle()
    assert world.get(record).ended_why is EndReason.CANCELLED
    assert world.volumes.list_attached() == {}


def test_a_start_that_hangs_over_its_limit_goes_back_to_the_queue_and_is_not_started_twice() -> None:
    world, runner = held_world()
    record = world.reserve()
    world.pass_time(4 * MINUTE)
    now = world.get(record)
    assert (now.state, now.requeue) == (State.ENDING, True)
    assert now.end_cause is EndCause.NOT_READY
    assert now.given_up == GivenUp(limit_s=180)
    assert now.end_text.startswith("not ready within 180 s: ")
    assert runner.running() == ["prepare"]
    for task in ("stop", "clean", "prepare"):
        runner.finish()
        world.settle()
        assert runner.running() == [task]
    assert world.get(record).attempt == 2
    runner.finish()
    world.settle()
    assert world.get(record).state is State.ACTIVE


def test_a_stop_that_takes_long_does_not_hold_up_the_others() -> None:
    world, runner = held_world()
    slow, other = world.reserve(gpus=4), world.reserve(BEN, gpus=4)
    runner.finish()
    world.settle()
    runner.finish()
    world.settle()
    world.cancel(slow)
    world.pass_time(HOUR, step=MINUTE)
    assert world.get(slow).state is State.ENDING
    assert not world.get(slow).boxes_gone
    assert world.get(other).state is State.ENDING
    assert sorted(runner.running()) == ["stop", "stop"]


def test_what_lost_its_race_starts_no_task() -> None:
    world = World()
    record = world.ask()
    other = World.beside(world)
    world.build(Fuse(1, False, lambda: other.cancel(record), ("store",), "commit"))
    report = world.pass_once()
    assert (report.committed, report.lost) == (0, 1)
    assert world.started == []
    assert world.get(record).state is State.ENDED


def test_whatever_changes_what_is_taken_or_promised_moves_the_pools_version() -> None:
    world = World()

    def version() -> int:
        return world.store.observe().pools.get("h100", 0)

    versions = [version()]
    holder = world.reserve(gpus=8)
    versions.append(version())
    waiting = world.reserve(BEN, gpus=8)
    versions.append(version())
    world.cancel(waiting, BEN)
    world.settle()
    world.cancel(holder)
    world.settle()
    versions.append(version())
    assert versions == [0, 1, 2, 3]


def test_a_stop_lists_once_in_each_call_and_ends_in_the_next_one_what_has_appeared_meanwhile() -> None:
    world = World()
    record = world.reserve()
    box = world.cluster.peek()[0]
    world.cluster.faults.add("end_box", ProviderUnavailable("busy"), NEVER)
    world.cancel(record)
    world.settle()
    world.cluster.heal()
    lists = 0

    class Late:
        """A cluster in which a task of a dead process makes the box again, twice."""

        def __getattr__(self, name: str) -> Any:
            return self._list if name == "list_boxes" else getattr(world.cluster, name)

        def _list(self) -> tuple[BoxSeen, ...]:
            nonlocal lists
            lists += 1
            if lists <= 2:
                world.cluster.put_stranger(spec_of(box))
            return world.cluster.list_boxes()

    world.build(lambda port, adapter: Late() if port == "cluster" else adapter)
    stop = tasks_of(world).stop(world.get(record), world.cluster.peek(), epoch=0)
    ends = []
    for number in range(1, 4):
        ends.append(type(stop()))
        assert lists == number
    assert ends == [NotYet, NotYet, Done]
    assert world.cluster.peek() == ()
