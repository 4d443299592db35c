"""At most one holder, and data is never the thing that is thrown away.

Rows 26, 30, 31, 34 to 36 and 51 of docs/survives.md.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.world import ADA, BEN, HOUR, MINUTE, Fuse, World, tasks_of

from odc.adapters.memory.cluster import NEVER
from odc.control.queue_positions import Ahead
from odc.domain.errors import InvalidRequest, LimitExceeded, ProviderRefused, ProviderUnavailable
from odc.domain.problem_text import problem_texts
from odc.domain.reservation import EndReason, State
from odc.domain.status import WaitsFor

FULL = ProviderUnavailable("the disks are full")


def files_of_last_snapshot(world: World, name: str) -> list[str]:
    disk = world.disk(name)
    assert disk.last_snapshot is not None
    return [entry.path for entry in world.volumes.snapshot_files(disk.id, disk.last_snapshot.id)]


@pytest.mark.parametrize("queued", [False, True], ids=["running", "queued"])
def test_a_disk_in_use_is_refused_with_its_holder_and_what_to_do(queued: bool) -> None:
    world = World()
    if queued:
        world.reserve(BEN, gpus=8)
    holder = world.reserve(name="train", disk="proj")
    assert holder.state is (State.QUEUED if queued else State.ACTIVE)
    with pytest.raises(InvalidRequest) as caught:
        world.ask(disk="proj", name="other")
    assert f"in use by train ({holder.id[:8]})" in caught.value.message
    assert "gpu-dev cancel train" in [hint.command for hint in caught.value.hints]
    assert len(world.store.observe().reservations) == 1 + queued


def test_two_users_disks_of_one_name_are_two_disks() -> None:
    world = World()
    world.reserve(ADA, disk="proj")
    world.reserve(BEN, disk="proj")
    assert world.disk("proj", ADA).id != world.disk("proj", BEN).id
    assert len(world.volumes.list_attached()) == 2


def test_a_disk_whose_holder_goes_back_to_the_queue_is_refused() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    holder = world.reserve(disk="proj")
    world.cluster.faults.add("end_box", FULL, NEVER)
    world.pass_until(lambda: world.get(holder).requeue)
    with pytest.raises(InvalidRequest, match="in use"):
        world.ask(disk="proj")


def test_cancel_and_reserve_again_at_once_waits_for_ones_own_snapshot_and_says_so() -> None:
    world = World()
    first = world.reserve(gpus=8, disk="proj")
    world.volumes.write(world.disk("proj").id, "first")
    world.cancel(first)
    # Written in the grace, after the cancel.
    world.volumes.write(world.disk("proj").id, "last second")
    world.volumes.faults.add("snapshot", FULL, NEVER)
    second = world.reserve(gpus=8, disk="proj")
    assert world.get(second).state is State.QUEUED
    assert "once it is safe" in world.events(second)[0].text
    assert world.queries.find(ADA, second.id).ahead == Ahead(WaitsFor.DISK, disk="proj")
    assert world.disk("proj").successor == second.id
    with pytest.raises(InvalidRequest, match="in use"):
        world.ask(disk="proj")
    world.volumes.faults.clear()
    world.pass_time(2 * MINUTE)
    assert world.get(first).state is State.ENDED
    assert world.get(second).state is State.ACTIVE
    disk = world.disk("proj")
    assert (disk.holder, disk.successor) == (second.id, None)
    assert sorted(files_of_last_snapshot(world, "proj")) == ["first", "last second"]
    assert sorted(world.volumes.files(disk.id)) == ["first", "last second"]


def test_ones_gpus_may_be_asked_for_again_as_soon_as_they_are_given_back() -> None:
    world = World()
    world.with_policy(limits=replace(world.policy.limits, gpus_per_user=8))
    world.settle()
    first = world.reserve(gpus=8, disk="proj")
    with pytest.raises(LimitExceeded, match="you hold 8 GPUs"):
        world.ask(gpus=1)
    world.cluster.faults.add("end_box", FULL, NEVER)
    world.cancel(first)
    world.settle()
    assert world.reserve(gpus=8, disk="proj").state is State.QUEUED


def test_the_successor_that_is_cancelled_lets_go_of_the_disk() -> None:
    world = World()
    first = world.reserve(disk="proj")
    world.volumes.faults.add("snapshot", FULL, NEVER)
    world.cancel(first)
    second = world.reserve(disk="proj")
    world.cancel(second)
    assert (world.disk("proj").holder, world.disk("proj").successor) == (first.id, None)
    world.volumes.faults.clear()
    world.pass_time(2 * MINUTE)
    assert world.disk("proj").holder is None


def test_a_snapshot_that_fails_keeps_the_volume_says_so_and_is_tried_again() -> None:
    world = World()
    record = world.reserve(disk="proj")
    disk = world.disk("proj")
    world.volumes.write(disk.id, "result")
    world.volumes.faults.add("snapshot", FULL, NEVER)
    world.cancel(record)
    world.pass_time(HOUR, step=10 * timedelta(seconds=1))
    now = world.get(record)
    assert (now.state, now.boxes_gone) == (State.ENDING, True)
    assert "snapshot: the disks are full" in world.disk("proj").fault
    assert world.disk("proj").holder == record.id
    assert list(world.volumes.files(disk.id)) == ["result"]
    # A minute between two tries at the most, told once.
    assert 55 <= world.started.count("clean") <= 75
    assert world.story(record).count("fault") == 1
    world.volumes.faults.clear()
    world.pass_time(2 * MINUTE)
    assert world.get(record).state is State.ENDED
    assert world.disk("proj").fault == ""
    assert files_of_last_snapshot(world, "proj") == ["result"]


def test_a_lasting_fault_of_the_storage_never_ends_the_wait_for_the_snapshot() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.volumes.faults.add("snapshot", ProviderRefused("the file system is broken"), NEVER)
    world.cancel(record)
    world.pass_time(HOUR, step=MINUTE)
    assert world.get(record).state is State.ENDING
    assert world.disk("proj").holder == record.id
    assert "broken" in world.disk("proj").fault


@pytest.mark.parametrize("step", ["detach", "snapshot", "write_listing"])
def test_a_reservation_is_not_ended_before_each_step_of_making_its_disk_safe_is_done(step: str) -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.volumes.faults.add(step, FULL, 3)
    world.cancel(record)
    world.settle()
    assert world.get(record).state is State.ENDING
    world.pass_time(MINUTE)
    assert world.get(record).state is State.ENDED
    assert world.disk("proj").snapshots.count == 1


SLOW = [
    ("create", "disk", "its volume is being made"),
    ("attach", "disk", "its volume is being attached"),
    ("detach", "detach", "its volume is being detached"),
    ("snapshot", "snapshot", "the disk is being copied"),
    ("write_listing", "listing", "the files are being listed"),
]


@pytest.mark.prompt_lists("counts how often the volumes are asked")
@pytest.mark.parametrize(("method", "phase", "waits_for"), SLOW)
def test_slow_volumes_are_waited_for_and_are_not_a_fault(method: str, phase: str, waits_for: str) -> None:
    world = World()
    world.volumes.delay(method, 2)
    world.volumes.lists_lag = True
    seen = set()
    record = world.reserve(disk="proj")
    for _ in range(6):
        seen.add(world.get(record).under_way)
        world.pass_time(world.policy.poll)
    assert world.get(record).state is State.ACTIVE
    world.volumes.write(world.disk("proj").id, "result", 7)
    world.cancel(record)
    for _ in range(6):
        world.settle()
        seen.add(world.get(record).under_way)
        world.pass_time(world.policy.poll)
    ended = world.get(record)
    assert (ended.state, ended.attempt, ended.fault) == (State.ENDED, 1, None)
    assert {(one.name, one.detail) for one in seen if one is not None} == {(phase, waits_for)}
    assert "fault" not in world.story(record)
    assert files_of_last_snapshot(world, "proj") == ["result"]


def test_a_listing_that_cannot_be_stored_is_tried_again_and_belongs_to_the_same_snapshot() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.blobs.faults.add("put", FULL, 2)
    world.cancel(record)
    world.pass_time(MINUTE)
    disk = world.disk("proj")
    assert disk.snapshots.count == 1
    assert disk.last_snapshot is not None
    assert world.blobs.exists(disk.last_snapshot.listing)


def test_a_snapshot_whose_files_cannot_be_listed_is_kept_without_a_listing_and_says_why() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.volumes.faults.add("write_listing", ProviderRefused("the image has no find"), NEVER)
    world.volumes.write(world.disk("proj").id, "result")
    world.cancel(record)
    world.pass_time(MINUTE)
    ended, disk = world.get(record), world.disk("proj")
    assert (ended.state, ended.fault, disk.fault, disk.holder) == (State.ENDED, None, "", None)
    assert disk.last_snapshot is not None
    assert (disk.last_snapshot.listing, disk.last_snapshot.verified_at is not None) == ("", True)
    assert files_of_last_snapshot(world, "proj") == ["result"]
    told = next(event.text for event in world.events(record) if event.kind == "snapshot")
    assert told == "disk proj is safe: snapshot verified; its files are not listed: the image has no find"
    assert [one.detail for one in ended.phases if one.name == "listing"] == ["the image has no find"]


def test_a_snapshot_that_was_deleted_before_its_files_were_listed_is_taken_again() -> None:
    world = World()
    record = world.reserve(disk="proj")
    disk = world.disk("proj")

    def delete() -> None:
        (snapshot,) = world.volumes.list_snapshots(disk.id)
        world.volumes.delete_snapshot(disk.id, snapshot.id, keep_last=False)

    fuse = Fuse(1, after=False, blow=delete, ports=("volumes",), method="write_listing")
    world.build(wrap=fuse)
    world.cancel(record)
    world.pass_time(MINUTE)
    assert world.get(record).state is State.ENDED
    assert fuse.blown
    assert files_of_last_snapshot(world, "proj") == []


def test_something_that_still_uses_the_mount_is_waited_for_before_the_snapshot() -> None:
    world = World()
    record = world.reserve(disk="proj")
    disk = world.disk("proj")
    world.volumes.keep_busy(disk.id, "process 12 (vim)")
    world.cancel(record)
    world.settle()
    assert "vim" in world.disk("proj").fault
    world.volumes.write(disk.id, "last second")
    world.volumes.keep_busy(disk.id, None)
    world.pass_time(MINUTE)
    assert files_of_last_snapshot(world, "proj") == ["last second"]


def test_a_disk_that_was_in_use_and_is_not_there_is_a_fault_and_never_a_new_empty_one() -> None:
    world = World()
    world.cancel(world.reserve(disk="proj"))
    world.settle()
    world.volumes.lose(world.disk("proj").id)
    record = world.reserve(disk="proj")
    assert record.ended_why is EndReason.FAILED
    assert "does not exist" in record.end_detail


def test_files_of_a_start_that_failed_are_there_at_the_next_and_no_snapshot_is_made_of_it() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve(disk="proj")
    disk = world.disk("proj")
    world.volumes.write(disk.id, "half")
    world.pass_until(lambda: world.get(record).attempt == 2, 10 * MINUTE)
    assert world.snapshots(world.disk("proj")) == ()
    assert world.disk("proj").holder == record.id
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert list(world.volumes.files(disk.id)) == ["half"]


def test_the_late_release_of_an_older_holder_does_not_take_the_disk_from_the_new_one() -> None:
    world = World()
    first = world.reserve(disk="proj")
    world.cancel(first)
    world.settle()
    second = world.reserve(disk="proj")
    disk = world.disk("proj")
    assert disk.released_by(first.id) == disk
    tasks_of(world).clean(replace(world.get(first), active_at=None), epoch=0)()
    assert world.volumes.list_attached() == {disk.id: f"{second.id}-1"}


def test_two_requests_for_one_disk_at_the_same_moment_give_one_holder() -> None:
    world = World()
    refused: list[str] = []

    def rival() -> None:
        world.build()
        world.pass_once()
        world.reserve(disk="proj", name="rival")

    world.build(Fuse(1, False, rival, ("store",), "commit"))
    world.pass_once()
    try:
        world.ask(disk="proj", name="first")
    except InvalidRequest as error:
        refused.append(error.message)
    assert len(refused) == 1
    assert "in use by rival" in refused[0]
    assert [record.name for record in world.store.observe().reservations] == ["rival"]


def test_a_holder_whose_record_cannot_be_read_keeps_its_disk() -> None:
    world = World()
    holder = world.reserve(disk="proj", hours=1.0)
    world.volumes.faults.add("snapshot", FULL, NEVER)
    world.cancel(holder)
    waiting = world.reserve(disk="proj")
    assert world.get(waiting).state is State.QUEUED
    world.store.hide(holder.id, "not understood")
    world.pass_time(HOUR, step=MINUTE)
    assert world.get(waiting).state is State.QUEUED
    assert world.disk("proj").holder == holder.id
    assert world.story(waiting).count("postponed") < 8
    assert any(holder.id[:8] in problem for problem in problem_texts(world.status.current.problems))


def test_a_disk_of_a_reservation_that_never_was_active_is_free_again() -> None:
    world = World(images=())
    record = world.reserve(disk="proj")
    assert record.ended_why is EndReason.FAILED
    assert world.disk("proj").holder is None
    assert world.volumes.list_attached() == {}
