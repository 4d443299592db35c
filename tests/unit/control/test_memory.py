"""What the kernel kills in a box for memory is counted once, told, and kept across restarts and crashes.

Row 24 of docs/survives.md.
"""

from __future__ import annotations

from datetime import timedelta

from tests.world import ADA, BEN, MINUTE, SECOND, World

from odc.api.views import reservation_view
from odc.control.queries import ReservationDetail
from odc.domain.reservation import Reservation, State


def killed(world: World, record: Reservation) -> list[str]:
    return [event.text for event in world.events(record) if event.kind == "out of memory"]


def test_each_kill_is_counted_once_and_told_also_after_a_crash() -> None:
    world = World()
    record, other = world.reserve(hours=8.0), world.reserve(BEN)
    (name,) = [box.name for box in world.cluster.peek() if box.name.reservation_id == record.id]
    world.cluster.kill_for_memory(name)
    world.settle()
    world.crash()
    world.settle()
    found = world.get(record).out_of_memory
    assert (found.kills, found.command, found.stopped, found.last_at) == (1, "python", False, world.clock.now())
    world.cluster.kill_for_memory(name, 2)
    world.pass_time(10 * SECOND)
    assert world.get(record).out_of_memory.kills == 3
    assert killed(world, record) == [
        "out of memory: the kernel killed python; the box went on",
        "out of memory: the kernel killed 2 processes, the last one python; the box went on",
    ]
    assert world.get(other).out_of_memory.kills == 0
    assert world.get(record).state is State.ACTIVE


def test_a_box_that_ran_out_of_memory_starts_again_and_goes_on_counting() -> None:
    world = World()
    record = world.reserve(hours=8.0, disk="proj")
    (box,) = world.cluster.peek()
    for total in (1, 2):
        world.cluster.kill_for_memory(box.name)
        world.cluster.exit_box(box.name, 137, "it was killed")
        world.settle()
        now = world.get(record)
        assert (now.state, now.out_of_memory.kills, now.out_of_memory.stopped) == (State.ACTIVE, total, True)
    assert (
        killed(world, record) == ["out of memory: the kernel killed python; the box stopped and is started again"] * 2
    )
    assert world.story(record).count("restarted") == 2
    assert [seen.uid for seen in world.cluster.peek()] == [box.uid]
    world.cluster.kill_for_memory(box.name)
    world.settle()
    assert (world.get(record).out_of_memory.kills, world.get(record).out_of_memory.stopped) == (3, False)


def test_the_box_and_its_owner_are_told_and_nobody_else() -> None:
    world = World()
    record = world.reserve()
    (box,) = world.cluster.peek()
    assert "oom" not in world.cluster.read_files(box.name)
    world.cluster.kill_for_memory(box.name)
    world.settle()
    files = world.cluster.read_files(box.name)
    assert (files["oom"], files["oom_command"]) == (b"1\n", b"python\n")
    standing = ReservationDetail(world.get(record))
    own, others = (reservation_view(standing, who, world.status.current) for who in (ADA, BEN))
    assert own.out_of_memory is not None
    assert (own.out_of_memory.kills, own.out_of_memory.command) == (1, "python")
    assert others.out_of_memory is None
    world.cancel(record)
    world.settle()
    assert world.get(record).out_of_memory.kills == 1


def test_a_running_box_gets_the_settings_that_its_operator_changed() -> None:
    world = World(box_environment={"OLD": "1"})
    record = world.reserve()
    (box,) = world.cluster.peek()
    world.with_policy(box_environment={"LAB": "x y"}, box_certificates=b"PEM", timezone="Asia/Kathmandu")
    world.settle()
    files = world.cluster.read_files(box.name)
    lines = files["env"].decode().splitlines()
    assert {"LAB=x y", "TZ=Asia/Kathmandu"} <= set(lines)
    assert not any(line.startswith("OLD=") for line in lines)
    assert files["ca.crt"] == b"PEM"
    assert world.get(record).state is State.ACTIVE


def test_a_box_that_kills_its_processes_without_end_does_not_fill_the_records() -> None:
    world = World()
    record = world.reserve(hours=8.0)
    (box,) = world.cluster.peek()
    for _ in range(120):
        world.cluster.kill_for_memory(box.name)
        world.pass_time(5 * SECOND)
    world.pass_time(2 * MINUTE)
    assert world.get(record).out_of_memory.kills == 120
    assert len(killed(world, record)) < 10 + timedelta(minutes=14) // MINUTE
