"""Disks whose files are there and whose record is not, as after a restore from an older backup."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from msgspec.structs import replace
from tests.boxes import end_box
from tests.builders import a_node, a_user
from tests.world import ADA, BEN, MINUTE, OPERATOR, World

from odc.adapters.memory.state_store import MemoryStateStore
from odc.domain.access import Principal
from odc.domain.disk import VolumeLabel
from odc.domain.errors import InvalidRequest, NotAllowed, NotFound
from odc.domain.problem_text import problem_texts
from odc.domain.records import Change, Subject, SubjectKind
from odc.domain.requests import RecoverDisk
from odc.domain.reservation import State


def backup(world: World) -> dict[str, Any]:
    """The records as they are now."""
    kept = {key: value for key, value in vars(world.store).items() if "lock" not in key and key != "faults"}
    return copy.deepcopy(kept)


def restore(world: World, records: dict[str, Any]) -> None:
    """The records of a backup, in a daemon that was started anew."""
    vars(world.store).update(records)
    world.crash()
    world.settle()
    world.pass_time(MINUTE)


def with_work(world: World, name: str, who: Any = ADA) -> str:
    """A disk with a file and a snapshot; its id."""
    record = world.reserve(who, disk=name)
    disk = world.disk(name, who)
    world.volumes.write(disk.id, "precious", 7)
    world.cancel(record, who)
    world.settle()
    return disk.id


def problems(world: World) -> str:
    return "\n".join(problem_texts(world.status.current.problems))


def recover(world: World, **asked: Any) -> str:
    told = world.send(RecoverDisk(**asked), OPERATOR)
    world.pass_time(MINUTE)
    assert isinstance(told, str)
    return told


def test_a_disk_without_its_record_is_named_and_no_new_one_is_made_in_its_place() -> None:
    world = World()
    assert isinstance(world.store, MemoryStateStore)
    before = backup(world)
    lost = with_work(world, "late")
    restore(world, before)
    assert f"disk late of ada has files but no record; take it back: odc disk recover {lost[:8]}" in problems(world)
    assert [(label.disk_id, label.name) for label in world.queries.orphaned_disks(ADA)] == [(lost, "late")]
    assert world.queries.orphaned_disks(BEN) == ()
    with pytest.raises(InvalidRequest, match="disk late has files but no record any more") as refused:
        world.reserve(ADA, disk="late")
    assert f"sudo odc disk recover {lost[:8]}" in refused.value.hints[0].command
    with pytest.raises(InvalidRequest, match="you have no disk laet; did you mean late"):
        world.reserve(ADA, disk="laet", new_disk=False)
    assert world.store.list_disks(ADA.id).items == ()
    assert world.get(world.reserve(BEN, disk="laet")).state is State.ACTIVE
    assert world.get(world.reserve(ADA, disk="other")).state is State.ACTIVE
    assert world.get(world.reserve(BEN, disk="late")).state is State.ACTIVE


def test_a_recovered_disk_has_its_files_and_snapshots_and_is_not_named_any_more() -> None:
    world = World()
    before = backup(world)
    lost = with_work(world, "late")
    restore(world, before)
    assert recover(world, disk="late") == f"taken back: late ({lost[:8]}, 1 snapshots)"
    assert "no record" not in problems(world)
    assert world.queries.orphaned_disks(ADA) == ()
    disk = world.disk("late")
    assert (disk.id, disk.made, disk.snapshots.count) == (lost, True, 1)
    (told,) = world.store.list_events(Subject(SubjectKind.DISK, lost)).items
    assert (told.kind, told.actor) == ("recovered", OPERATOR.user)
    assert told.text == "its record was made from its files, with 1 snapshots, for unix:1000"
    record = world.reserve(ADA, disk="late")
    assert world.get(record).state is State.ACTIVE
    assert world.volumes.files(lost) == {"precious": 7}
    assert recover(world, every=True) == "every disk has its record"


def test_a_recovered_disk_keeps_its_zone() -> None:
    world = World((a_node("node-1", zone="z-1"),))
    world.volumes.zones = {"node-1": "z-1"}
    before = backup(world)
    with_work(world, "late")
    restore(world, before)
    recover(world, disk="late")
    assert world.disk("late").zone == "z-1"


def test_disks_of_an_earlier_version_are_labelled_while_their_records_are_there() -> None:
    world = World()
    before = backup(world)
    lost = with_work(world, "old")
    world.volumes.label(VolumeLabel(disk_id=lost))
    world.pass_time(MINUTE)
    restore(world, before)
    assert "disk old of ada has files but no record" in problems(world)


def test_a_disk_of_which_nothing_is_written_is_recovered_by_saying_whose_it_is() -> None:
    world = World()
    before = backup(world)
    lost = with_work(world, "old")
    restore(world, before)
    world.volumes.label(VolumeLabel(disk_id=lost))
    world.pass_time(MINUTE)
    assert f"a disk of an unknown owner ({lost[:8]}) has files but no record" in problems(world)
    with pytest.raises(InvalidRequest, match="nothing says whose disk"):
        recover(world, disk=lost[:8])
    with pytest.raises(InvalidRequest, match="1 disk needs an owner or another name") as remains:
        recover(world, every=True)
    assert remains.value.hints[0].command == f"odc disk recover {lost[:8]} --user LOGIN --name NAME"
    recover(world, disk=lost[:8], user="1000", name="found")
    assert world.disk("found").id == lost


def test_a_recovery_that_is_not_clear_is_refused_with_the_commands() -> None:
    world = World()
    before = backup(world)
    ids = [with_work(world, "same"), with_work(world, "same", BEN)]
    restore(world, before)
    with pytest.raises(InvalidRequest, match="2 disks without a record match same") as refused:
        recover(world, disk="same")
    assert {hint.command for hint in refused.value.hints} == {f"odc disk recover {key[:8]}" for key in ids}
    with pytest.raises(NotFound, match="no disk 'nothing' lacks its record"):
        recover(world, disk="nothing")
    recover(world, disk="same", user="ben")
    assert world.disk("same", BEN).id == ids[1]
    world.volumes.label(replace(world.volumes.list_labels()[0], disk_id=ids[0], owner=BEN.id, user="ben", name="same"))
    with pytest.raises(InvalidRequest, match="ben has another disk same"):
        recover(world, disk=ids[0])


CARA = Principal(id="unix:1007", user="cara")
MAL = Principal(id=CARA.id, user="mal")


def lost_disk_of_cara() -> tuple[World, str]:
    """A world whose records know neither cara nor her disk, and whose uid 1007 is mal now; the disk's id."""
    world = World()
    before = backup(world)
    world.store.commit(Change(users=(a_user(principal=CARA.id, name="cara"),)))
    lost = with_work(world, "late", CARA)
    restore(world, before)
    world.accounts.logins = {1001: "ben", 1007: "mal"}
    return world, lost


