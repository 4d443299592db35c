"""A cancel in every state, and between any two steps of the passes and tasks.

Rows 11, 12 and 48 of docs/survives.md.
"""

from __future__ import annotations

import functools
import uuid

import pytest
from msgspec.structs import replace
from tests.builders import a_node, a_reservation
from tests.world import ADA, BEN, HOUR, MINUTE, OPERATOR, Fuse, World, tasks_of

from odc.adapters.memory.cluster import NEVER
from odc.adapters.memory.state_store import MemoryStateStore
from odc.domain.errors import NotAllowed, ProviderUnavailable
from odc.domain.records import MAX_ITEMS, Change
from odc.domain.requests import EndAll
from odc.domain.reservation import EndReason, Reservation, State

MOST = 300


def assert_nothing_left(world: World, record: Reservation) -> None:
    now = world.get(record)
    assert (now.state, now.ended_why) == (State.ENDED, EndReason.CANCELLED)
    assert world.boxes_of(record) == []
    assert all(name.reservation_id != record.id for name in world.cluster.leftovers())
    assert world.volumes.list_attached() == {}
    assert all(record.id not in (disk.holder, disk.successor) for disk in world.store.list_disks(ADA.id).items)


def test_a_queued_reservation_is_cancelled_at_once_and_releases_its_disk() -> None:
    world = World()
    world.reserve(BEN, gpus=8)
    record = world.reserve(gpus=8, disk="proj")
    assert record.state is State.QUEUED
    world.cancel(record)
    assert_nothing_left(world, record)
    assert world.get(record).attempt == 0


@pytest.mark.parametrize("broken", ["create_box", "start_box", "write_files"])
def test_a_preparing_reservation_is_cancelled_wherever_it_hangs(broken: str) -> None:
    world = World()
    world.cluster.faults.add(broken, ProviderUnavailable("not now"), NEVER)
    record = world.reserve(disk="proj")
    assert record.state is State.PREPARING
    world.cancel(record)
    world.settle()
    assert_nothing_left(world, record)
    assert world.snapshots(world.disk("proj")) == ()


def test_a_reservation_whose_ssh_never_answers_can_be_cancelled() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve(disk="proj")
    assert record.state is State.PREPARING
    world.cancel(record)
    world.settle()
    assert_nothing_left(world, record)


def test_an_active_reservation_is_cancelled_and_its_disk_is_safe() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "result")
    world.cancel(record)
    world.settle()
    assert_nothing_left(world, record)
    assert world.disk("proj").last_snapshot is not None


def test_a_cancel_while_it_ends_by_time_leaves_it_expired() -> None:
    world = World()
    record = world.reserve()
    world.cluster.faults.add("end_box", ProviderUnavailable("busy"), NEVER)
    world.pass_time(HOUR, step=HOUR)
    assert world.get(record).state is State.ENDING
    told = world.story(record)
    world.cancel(record)
    assert world.story(record) == told
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(record).ended_why is EndReason.EXPIRED


def test_a_cancel_while_it_goes_back_to_the_queue_ends_it() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve(disk="proj")
    world.cluster.faults.add("end_box", ProviderUnavailable("busy"), NEVER)
    world.pass_until(lambda: world.get(record).requeue)
    world.cancel(record)
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert_nothing_left(world, record)
    assert world.get(record).attempt == 1


def test_a_second_cancel_changes_nothing_and_tells_nothing() -> None:
    world = World()
    record = world.reserve()
    for _ in range(3):
        world.cancel(record)
    world.settle()
    world.cancel(record)
    assert world.story(record).count("cancelled") == 1
    assert_nothing_left(world, record)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_cancel_between_any_two_steps_ends_it_for_good(after: bool) -> None:
    """The box that becomes ready after the cancel is among these moments, and the start that races with it."""
    number, states = 0, set()
    while number < MOST:
        number += 1
        world = World()
        record = world.ask(disk="proj", hours=0.5)
        fuse = Fuse(number, after, functools.partial(world.cancel, record))
        world.build(fuse)
        world.pass_time(HOUR / 2 + MINUTE, step=HOUR / 4)
        if not fuse.blown:
            break
        now = world.get(record)
        story = world.story(record)
        assert now.state is State.ENDED, fuse.where
        if now.ended_why is EndReason.CANCELLED:
            assert_nothing_left(world, record)
            assert story.count("cancelled") == 1
            assert "ready" not in story[story.index("cancelled") :], fuse.where
            assert "placed" not in story[story.index("cancelled") :], fuse.where
            states.add("active" if "ready" in story else "placed" if "placed" in story else "queued")
        world.cancel(record)
    assert 40 < number < MOST
    assert states == {"queued", "placed", "active"}


