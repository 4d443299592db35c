"""The control plane dies, or an answer is lost, right before and right after every call of every adapter.

Row 13 of docs/survives.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from tests.storage import snapshot_ids, stored_listing
from tests.world import ADA, HOUR, MINUTE, SECOND, Fuse, World

from odc.domain.disk import Disk
from odc.domain.errors import ProviderUnavailable
from odc.domain.requests import Cancel, Reserve
from odc.domain.reservation import EndReason, Reservation, State

MOST = 600
"""More calls than a life makes."""


class Killed(BaseException):
    """`kill -9`: no handler of the control plane sees it."""


class Client:
    """What a client does: it sends a request again, with the same id, until it has an answer."""

    def __init__(self, world: World) -> None:
        self.world = world

    def until_answered(self, request: Any) -> Any:
        request_id = uuid.uuid4().hex
        while True:
            try:
                return self.world.send(request, ADA, request_id)
            except Killed:
                self.world.crash()
            except ProviderUnavailable:
                # No answer, or a new process that has not looked around yet.
                to_rest(self.world)


def to_rest(world: World) -> None:
    """Passes until they come to rest, over a death or a fault."""
    while True:
        try:
            return world.settle()
        except Killed:
            world.crash()
        except ProviderUnavailable:
            continue


def a_life(world: World, cancelled: bool) -> Reservation:
    """Reserve with a disk, work, end by time or by a cancel; a second reservation waits for the GPUs meanwhile."""
    client = Client(world)
    wanted = Reserve(gpu_type="h100", gpus=8, hours=1.0, name="life", disk="proj")
    record = client.until_answered(wanted)
    until(world, lambda: world.get(record).state is State.ACTIVE)
    disk = world.disk("proj")
    world.volumes.write(disk.id, "result", 7)
    follower = client.until_answered(Reserve(gpu_type="h100", gpus=8, hours=0.5, name="next", disk="none"))
    to_rest(world)
    if cancelled:
        client.until_answered(Cancel(reservation=record.id))
    else:
        world.clock.advance(HOUR)
    until(world, lambda: world.get(record).state is State.ENDED)
    until(world, lambda: world.get(follower).state is State.ACTIVE)
    client.until_answered(Cancel(reservation=follower.id))
    until(world, lambda: world.get(follower).state is State.ENDED)
    return world.get(record)


def until(world: World, true: Callable[[], bool]) -> None:
    to_rest(world)
    for _ in range(60):
        if true():
            return
        world.clock.advance(2 * SECOND)
        to_rest(world)
    raise AssertionError("not reached within two minutes")


def assert_whole(world: World, record: Reservation, cancelled: bool) -> None:
    """One life, one box, one snapshot with everything in it, and nothing left."""
    assert record.ended_why is (EndReason.CANCELLED if cancelled else EndReason.EXPIRED)
    assert record.attempt == 1
    assert world.cluster.peek() == ()
    assert world.cluster.leftovers() == frozenset()
    assert world.volumes.list_attached() == {}
    assert [r.id for r in world.store.observe().reservations] == []
    story = world.story(record)
    for kind in ("asked", "placed", "ready", "stopped", "snapshot", "ended"):
        assert story.count(kind) == 1, (kind, story)
    assert_safe(world, world.disk("proj"))


def assert_safe(world: World, disk: Disk) -> None:
    assert disk.holder is None
    assert disk.successor is None
    assert disk.fault == ""
    assert [snapshot.id for snapshot in world.snapshots(disk)] == list(snapshot_ids(world.volumes, disk.id))
    last = disk.last_snapshot
    assert last is not None
    assert last.verified_at is not None
    assert [entry.path for entry in world.volumes.snapshot_files(disk.id, last.id)] == ["result"]
    assert [entry.path for entry in stored_listing(world.blobs, last.listing)] == ["result"]


def killed() -> None:
    raise Killed


def no_answer() -> None:
    raise ProviderUnavailable("no answer")


@pytest.mark.parametrize("cancelled", [False, True], ids=["expired", "cancelled"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("blow", [killed, no_answer])
def test_a_life_comes_to_the_same_end_whatever_call_is_the_last(
    blow: Callable[[], None], after: bool, cancelled: bool
) -> None:
    number, seen = 0, set()
    while number < MOST:
        number += 1
        world, fuse = World(), Fuse(number, after, blow)
        world.build(fuse)
        try:
            world.pass_once()
        except Killed:
            world.crash()
        except ProviderUnavailable:
            pass
        record = a_life(world, cancelled)
        try:
            assert_whole(world, record, cancelled)
        except AssertionError as error:
            raise AssertionError(f"call {number}, {fuse.where}") from error
        if not fuse.blown:
            break
        seen.add(fuse.where.split()[1])
    assert 60 < number < MOST
    for effect in ("create_box", "start_box", "write_files", "end_box", "clean_up"):
        assert f"cluster.{effect}" in seen
    for effect in ("create", "attach", "detach", "snapshot", "write_listing"):
        assert f"volumes.{effect}" in seen
    assert {"store.commit", "store.observe"} <= seen


def test_a_life_without_a_death_is_whole() -> None:
    world = World()
    assert_whole(world, a_life(world, cancelled=False), cancelled=False)


def test_ten_deaths_in_a_row_change_nothing() -> None:
    world = World()
    record = world.ask(gpus=8, name="life", disk="proj", hours=1.0)
    for number in range(1, 11):
        fuse = Fuse(7 * number, number % 2 == 0, killed)
        world.build(fuse)
        try:
            world.pass_once()
            world.pass_once()
        except Killed:
            world.crash()
        world.clock.advance(5 * SECOND)
    world.crash()
    until(world, lambda: world.get(record).state is State.ACTIVE)
    assert world.get(record).attempt == 1
    assert len(world.cluster.peek()) == 1
    world.volumes.write(world.disk("proj").id, "result", 7)
    world.pass_time(HOUR + MINUTE, step=10 * MINUTE)
    assert_whole(world, world.get(record), cancelled=False)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_right_after_the_box_was_made_loses_none_of_its_ports(after: bool) -> None:
    world = World()
    record = world.ask(gpus=8, name="life")
    world.build(Fuse(1, after, killed, method="create_box"))
    with pytest.raises(Killed):
        world.settle()
    made = world.cluster.peek()
    assert len(made) == after
    assert world.get(record).places[0].ports == {}
    world.crash()
    world.settle()
    found = world.get(record)
    assert (found.state, found.attempt) == (State.ACTIVE, 1)
    (box,) = world.cluster.peek()
    assert found.places[0].ports == box.ports
    assert all((box.uid, box.ports) == (first.uid, first.ports) for first in made)
