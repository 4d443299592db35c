"""Snapshots are thinned by limits and when the storage fills, over crashes, and never the last one that is whole."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.storage import snapshot_ids, taken
from tests.world import ADA, BEN, HOUR, MINUTE, OPERATOR, Fuse, World

from odc.api.views import disk_view, reservation_view
from odc.control.context import Policy
from odc.domain.access import Principal
from odc.domain.box import BoxName
from odc.domain.disk import Disk
from odc.domain.errors import InvalidRequest, LimitExceeded, NotAllowed, NotFound, ProviderUnavailable
from odc.domain.problem_text import problem_texts
from odc.domain.records import Change
from odc.domain.requests import PruneSnapshots
from odc.domain.reservation import State
from odc.domain.storage import Level, Retention

DAY = timedelta(days=1)
GIB = 2**30


def a_world(**rule: Any) -> World:
    world = World(disk_bytes=100 * GIB, retention=Retention(**{"keep": 1000, "days": 0, "percent": 0, **rule}))
    world.volumes.capacity_bytes = 1000 * GIB
    return world


def work(world: World, name: str = "proj", size: int = GIB, who: Principal = ADA, file: str = "data") -> Disk:
    """One reservation that rewrites a file on the disk, to its end; the disk afterwards."""
    record = world.reserve(who, disk=name)
    assert world.get(record).state is State.ACTIVE
    world.volumes.write(world.disk(name, who).id, file, size)
    world.cancel(record, who)
    world.settle()
    world.pass_time(MINUTE)
    return world.disk(name, who)


def ids(world: World, disk: Disk) -> list[str]:
    return [snapshot.id for snapshot in world.snapshots(disk)]


def assert_consistent(world: World, disk: Disk) -> None:
    """The record, the storage and the listings name the same snapshots."""
    assert disk.snapshots.deleting == 0
    assert ids(world, disk) == list(snapshot_ids(world.volumes, disk.id))
    assert disk.last_snapshot is not None
    assert disk.last_snapshot.verified_at is not None
    for snapshot in world.snapshots(disk):
        assert world.blobs.exists(snapshot.listing)


def test_a_disk_that_no_box_has_used_takes_nothing() -> None:
    world = a_world()
    world.reserve(gpus=8)
    waiting = world.reserve(gpus=8, disk="later", name="later")
    assert waiting.state is State.QUEUED
    world.cancel(waiting)
    world.settle()
    (row,) = [row for row in world.queries.storage(OPERATOR, 1, "", "") if row.disk.name == "later"]
    assert (row.use.live_bytes, row.use.history_bytes) == (0, 0)


def test_a_disk_keeps_so_many_snapshots_and_their_listings() -> None:
    world = a_world(keep=3)
    listings = []
    for _ in range(6):
        disk = work(world)
        assert disk.last_snapshot is not None
        listings.append(disk.last_snapshot.listing)
    assert disk.snapshots.count == 3
    assert_consistent(world, disk)
    assert [world.blobs.exists(key) for key in listings] == [False, False, False, True, True, True]


def test_a_slow_deletion_is_finished_by_a_later_round_and_its_listing_goes_last() -> None:
    world = a_world(keep=1)
    first = work(world).last_snapshot
    world.volumes.delay("delete_snapshot", 2)
    disk = work(world)
    assert first is not None
    world.pass_time(MINUTE)
    disk = world.disk("proj")
    assert first.id not in ids(world, disk)
    assert not world.blobs.exists(first.listing)
    assert_consistent(world, disk)


def test_a_snapshot_goes_when_it_is_too_old_but_never_the_last_one() -> None:
    world = a_world(days=2.5)
    for _ in range(3):
        work(world)
        world.pass_time(DAY, step=6 * HOUR)
    assert world.disk("proj").snapshots.count == 2
    world.pass_time(400 * DAY, step=DAY)
    disk = world.disk("proj")
    assert disk.snapshots.count == 1
    assert_consistent(world, disk)


def test_a_clock_that_jumped_makes_no_snapshot_too_old() -> None:
    world = a_world(days=2)
    for _ in range(3):
        work(world)
    world.clock.jump(100 * DAY)
    world.pass_time(10 * MINUTE)
    assert world.disk("proj").snapshots.count == 3
    world.accept_clock()
    world.pass_time(10 * MINUTE)
    assert world.disk("proj").snapshots.count == 1


def test_the_history_of_a_disk_stays_within_its_share() -> None:
    world = a_world(percent=100)
    for _ in range(8):
        disk = work(world, size=60 * GIB)
    use = world.volumes.measure().disks[disk.id]
    assert use.history_bytes is not None
    assert use.history_bytes <= 100 * GIB
    assert disk.snapshots.count == 2
    assert_consistent(world, disk)


def test_disks_that_do_not_change_keep_their_history_when_the_storage_is_full() -> None:
    world = a_world(free_percent=15)
    for _ in range(4):
        idle = work(world, "idle", size=1, who=BEN)
    for _ in range(14):
        work(world, "big", size=80 * GIB)
    assert world.disk("idle", BEN).snapshots.count == 4
    assert world.volumes.measure().free_bytes >= 150 * GIB
    assert_consistent(world, world.disk("big"))
    assert_consistent(world, idle)


def test_the_user_who_takes_most_loses_snapshots_first_and_the_oldest_first() -> None:
    world = a_world(free_percent=20)
    for _ in range(2):
        work(world, "small", size=20 * GIB, who=BEN)
    before = ids(world, world.disk("small", BEN))
    made = []
    for _ in range(12):
        disk = work(world, "big", size=90 * GIB)
        assert disk.last_snapshot is not None
        made.append(disk.last_snapshot.id)
    assert ids(world, world.disk("small", BEN)) == before
    left = ids(world, world.disk("big"))
    assert left == made[-len(left) :]
    assert world.volumes.measure().free_bytes >= 200 * GIB


def test_nothing_is_deleted_while_there_is_room_and_no_limit() -> None:
    world = a_world(free_percent=10)
    for _ in range(8):
        disk = work(world)
    assert disk.snapshots.count == 8


def test_snapshots_that_share_all_they_hold_are_not_all_deleted_at_once() -> None:
    world = a_world(free_percent=50)
    record = world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "data", 300 * GIB)
    world.cancel(record)
    world.settle()
    work(world, size=1, file="other")
    work(world, size=300 * GIB)
    disk = work(world, size=1, file="other")
    # The first two share 300 GiB; one alone frees nothing, both free enough.
    assert disk.snapshots.count == 2
    assert world.volumes.measure().free_bytes >= 500 * GIB


def test_the_last_verified_snapshot_is_kept_although_the_storage_is_full() -> None:
    world = a_world(free_percent=15)
    disk = work(world, size=100 * GIB)
    world.volumes.capacity_bytes = 100 * GIB
    world.pass_time(10 * MINUTE)
    assert world.disk("proj").snapshots == disk.snapshots
    assert_consistent(world, world.disk("proj"))


def test_a_nearly_full_storage_is_told_before_it_is_full() -> None:
    world = a_world(free_percent=15)
    work(world, size=80 * GIB)
    world.volumes.capacity_bytes = 90 * GIB
    world.pass_time(MINUTE)
    look = world.status.current
    assert look.storage.level is Level.LOW
    assert any("nearly full, 10 GiB of 90 GiB free" in problem for problem in problem_texts(look.problems))
    world.volumes.capacity_bytes = 200 * GIB
    world.pass_time(MINUTE)
    assert (world.status.current.storage.level, world.status.current.problems) == (Level.OK, ())


def test_no_new_disk_is_made_when_nothing_can_be_freed() -> None:
    world = a_world(free_percent=15)
    work(world, size=80 * GIB)
    world.volumes.capacity_bytes = 82 * GIB
    world.pass_time(MINUTE)
    with pytest.raises(LimitExceeded, match=r"disk storage is nearly full: 2 GiB of 82 GiB free") as refused:
        world.ask(BEN, disk="other")
    assert any("--disk none" in hint.command for hint in refused.value.hints)
    assert world.get(world.reserve(disk="proj")).state is State.ACTIVE
    assert world.get(world.reserve(BEN, disk="none")).state is State.ACTIVE
    world.volumes.capacity_bytes = 1000 * GIB
    world.pass_time(MINUTE)
    assert world.get(world.reserve(BEN, disk="other")).state is State.ACTIVE


def test_a_deletion_that_fails_is_told_and_tried_again() -> None:
    world = a_world(keep=1)
    work(world)
    world.volumes.faults.add("delete_snapshot", ProviderUnavailable("no answer"), times=2)
    record = world.reserve(disk="proj")
    world.cancel(record)
    world.settle()
    disk = world.disk("proj")
    assert [disk.snapshots.count, disk.snapshots.deleting] == [1, 1]
    assert any(
        "snapshots cannot be deleted: no answer" in problem for problem in problem_texts(world.status.current.problems)
    )
    world.pass_time(3 * MINUTE)
    assert_consistent(world, world.disk("proj"))
    assert world.status.current.problems == ()


def test_older_snapshots_stay_when_the_newest_is_not_on_the_storage() -> None:
    world = a_world(keep=5)
    for _ in range(3):
        disk = work(world)
    # As after the records were restored from a backup of another time, or a snapshot was deleted by hand.
    world.volumes.forget_snapshot(disk.id, ids(world, disk)[-1])
    world.with_policy(retention=Retention(keep=1, days=0, percent=0))
    world.pass_time(10 * MINUTE)
    assert list(snapshot_ids(world.volumes, disk.id)) == ids(world, disk)[:2]
    assert any(
        "newest verified snapshot is not on the storage" in problem
        for problem in problem_texts(world.status.current.problems)
    )


def test_a_snapshot_that_no_record_names_is_never_deleted() -> None:
    world = a_world(keep=1)
    disk = work(world)
    taken(world.volumes, disk.id, "stranger-1")
    for _ in range(3):
        disk = work(world)
    assert list(snapshot_ids(world.volumes, disk.id)) == ["stranger-1", *ids(world, disk)]


def test_a_disk_record_that_changes_meanwhile_loses_nothing() -> None:
    world = a_world(keep=1)
    disk = work(world)
    other = World.beside(world)
    fuse = Fuse(1, False, lambda: _touch(other, disk.name), ("volumes",), "list_snapshots")
    world.build(fuse)
    world.settle()
    disk = work(world)
    assert fuse.blown
    world.pass_time(3 * MINUTE)
    assert_consistent(world, world.disk("proj"))
    assert world.disk("proj").fault == "touched"


def _touch(world: World, name: str) -> None:
    world.store.commit(Change(disks=(replace(world.disk(name), fault="touched"),)))


def test_an_operator_sees_who_takes_what_and_what_would_go() -> None:
    world = a_world()
    for _ in range(3):
        work(world, "big", size=10 * GIB)
    work(world, "small", who=BEN)
    rows = world.queries.storage(OPERATOR, 1, "", "")
    assert [(row.disk.name, len(row.going)) for row in rows] == [("big", 2), ("small", 0)]
    assert (rows[0].use.live_bytes, rows[0].use.history_bytes) == (10 * GIB, 20 * GIB)
    assert [len(row.going) for row in world.queries.storage(OPERATOR, 2, "", "big")] == [1, 0]
    assert [len(row.going) for row in world.queries.storage(OPERATOR, 1, "ben", "")] == [0, 0]


def test_an_operator_prunes_what_was_shown_and_nothing_else() -> None:
    world = a_world()
    for _ in range(3):
        for name in ("one", "two"):
            work(world, name)
    assert "deleting 2 snapshots of 1 disk" in str(world.send(PruneSnapshots(keep=1, disk="one"), OPERATOR))
    world.settle()
    assert [world.disk(name).snapshots.count for name in ("one", "two")] == [1, 3]
    assert_consistent(world, world.disk("one"))
    assert "no older snapshot" in str(world.send(PruneSnapshots(keep=1, disk="one"), OPERATOR))


def test_only_operators_see_and_prune_the_storage() -> None:
    world = a_world()
    work(world)
    with pytest.raises(NotAllowed):
        world.queries.storage(ADA, 1, "", "")
    with pytest.raises(NotAllowed):
        world.send(PruneSnapshots())
    with pytest.raises(InvalidRequest, match="at least 1"):
        world.send(PruneSnapshots(keep=0), OPERATOR)
    with pytest.raises(NotFound, match="no disk named nothing"):
        world.send(PruneSnapshots(disk="nothing"), OPERATOR)


def test_an_ended_reservation_shows_its_own_snapshot_and_no_later_one() -> None:
    world = a_world(keep=2)
    ended = []
    for _ in range(3):
        record = world.reserve(disk="proj")
        world.volumes.write(world.disk("proj").id, "data", GIB)
        world.cancel(record)
        world.settle()
        ended.append(record)
    shown = [reservation_view(world.queries.find(ADA, record.id), ADA, world.status.current) for record in ended]
    assert shown[0].snapshot is None
    assert [view.snapshot and view.snapshot.id for view in shown[1:]] == [f"{record.id}-1" for record in ended[1:]]


def test_a_disk_in_use_shows_what_its_files_take_now() -> None:
    world = a_world()
    work(world, size=GIB)
    world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "more", 5 * GIB)
    world.pass_time(MINUTE)
    (disk, holder), *_ = world.queries.disks(ADA)
    view = disk_view(disk, holder, world.status.current.storage.use)
    assert (view.used_bytes, view.history_bytes) == (6 * GIB, 0)


def test_a_box_is_told_how_full_its_disk_is() -> None:
    world = a_world()
    record = world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "data", 50 * GIB)
    world.pass_time(MINUTE)
    name = BoxName(record.id, 1, 0)
    assert world.cluster.read_files(name)["disk_use"] == b"%d %d\n" % (100 * GIB, 50 * GIB)
    world.volumes.write(world.disk("proj").id, "data", 68 * 2**10)
    world.pass_time(MINUTE)
    assert world.cluster.read_files(name)["disk_use"] == b"%d %d\n" % (100 * GIB, 68 * 2**10)


def test_a_limit_that_somebody_changed_is_set_again() -> None:
    world = a_world()
    disk = work(world)
    world.volumes.set_limit(disk.id, 0)
    world.pass_time(MINUTE)
    assert world.volumes.measure().disks[disk.id].limit_bytes == 100 * GIB


def test_a_new_disk_promises_no_more_than_the_storage_has() -> None:
    world = a_world()
    world.volumes.capacity_bytes = 75 * GIB
    world.pass_time(MINUTE)
    world.reserve(disk="proj")
    assert world.disk("proj").size_bytes == 75 * GIB


class Killed(BaseException):
    """`kill -9`."""


def killed() -> None:
    raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_thinning_comes_to_the_same_end_whatever_call_is_the_last(after: bool) -> None:
    number, seen, blown = 0, set(), True
    while blown:
        number += 1
        world = a_world(keep=1000)
        for _ in range(3):
            work(world)
        world.policy = Policy(**{**_fields(world.policy), "retention": Retention(keep=1, days=0, percent=0)})
        fuse = Fuse(number, after, killed)
        world.build(fuse)
        with contextlib.suppress(Killed):
            world.settle()
            world.pass_time(MINUTE)
        blown = fuse.blown
        world.crash()
        world.pass_time(MINUTE)
        disk = world.disk("proj")
        assert disk.snapshots.count == 1, fuse.where
        assert_consistent(world, disk)
        assert world.blobs.count() == 1, fuse.where
        if blown:
            seen.add(fuse.where.split()[1])
    assert {"volumes.delete_snapshot", "volumes.measure", "blobs.delete", "store.commit"} <= seen


def _fields(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__}