def test_nobody_else_cancels_it_but_an_operator() -> None:
    world = World()
    record = world.reserve()
    with pytest.raises(NotAllowed):
        world.cancel(record, BEN)
    world.settle()
    assert world.get(record).state is State.ACTIVE
    world.cancel(record, OPERATOR)
    world.settle()
    assert world.get(record).ended_why is EndReason.CANCELLED
    assert world.get(record).ended_by == "root"


def test_the_late_clean_up_of_an_older_attempt_leaves_the_newer_box_alone() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve(disk="proj")
    world.pass_until(lambda: world.get(record).state is State.ENDING or world.get(record).attempt == 2)
    old = world.get(record)
    world.cluster.heal()
    world.pass_until(lambda: world.get(record).state is State.ACTIVE)
    assert world.get(record).attempt == 2
    boxes = world.boxes_of(record)
    late = tasks_of(world)
    first = replace(old, attempt=1)
    late.stop(first, world.cluster.peek(), epoch=0)()
    late.clean(first, epoch=0)()
    assert world.boxes_of(record) == boxes
    assert world.volumes.list_attached() == {world.disk("proj").id: f"{record.id}-2"}
    assert world.cluster.leftovers() != frozenset()


def test_everything_ends_at_once_by_an_operator() -> None:
    world = World((a_node("node-1", units=2),))
    running = world.reserve(gpus=2, disk="one")
    waiting = world.reserve(gpus=2, disk="two")
    others = world.reserve(BEN, gpus=1)
    with pytest.raises(NotAllowed):
        world.send(EndAll(), ADA)
    world.send(EndAll(), OPERATOR)
    world.settle()
    for record in (running, waiting, others):
        assert world.get(record).ended_why is EndReason.CANCELLED
    assert world.cluster.peek() == ()
    assert world.disk("one").last_snapshot is not None


def a_full_cloud() -> World:
    """Sixty queued reservations, on a store that takes 100 items at once."""
    world = World(store=MemoryStateStore(MAX_ITEMS))
    for number in range(60):
        record = a_reservation(owner=f"unix:{number}", created_at=world.clock.now())
        world.store.commit(Change(reservations=(record,)))
    return world


def is_ending(record: Reservation) -> bool:
    return record.state in (State.ENDING, State.ENDED) and record.ended_why is EndReason.CANCELLED


def test_all_reservations_end_in_parts_that_every_store_takes() -> None:
    world = a_full_cloud()
    assert world.send(EndAll(), OPERATOR) == "ending: 60; disks are kept"
    assert all(map(is_ending, world.all()))


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ending_all_goes_on_where_a_crash_stopped_it(number: int, after: bool) -> None:
    world = a_full_cloud()
    request_id = uuid.uuid4().hex

    def crash() -> None:
        raise ProviderUnavailable("killed")

    fuse = Fuse(number, after, crash, ("store",), "commit")
    world.build(fuse)
    with pytest.raises(ProviderUnavailable):
        world.send(EndAll(), OPERATOR, request_id)
    world.crash()
    done = sum(map(is_ending, world.all()))
    assert done > 0 or (number, after) == (1, False)
    assert world.send(EndAll(), OPERATOR, request_id) == f"ending: {60 - done}; disks are kept"
    assert all(map(is_ending, world.all()))
    kinds = [kind for record in world.all() for kind in world.story(record)]
    assert kinds.count("cancelled") == 60
