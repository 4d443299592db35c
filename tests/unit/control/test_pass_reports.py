"""What a pass says about the next one: when it is due, apart from the interval of idle passes."""

from __future__ import annotations

from tests.boxes import end_box
from tests.builders import a_node
from tests.world import BEN, HOUR, SECOND, World

from odc.adapters.memory.cluster import NEVER
from odc.control import storage_maintenance
from odc.control.pass_loop import IDLE_INTERVAL


def test_a_pass_over_an_idle_cloud_needs_no_other() -> None:
    assert World().pass_once().due is None


def test_a_pass_that_has_written_something_needs_another_at_once() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    world.ask()
    report = world.plane.reconciler.reconcile_once()
    assert (report.committed > 0, report.due) == (True, world.clock.now())


def test_a_pass_says_when_a_reservation_ends_however_far_that_is() -> None:
    world = World()
    world.reserve(hours=8.0)
    first = world.reserve(hours=1.0)
    assert world.pass_once().due == first.expires_at
    world.pass_time(HOUR, step=HOUR / 2)
    assert world.pass_once().due == max(record.expires_at for record in world.all() if record.expires_at)


def test_a_pass_says_when_a_box_has_been_missing_for_too_long() -> None:
    world = World()
    world.reserve(hours=8.0)
    (box,) = world.cluster.peek()
    end_box(world.cluster, box.name, box.uid)
    world.settle()
    assert world.pass_once().due == world.clock.now() + world.policy.missing


def test_a_pass_says_when_a_slot_begins() -> None:
    world = World((a_node("node-1", units=1),), poll=HOUR)
    first = world.reserve()
    world.cluster.use_grace(world.clock)
    queued = world.ask(BEN)
    world.cancel(first)
    world.settle()
    promise = world.get(queued).ready_by
    assert promise is not None
    assert world.pass_once().due == promise - world.policy.limits.prepare


def test_a_pass_says_when_the_storage_is_measured_again_that_is_nearly_full() -> None:
    world = World()
    world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "file", size=2**20)
    world.volumes.capacity_bytes = 2**20
    world.clock.advance(storage_maintenance.INTERVAL)
    assert world.pass_once().due == world.clock.now() + storage_maintenance.FOLLOW_UP_DELAY


def test_a_daemon_waits_until_a_pass_is_due_and_at_most_for_the_idle_interval() -> None:
    world = World()
    record = world.reserve()
    daemon = world.plane.pass_loop("this")
    assert daemon.run_once() == IDLE_INTERVAL
    assert record.expires_at is not None
    world.clock.advance(record.expires_at - world.clock.now() - 2 * SECOND)
    assert daemon.run_once() == 2 * SECOND
