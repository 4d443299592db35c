"""A disk with a thousand snapshots: what changes them does so in transactions that every store takes."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from tests.storage import snapshot_ids, taken
from tests.world import ADA, MINUTE, OPERATOR, Fuse, World

from odc.control.disk_histories import MAX_SNAPSHOTS
from odc.control.storage_maintenance import INTERVAL
from odc.domain.disk import Disk
from odc.domain.disk_history import summary_of, with_new_snapshot
from odc.domain.errors import ProviderUnavailable
from odc.domain.records import Change
from odc.domain.requests import PruneSnapshots, RecoverDisk
from odc.domain.storage import Retention

NUMBER = 300
KEEP_ALL = Retention(keep=1000, days=0, percent=0)


def with_many_snapshots(number: int = NUMBER) -> World:
    """A disk `proj` with so many snapshots, on a store that takes 100 items at once; nothing is to be deleted."""
    world = World(retention=KEEP_ALL)
    record = world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "data", 1)
    world.cancel(record)
    world.settle()
    for count in range(1, number):
        disk, one = with_new_snapshot(world.disk("proj"), taken(world.volumes, world.disk("proj").id, f"r{count:04}-1"))
        world.store.commit(Change(disks=(disk,), snapshots=(one,)))
    return world


def assert_consistent(world: World, count: int) -> None:
    """The summary, the records and the storage have the same snapshots."""
    disk = world.disk("proj")
    records = world.store.list_snapshots(disk.id).items
    assert disk.snapshots == summary_of(records, disk.snapshots.next_number)
    assert disk.snapshots.count == len(records) == count
    assert [record.id for record in records] == list(snapshot_ids(world.volumes, disk.id))


def crash() -> None:
    raise ProviderUnavailable("killed")


@pytest.mark.prompt_lists("counts what one round deletes")
def test_a_thousand_snapshots_are_thinned_a_few_in_each_round() -> None:
    world = with_many_snapshots(1000)
    world.with_policy(retention=Retention(keep=7, days=0, percent=0))
    world.clock.advance(INTERVAL)
    world.pass_once()
    assert world.disk("proj").snapshots.count == 1000 - MAX_SNAPSHOTS
    world.pass_time(timedelta(seconds=40), step=timedelta(seconds=1))
    assert_consistent(world, 7)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_thinning_goes_on_after_a_crash_at_each_commit(number: int, after: bool) -> None:
    world = with_many_snapshots(100)
    world.with_policy(retention=Retention(keep=7, days=0, percent=0))
    world.clock.advance(INTERVAL)
    fuse = Fuse(number, after, crash, ("store",), "commit")
    world.build(fuse)
    world.pass_time(timedelta(seconds=5), step=timedelta(seconds=1))
    assert fuse.blown
    world.crash()
    world.pass_time(MINUTE)
    assert_consistent(world, 7)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_prune_that_was_interrupted_is_finished_by_its_repetition(number: int, after: bool) -> None:
    world = with_many_snapshots()
    request_id = uuid.uuid4().hex
    world.build(Fuse(number, after, crash, ("store",), "commit"))
    with pytest.raises(ProviderUnavailable):
        world.send(PruneSnapshots(keep=1), OPERATOR, request_id)
    world.crash()
    world.send(PruneSnapshots(keep=1), OPERATOR, request_id)
    disk = world.disk("proj")
    assert (disk.snapshots.count, disk.snapshots.deleting) == (1, NUMBER - 1)
    world.pass_time(MINUTE)
    assert_consistent(world, 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_disk_with_many_snapshots_is_taken_back_whole_or_not_at_all(number: int, after: bool) -> None:
    world = with_many_snapshots()
    lost = world.disk("proj")
    world.store = World().store
    world.build()
    world.pass_time(MINUTE)
    fuse = Fuse(number, after, crash, ("store",), "commit")
    world.build(fuse)
    request_id = uuid.uuid4().hex
    with pytest.raises(ProviderUnavailable):
        world.send(RecoverDisk(disk="proj"), OPERATOR, request_id)
    world.crash()
    disks: tuple[Disk, ...] = world.store.list_disks(ADA.id).items
    assert disks == () or (number, after) == (7, True)
    answer = world.send(RecoverDisk(disk="proj"), OPERATOR, request_id)
    assert answer == f"taken back: proj ({lost.id[:8]}, {NUMBER} snapshots)"
    assert_consistent(world, NUMBER)
    world.pass_time(MINUTE)
    assert_consistent(world, NUMBER)
