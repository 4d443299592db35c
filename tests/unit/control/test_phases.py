"""Tasks that are not through: the phase under way is recorded once and limited, and nothing of it is a fault.

Row 23 of docs/survives.md.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.world import ADA, HOUR, MINUTE, SECOND, World

from odc.adapters.memory.clock import VirtualClock
from odc.adapters.memory.cluster import NEVER
from odc.api.views import reservation_view
from odc.control.phased_task import PhasedTask, TaskStep
from odc.control.task_runner import Done, NotYet
from odc.domain.box import StartPhase, StartWait
from odc.domain.limits import Limits
from odc.domain.reservation import GivenUp, State, UnderWay
from odc.domain.status import EndCause


def test_a_start_that_takes_its_time_is_not_a_fault_and_is_recorded_once() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve(disk="proj")
    begun, version = world.clock.now(), record.version
    waiting = "the box runs, but no SSH server answers in it"
    assert record.under_way == UnderWay(name="ssh", detail=waiting, since=begun)
    assert [phase.name for phase in record.phases] == ["disk", "box"]
    world.pass_time(MINUTE, step=SECOND)
    now = world.get(record)
    assert (now.version, now.fault, now.attempt) == (version, None, 1)
    assert "fault" not in world.story(record)
    (detail,) = world.queries.details(ADA, (now,))
    shown = reservation_view(detail, ADA, world.status.current).phases
    assert [(phase.name, phase.seconds is None, phase.since) for phase in shown] == [
        ("disk", False, None),
        ("box", False, None),
        ("ssh", True, begun),
    ]
    world.cluster.heal()
    world.pass_time(world.policy.poll)
    active = world.get(record)
    assert (active.state, active.under_way) == (State.ACTIVE, None)
    assert [(phase.name, phase.seconds) for phase in active.phases] == [("disk", 0.0), ("box", 0.0), ("ssh", 62.0)]


@pytest.mark.one_process("the pauses are in memory: another process asks at once, which is only early")
def test_a_task_that_is_not_through_is_started_again_after_the_interval_of_the_policy() -> None:
    world = World(poll=timedelta(seconds=7))
    world.cluster.delay_ssh(NEVER)
    world.reserve()
    for seconds, tries in ((6, 1), (1, 2), (6, 2), (1, 3)):
        world.clock.advance(seconds * SECOND)
        world.settle()
        assert world.started.count("prepare") == tries
    due = world.pass_once().due
    assert due is not None
    assert due <= world.clock.now() + world.policy.poll


def test_a_phase_that_takes_longer_than_its_limit_ends_the_attempt_and_is_named() -> None:
    world = World(limits=Limits(ssh=timedelta(seconds=20)))
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    world.pass_time(20 * SECOND)
    assert world.get(record).attempt == 1
    world.pass_time(5 * SECOND)
    assert world.get(record).attempt == 2
    told = next(event for event in world.events(record) if event.kind == "ending")
    why = "ssh took longer than 20 s: the box runs, but no SSH server answers in it"
    assert told.text == f"goes back to the queue: {why}"
    world.pass_time(MINUTE)
    ended = world.get(record)
    assert (ended.state, ended.end_cause) == (State.ENDED, EndCause.NOT_READY)
    assert ended.given_up == GivenUp(phase="ssh", limit_s=20, last_attempt=3)
    assert ended.under_way is None


def test_the_phase_of_the_disk_names_its_size_as_screens_do() -> None:
    world = World(disk_bytes=53_117_440_000)  # as much as the storage has, not a round number
    record = world.reserve(disk="proj")
    assert [(done.name, done.detail) for done in record.phases][:1] == [("disk", "49 GiB")]


@pytest.mark.parametrize("phase", StartPhase)
def test_a_start_that_waits_for_its_node_or_image_names_the_phase_and_its_time(phase: StartPhase) -> None:
    world = World()
    world.cluster.start_wait = StartWait(phase, f"the {phase} is not there")
    record = world.reserve()
    begun = world.clock.now()
    assert record.under_way == UnderWay(name=phase, detail=f"the {phase} is not there", since=begun)
    assert [done.name for done in record.phases] == ["box"]
    world.pass_time(MINUTE, step=SECOND)
    assert world.get(record).version == record.version
    (detail,) = world.queries.details(ADA, (world.get(record),))
    shown = reservation_view(detail, ADA, world.status.current).phases[-1]
    assert (shown.name, shown.seconds, shown.since, shown.detail) == (phase, None, begun, f"the {phase} is not there")
    world.cluster.heal()
    world.pass_time(world.policy.poll)
    active = world.get(record)
    assert (active.state, active.under_way, active.fault) == (State.ACTIVE, None, None)
    assert [(done.name, done.seconds) for done in active.phases] == [("box", 0.0), (phase, 62.0), ("ssh", 0.0)]


def test_a_box_waits_for_its_node_and_then_for_its_image() -> None:
    world = World()
    world.cluster.start_wait = StartWait(StartPhase.NODE, "a node is being added")
    record = world.reserve()
    world.pass_time(20 * SECOND)
    world.cluster.start_wait = StartWait(StartPhase.IMAGE, "the image is being fetched")
    world.pass_time(10 * SECOND)
    now = world.get(record).under_way
    assert now is not None
    assert (now.name, now.detail) == (StartPhase.IMAGE, "the image is being fetched")
    assert [done.name for done in world.get(record).phases] == ["box", "node"]
    world.cluster.start_wait = None
    world.pass_time(world.policy.poll)
    active = world.get(record)
    assert active.state is State.ACTIVE
    assert [done.name for done in active.phases] == ["box", "node", "image", "ssh"]
    assert sum(done.seconds for done in active.phases) <= 32


def test_a_box_that_waits_for_its_node_after_its_image_is_waited_for() -> None:
    world = World()
    world.cluster.start_wait = StartWait(StartPhase.IMAGE, "the image is being fetched")
    record = world.reserve()
    world.cluster.start_wait = StartWait(StartPhase.NODE, "its node was taken away")
    world.pass_time(world.policy.poll)
    now = world.get(record).under_way
    assert now is not None
    assert (now.name, now.detail) == (StartPhase.NODE, "its node was taken away")


@pytest.mark.parametrize("phase", StartPhase)
def test_a_node_or_an_image_that_takes_longer_than_its_limit_ends_the_attempt(phase: StartPhase) -> None:
    limits = Limits(node=timedelta(seconds=20), image=timedelta(seconds=20))
    world = World(limits=limits)
    world.cluster.start_wait = StartWait(phase, "it is not there")
    record = world.reserve()
    world.pass_time(20 * SECOND)
    assert world.get(record).attempt == 1
    world.pass_time(5 * SECOND)
    assert world.get(record).attempt == 2
    told = next(event for event in world.events(record) if event.kind == "ending")
    assert told.text == f"goes back to the queue: {phase} took longer than 20 s: it is not there"
    world.pass_time(MINUTE)
    assert world.get(record).given_up == GivenUp(phase=phase, limit_s=20, last_attempt=3)
    assert world.cluster.peek() == ()


def test_all_phases_together_keep_the_prepare_limit_which_is_promised() -> None:
    world = World(limits=Limits(ssh=HOUR))
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    world.pass_time(world.policy.limits.prepare)
    assert world.get(record).attempt == 1
    world.pass_time(5 * SECOND)
    assert world.get(record).attempt == 2
    told = next(event for event in world.events(record) if event.kind == "ending")
    assert "not ready within 180 s: ssh: the box runs, but no SSH server answers in it" in told.text


def test_a_restart_that_waits_for_ssh_is_through_when_it_answers() -> None:
    world = World()
    record = world.reserve(hours=8.0)
    world.cluster.delay_ssh(NEVER)
    world.cluster.exit_box(world.cluster.peek()[0].name, 137)
    world.pass_time(MINUTE)
    now = world.get(record)
    assert (now.state, now.fault) == (State.ACTIVE, None)
    assert now.under_way is not None
    assert now.under_way.name == "ssh"
    assert "restarted" not in world.story(record)
    world.cluster.heal()
    world.pass_time(world.policy.poll)
    assert world.get(record).under_way is None
    assert world.story(record)[-1] == "restarted"
    assert world.get(record).phases == record.phases


def test_a_cancel_does_not_wait_for_the_next_look_at_a_start() -> None:
    world = World(poll=HOUR)
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    world.cancel(record)
    world.settle()
    assert world.get(record).state is State.ENDED
    assert world.get(record).under_way is None


def test_a_task_goes_on_with_the_step_that_was_not_through() -> None:
    world, clock, calls = World(), VirtualClock(), []
    record = world.ask()
    answers = iter(["not now", "not now", ""])

    def second() -> str:
        calls.append("second")
        return next(answers)

    def first() -> str:
        calls.append("first")
        return ""

    steps = [
        TaskStep("first", first),
        TaskStep("second", second, lambda: "100 GB"),
    ]
    task = PhasedTask(record, clock, steps, lambda phases: [(p.name, p.seconds, p.detail) for p in phases])
    begun = clock.now()
    for _ in range(2):
        left = task()
        assert isinstance(left, NotYet)
        assert left.under_way == UnderWay(name="second", detail="not now", since=begun)
        assert [phase.name for phase in left.finished] == ["first"]
        clock.advance(2 * SECOND)
    assert task() == Done([("first", 0.0, ""), ("second", 4.0, "100 GB")])
    assert calls == ["first", "second", "second", "second"]


def test_an_end_asks_the_box_once_and_is_through_when_it_is_gone() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.cluster.use_grace(world.clock)
    world.cancel(record)
    world.settle()
    begun = world.clock.now()
    ending = world.get(record)
    assert ending.under_way == UnderWay(name="stop", detail="its processes are ending", since=begun)
    assert (ending.boxes_gone, ending.fault) == (False, None)
    world.pass_time(world.policy.grace - SECOND)
    assert not world.get(record).boxes_gone
    world.pass_time(world.policy.poll)
    assert world.get(record).state is State.ENDED
    assert world.get(record).under_way is None
    assert "fault" not in world.story(record)


def test_an_end_that_takes_longer_than_its_limit_is_shown_as_a_fault_and_goes_on() -> None:
    world = World(limits=Limits(stop=timedelta(seconds=10)))
    record = world.reserve()
    world.cluster.use_grace(world.clock)
    world.cancel(record)
    world.pass_time(10 * SECOND)
    assert world.get(record).fault is None
    world.pass_time(10 * SECOND)
    fault = world.get(record).fault
    assert fault is not None
    assert fault.message == "stop took longer than 10 s: its processes are ending"
    assert world.story(record).count("fault") == 1
    world.pass_time(MINUTE)
    assert world.get(record).state is State.ENDED
