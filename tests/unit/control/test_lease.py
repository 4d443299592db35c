"""Processes that lose the lease of passes, and get it again: what they found out before does not count.

Row 10 of docs/survives.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.builders import KEY
from tests.held_runner import HeldRunner
from tests.world import MINUTE, SECOND, Fuse, World, Wrapper, bare, spec_of

from odc.control import host_monitor, lease, storage_maintenance
from odc.control.pass_loop import PassLoop
from odc.domain.errors import ProviderRefused
from odc.domain.host import HostReport
from odc.domain.requests import SetOwnKeys
from odc.domain.reservation import EndReason, Reservation, State


class Process:
    """One of two processes over the same cloud, whose tasks run when the test lets them."""

    def __init__(self, world: World, holder: str, wrap: Wrapper = bare) -> None:
        self.world, self.runner = world, HeldRunner()
        world.build(wrap, self.runner)
        self.loop: PassLoop = world.plane.pass_loop(holder)

    def settle(self) -> None:
        """Passes and their tasks, until nothing is left to do."""
        for _ in range(10):
            self.loop.run_once()
            self.runner.finish()


def two_processes(wrap: Wrapper = bare) -> tuple[Process, Process]:
    """Two of them; `wrap` puts something around the adapters of the first."""
    world = World()
    return Process(world, "a", wrap), Process(World.beside(world), "b")


def a_restart_that_was_refused(first: Process) -> Reservation:
    """An active reservation whose box has stopped; the first process has tried to start it and does not know yet that
    this failed.
    """
    record = first.world.ask(hours=8.0)
    first.settle()
    first.world.cluster.exit_box(first.world.cluster.peek()[0].name, 137)
    first.loop.run_once()
    assert first.runner.running() == ["restart"]
    first.world.cluster.faults.add("start_box", ProviderRefused("no such device"))
    first.runner.finish()
    return record


def test_an_old_failed_restart_does_not_end_a_reservation_that_another_process_has_restarted() -> None:
    first, second = two_processes()
    record = a_restart_that_was_refused(first)
    first.world.clock.advance(lease.DURATION)
    second.settle()
    assert second.world.story(record)[-1] == "restarted"
    first.world.clock.advance(lease.DURATION)
    first.settle()
    assert first.world.get(record).state is State.ACTIVE
    assert first.world.story(record)[-1] == "restarted"


def test_a_failed_restart_of_a_process_that_kept_the_lease_counts() -> None:
    first, _ = two_processes()
    record = a_restart_that_was_refused(first)
    first.world.clock.advance(lease.DURATION - SECOND)
    first.settle()
    assert first.world.get(record).ended_why is EndReason.FAILED


def test_an_outcome_is_dropped_if_another_process_acted_after_it_was_collected() -> None:
    fuse = Fuse(0, False, lambda: lead_meanwhile(), ("store",), "observe")
    first, second = two_processes(fuse)
    record = a_restart_that_was_refused(first)

    def lead_meanwhile() -> None:
        first.world.clock.advance(lease.DURATION)
        second.settle()
        first.world.clock.advance(lease.DURATION)

    fuse.left = 1
    first.settle()
    assert fuse.blown
    assert first.world.get(record).state is State.ACTIVE
    assert first.world.story(record)[-1] == "restarted"


def a_check_that_found_a_fault(first: Process) -> None:
    """The first process has checked the host and does not know the result yet; then the fault is mended."""
    first.settle()
    first.world.clock.advance(host_monitor.INTERVAL)
    first.world.cluster.host = HostReport(blocked="the firewall's rules are gone")
    first.loop.run_once()
    first.world.cluster.host = HostReport()


def blocked(world: World) -> str:
    """Why no box may be started, as every process reads it."""
    world.status.stored()
    return world.status.host().report.blocked


def test_an_old_check_of_the_host_does_not_count_after_another_process_has_led() -> None:
    first, second = two_processes()
    a_check_that_found_a_fault(first)
    first.world.clock.advance(lease.DURATION)
    second.settle()
    first.world.clock.advance(lease.DURATION)
    first.loop.run_once()
    assert blocked(second.world) == ""


def test_a_check_of_the_host_is_dropped_if_another_process_led_after_it_was_collected() -> None:
    fuse = Fuse(0, False, lambda: lead_meanwhile(), ("store",), "observe")
    first, second = two_processes(fuse)
    a_check_that_found_a_fault(first)

    def lead_meanwhile() -> None:
        first.world.clock.advance(lease.DURATION)
        second.settle()

    fuse.left = 1
    first.loop.run_once()
    assert fuse.blown
    assert blocked(second.world) == ""


def test_a_check_of_the_host_counts_while_its_process_keeps_the_lease() -> None:
    first, second = two_processes()
    a_check_that_found_a_fault(first)
    first.world.clock.advance(lease.DURATION - host_monitor.INTERVAL - SECOND)
    first.loop.run_once()
    assert blocked(second.world) == "the firewall's rules are gone"


def test_a_check_whose_result_is_dropped_does_not_seem_to_hang() -> None:
    first, second = two_processes()
    a_check_that_found_a_fault(first)
    first.world.clock.advance(lease.DURATION)
    second.settle()
    first.world.clock.advance(host_monitor.STUCK_AFTER)
    first.loop.run_once()
    assert first.world.status.current.problems == ()


@pytest.mark.parametrize("is_stored", [True, False])
def test_an_old_measurement_of_the_storage_does_not_replace_that_of_another_process(is_stored: bool) -> None:
    first, second = two_processes()
    first.settle()
    first.world.clock.advance(storage_maintenance.INTERVAL)
    first.world.volumes.capacity_bytes = 2**40
    first.loop.run_once()
    if is_stored:
        first.loop.run_once()
    first.world.volumes.capacity_bytes = 2**41
    first.world.clock.advance(lease.DURATION)
    second.settle()
    assert measured_bytes(second.world) == 2**41
    first.world.clock.advance(lease.DURATION)
    first.loop.run_once()
    assert measured_bytes(second.world) == 2**41


def measured_bytes(world: World) -> int:
    """The size of the storage, as every process reads it."""
    use = world.status.stored().storage.use
    assert use is not None
    return use.total_bytes


def lives(name: str) -> Callable[[Process], Reservation]:
    """A process that is in the middle of this task; its record."""

    def go(process: Process) -> Reservation:
        record = process.world.ask(disk="proj", name="life")
        process.loop.run_once()
        if name != "prepare":
            process.settle()
        if name == "files":
            process.world.send(SetOwnKeys(keys=(KEY.replace("octocat", "laptop"),)))
            process.loop.run_once()
        if name == "restart":
            process.world.cluster.exit_box(process.world.cluster.peek()[0].name, 137)
            process.loop.run_once()
        if name == "remove":
            leave_box(process, record)
        if name in ("stop", "clean"):
            process.world.cancel(record)
            process.loop.run_once()
        if name == "clean":
            process.runner.finish()
            process.loop.run_once()
        assert process.runner.running() == [name]
        return record

    return go


def leave_box(process: Process, record: Reservation) -> None:
    """A box of the reservation that runs although the reservation has ended."""
    spec = spec_of(process.world.cluster.peek()[0])
    process.world.cancel(record)
    process.settle()
    process.world.cluster.put_stranger(spec)
    process.loop.run_once()


@pytest.mark.parametrize("task", ["prepare", "restart", "files", "stop", "clean", "remove"])
def test_a_task_of_a_process_that_lost_the_lease_does_nothing_more(task: str) -> None:
    first, second = two_processes()
    record = lives(task)(first)
    first.world.clock.advance(lease.DURATION)
    second.loop.run_once()
    assert second.runner.running() == [task]
    before = effects(first.world)
    first.runner.finish()
    assert effects(first.world) == before
    second.runner.finish()
    second.settle()
    ends = task in ("stop", "clean", "remove")
    assert second.world.get(record).state is (State.ENDED if ends else State.ACTIVE)
    assert len(second.world.cluster.peek()) == (0 if ends else 1)
    assert second.world.story(record).count("fault") == 0


def effects(world: World) -> tuple[object, ...]:
    """What tasks change outside the records: boxes, the files that they read, networks, disks."""
    boxes = world.cluster.peek()
    files = [world.cluster.read_files(box.name) for box in boxes]
    return boxes, files, world.cluster.leftovers(), world.volumes.list_attached()


def test_a_lease_that_is_renewed_in_time_keeps_its_epoch_and_a_gap_begins_another() -> None:
    world = World()
    held = lease.PassLease(world.store, world.clock)
    assert held.holds(0)
    for _ in range(3):
        assert held.acquire("a")
        world.clock.advance(lease.DURATION - SECOND)
    assert held.holds(0)
    world.clock.advance(SECOND)
    assert not held.holds(0)
    assert held.acquire("a")
    assert held.epoch == 1
    assert held.holds(1)
    world.clock.advance(MINUTE)
    assert lease.PassLease(world.store, world.clock).acquire("b")
    assert not held.acquire("a")
    assert not held.holds(held.epoch)


def test_a_lease_is_asked_for_again_when_the_wall_clock_says_that_it_has_expired() -> None:
    world = World()
    held, other = (lease.PassLease(world.store, world.clock) for _ in range(2))
    assert held.acquire("a")
    world.clock.jump(lease.DURATION)
    assert other.acquire("b")
    assert not held.keep()
    assert not held.holds(0)


def test_a_lease_that_another_process_has_is_asked_for_in_every_pass() -> None:
    world = World()
    held, other = (lease.PassLease(world.store, world.clock) for _ in range(2))
    assert other.acquire("b")
    assert not held.acquire("a")
    world.store.expire_lease(lease.NAME)
    assert held.acquire("a")