def test_a_disk_that_is_taken_back_is_not_given_to_another_person_with_the_uid() -> None:
    world, lost = lost_disk_of_cara()
    recover(world, disk=lost[:8])
    with pytest.raises(NotAllowed, match="uid 1007 was cara in this cloud and is mal now"):
        world.reserve(MAL, disk="late")


def test_a_disk_whose_uid_is_recorded_for_another_person_needs_its_owner_to_be_said() -> None:
    world, lost = lost_disk_of_cara()
    world.store.commit(Change(users=(a_user(principal=MAL.id, name="mal"),)))
    with pytest.raises(InvalidRequest, match="is mal in this cloud now: say whose it is") as refused:
        world.send(RecoverDisk(disk=lost[:8]), OPERATOR)
    assert refused.value.hints[0].command == f"odc disk recover {lost[:8]} --user mal"
    with pytest.raises(NotFound, match="'cara' is not a login"):
        world.send(RecoverDisk(disk=lost[:8], user="cara"), OPERATOR)
    recover(world, disk=lost[:8], user="ben")
    assert world.disk("late", BEN).id == lost


def test_all_disks_are_recovered_but_those_that_need_an_owner_or_a_name_which_are_named() -> None:
    world, lost = lost_disk_of_cara()
    before = backup(world)
    ids = [with_work(world, name) for name in ("first", "second", "old")]
    restore(world, before)
    labels = {label.disk_id: label for label in world.volumes.list_labels()}
    world.volumes.label(VolumeLabel(disk_id=ids[2]))
    world.volumes.label(replace(labels[ids[1]], name="first"))
    world.store.commit(Change(users=(a_user(principal=MAL.id, name="mal"),)))
    told = recover(world, every=True)
    kept, other = sorted(ids[:2])
    assert told == f"taken back: first ({kept[:8]}, 1 snapshots)"
    with pytest.raises(InvalidRequest, match="3 disks need an owner or another name") as remains:
        recover(world, every=True)
    assert set(remains.value.hints) == {
        ("disk late of cara", f"odc disk recover {lost[:8]} --user LOGIN"),
        ("disk first of ada", f"odc disk recover {other[:8]} --name first-2"),
        (f"a disk of an unknown owner ({ids[2][:8]})", f"odc disk recover {ids[2][:8]} --user LOGIN --name NAME"),
    }


def test_only_an_operator_recovers_a_disk() -> None:
    world = World()
    before = backup(world)
    with_work(world, "late")
    restore(world, before)
    with pytest.raises(NotAllowed):
        world.send(RecoverDisk(disk="late"), ADA)


def test_a_disk_that_a_box_without_a_record_uses_is_refused_at_once() -> None:
    world = World()
    with_work(world, "work")
    before = backup(world)
    world.reserve(ADA, disk="work")
    restore(world, before)
    stray = world.status.current.quarantined[0]
    with pytest.raises(InvalidRequest, match="disk work is in use by a box that has no record") as refused:
        world.reserve(ADA, disk="work")
    assert refused.value.hints[0].command == f"ask an operator for: delete box-{stray.name}"
    end_box(world.cluster, stray.name, stray.uid)
    world.settle()
    world.pass_time(MINUTE)
    assert world.get(world.reserve(ADA, disk="work")).state is State.ACTIVE
