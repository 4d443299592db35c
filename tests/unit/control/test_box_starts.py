"""Boxes that do not start, start late, or stopped and are started again."""

from __future__ import annotations

from datetime import timedelta

from tests.world import BEN, HOUR, MINUTE, SECOND, World

from odc.adapters.memory.cluster import NEVER
from odc.domain.errors import PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.reservation import EndReason, GivenUp, State
from odc.domain.status import EndCause

GONE = ProviderUnavailable("the engine does not answer")


def test_an_image_that_does_not_exist_fails_at_once_with_that_reason() -> None:
    world = World(images=("something else",), image="localhost/odc/box:1")
    record = world.reserve(disk="proj")
    assert record.ended_why is EndReason.FAILED
    assert record.end_cause is EndCause.REFUSED
    assert "localhost/odc/box:1: image not known" in record.end_detail
    assert world.disk("proj").holder is None
    assert world.cluster.leftovers() == frozenset()


def test_an_image_without_an_ssh_server_fails_with_its_last_words() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    assert record.state is State.PREPARING
    world.cluster.exit_box(world.cluster.peek()[0].name, 127, "sshd: not found")
    world.cluster.faults.add("start_box", ProviderRefused("the box ended with 127: sshd: not found"))
    world.pass_time(10 * SECOND)
    now = world.get(record)
    assert now.ended_why is EndReason.FAILED
    assert "127: sshd: not found" in now.end_detail


def test_a_box_is_never_active_before_ssh_answers_and_fails_with_the_phase_in_the_end() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    attempts = set()
    for _ in range(200):
        now = world.get(record)
        assert now.state is not State.ACTIVE
        attempts.add(now.attempt)
        if not now.live:
            break
        world.pass_time(10 * SECOND, step=10 * SECOND)
    now = world.get(record)
    assert attempts == {1, 2, 3}
    assert (now.ended_why, now.end_cause) == (EndReason.FAILED, EndCause.NOT_READY)
    assert now.given_up == GivenUp(phase="ssh", limit_s=120, last_attempt=3)
    assert now.end_detail == "the box runs, but no SSH server answers in it"
    assert now.end_text == f"ssh took longer than 120 s: {now.end_detail} (attempt 3, the last)"
    assert world.cluster.peek() == ()


def test_a_failed_start_goes_back_to_its_old_place_in_line() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    first = world.reserve(gpus=8)
    second = world.reserve(BEN, gpus=8)
    world.pass_until(lambda: world.get(first).attempt == 2, 10 * MINUTE)
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(first).state is State.ACTIVE
    assert world.get(first).order < world.get(second).order
    assert world.get(second).state is State.QUEUED
    assert world.get(first).end_detail == ""


def test_a_port_that_a_stranger_has_is_left_for_another_at_once() -> None:
    world = World()
    world.cluster.faults.add("start_box", PlaceTaken("port 30017: address already in use"))
    waiting = world.reserve()
    world.pass_time(4 * SECOND, step=SECOND)
    record = world.get(waiting)
    assert record.state is State.ACTIVE
    assert record.attempt == 1
    assert len(world.cluster.peek()) == 1


def test_a_passing_fault_is_tried_again_with_growing_delay_and_told_once() -> None:
    world = World()
    world.cluster.faults.add("create_box", GONE, 4)
    record = world.reserve()
    tries = [world.started.count("prepare")]
    for _ in range(20):
        world.clock.advance(SECOND)
        world.settle()
        tries.append(world.started.count("prepare"))
    assert world.get(record).state is State.ACTIVE
    assert tries[0] == 1
    assert tries.index(2) == 1
    assert tries.index(3) == 3
    assert tries.index(4) == 8
    assert tries.index(5) == 18
    assert world.story(record).count("fault") == 1


def test_a_stopped_box_is_started_again_with_its_disk_and_files() -> None:
    world = World()
    record = world.reserve(disk="proj", hours=8.0)
    box = world.cluster.peek()[0]
    world.cluster.exit_box(box.name, 137)
    world.volumes.reboot()
    world.settle()
    assert world.cluster.peek()[0].uid == box.uid
    assert world.cluster.peek()[0].state == "running"
    assert world.volumes.list_attached() != {}
    assert world.story(record)[-1] == "restarted"
    assert world.get(record).expires_at == record.expires_at


def test_a_stopped_box_whose_disk_is_gone_ends_with_the_reason() -> None:
    world = World()
    record = world.reserve(disk="proj", hours=8.0)
    disk = world.disk("proj")
    world.cluster.exit_box(world.cluster.peek()[0].name, 137)
    world.volumes.reboot()
    world.volumes.lose(disk.id)
    world.settle()
    now = world.get(record)
    assert now.ended_why is EndReason.FAILED
    assert "disk" in now.end_detail
    assert world.disk("proj").fault != ""
    assert world.cluster.peek() == ()


def test_every_option_of_a_request_that_waited_for_hours_still_applies() -> None:
    world = World()
    world.reserve(gpus=8, hours=5.0)
    waiting = world.reserve(BEN, gpus=2, hours=2.5, name="late", disk="proj")
    world.pass_until(lambda: world.get(waiting).state is State.ACTIVE, 6 * HOUR)
    now = world.get(waiting)
    assert now.spec == waiting.spec
    assert (now.name, len(now.places[0].gpus)) == ("late", 2)
    assert now.expires_at is not None
    assert now.active_at is not None
    assert now.expires_at - now.active_at == timedelta(hours=2.5)
    assert world.disk("proj", BEN).holder == now.id
