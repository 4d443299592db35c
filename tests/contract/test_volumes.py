"""The contract of volumes, held by every adapter."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.builders import an_id
from tests.storage import (
    ID_BASE,
    MIB,
    NODE,
    Found,
    MemoryStorage,
    Storage,
    attached,
    btrfs_mount,
    btrfs_storage,
    folders_storage,
    listed,
    made,
    not_later,
    snapshot_ids,
    stored_listing,
    taken,
)

from odc.domain.disk import VolumeLabel, snapshot_id
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable
from odc.domain.storage import DiskUse
from odc.ports.volumes import Source, Volumes

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ADAPTERS = ["memory", pytest.param("folders", marks=as_root), pytest.param("btrfs", marks=pytest.mark.btrfs)]
OTHER_IDS = ID_BASE + 7 * 65536
_numbers = itertools.count()


@pytest.fixture(scope="session")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs_mount(tmp_path_factory.mktemp("odc-contract") / "disks") as folder:
        yield folder


@pytest.fixture(params=ADAPTERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
    elif request.param == "folders":
        with folders_storage(tmp_path / "disks") as found:
            yield found
    else:
        root = request.getfixturevalue("btrfs") / str(next(_numbers))
        with btrfs_storage(root) as found:
            yield found


@pytest.fixture
def disk(storage: Storage) -> str:
    disk_id = an_id()
    made(storage.volumes, disk_id, 64 * MIB)
    return disk_id


def test_a_volume_is_new_once(storage: Storage) -> None:
    disk_id = an_id()
    assert made(storage.volumes, disk_id, 64 * MIB) is True
    storage.write(disk_id, "kept", 3)
    assert made(storage.volumes, disk_id, 64 * MIB) is False
    assert storage.files(disk_id) == {"kept": 3}


def test_attaching_again_for_the_same_holder_gives_the_same_place(storage: Storage, disk: str) -> None:
    place = attached(storage.volumes, disk, "r-1")
    assert attached(storage.volumes, disk, "r-1") == place
    assert storage.volumes.list_attached() == {disk: "r-1"}
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {}


def test_attaching_again_with_another_range_of_ids_gives_the_same_place_and_files(storage: Storage, disk: str) -> None:
    storage.write(disk, "kept", 3)
    place = attached(storage.volumes, disk, "r-1", OTHER_IDS)
    assert storage.id_base(disk, place) == OTHER_IDS
    assert attached(storage.volumes, disk, "r-1", OTHER_IDS) == place
    assert attached(storage.volumes, disk, "r-1", OTHER_IDS + 65536) == place
    assert storage.id_base(disk, place) == OTHER_IDS + 65536
    assert attached(storage.volumes, disk, "r-1") == place
    assert storage.id_base(disk, place) == 0
    assert storage.volumes.list_attached() == {disk: "r-1"}
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {}
    assert storage.files(disk) == {"kept": 3}


def test_a_volume_in_use_is_not_given_with_another_range_of_ids(storage: Storage, disk: str) -> None:
    place = attached(storage.volumes, disk, "r-1", OTHER_IDS)
    with storage.in_use(disk, place):
        for other in (OTHER_IDS + 65536, 0):
            with pytest.raises(ProviderUnavailable, match="still used by"):
                attached(storage.volumes, disk, "r-1", other)
        assert attached(storage.volumes, disk, "r-1", OTHER_IDS) == place
        assert storage.id_base(disk, place) == OTHER_IDS
    attached(storage.volumes, disk, "r-1", OTHER_IDS + 65536)
    assert storage.id_base(disk, place) == OTHER_IDS + 65536


def test_a_second_holder_does_not_get_a_volume_that_is_in_use(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    with pytest.raises(ProviderError, match="r-1"):
        attached(storage.volumes, disk, "s-1")
    assert storage.volumes.list_attached() == {disk: "r-1"}


def test_an_older_holder_takes_nothing_from_the_one_who_has_it_now(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-2")
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {disk: "r-2"}


def test_detaching_twice_and_what_never_was_is_no_error(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    for _ in range(2):
        storage.volumes.detach(disk, "r-1")
    storage.volumes.detach(an_id(), "r-1")
    assert storage.volumes.list_attached() == {}


def test_disks_are_attached_side_by_side(storage: Storage, disk: str) -> None:
    other = an_id()
    made(storage.volumes, other, 64 * MIB)
    places = {attached(storage.volumes, disk, "r-1"), attached(storage.volumes, other, "s-1")}
    assert len(places) == 2
    assert storage.volumes.list_attached() == {disk: "r-1", other: "s-1"}


def test_a_volume_that_was_never_made_or_is_gone_is_refused(storage: Storage, disk: str) -> None:
    storage.lose(disk)
    for missing in (disk, an_id()):
        with pytest.raises(ProviderRefused, match="does not exist"):
            attached(storage.volumes, missing, "r-1")
        with pytest.raises(ProviderRefused, match="does not exist"):
            taken(storage.volumes, missing, "r-1")
    assert storage.volumes.list_attached() == {}


@pytest.mark.parametrize("marker", ["", "0" * 32])
def test_another_folder_in_the_place_of_a_volume_is_refused(storage: Storage, disk: str, marker: str) -> None:
    storage.exchange(disk, marker)
    with pytest.raises(ProviderRefused, match="marker"):
        attached(storage.volumes, disk, "r-1")
    assert storage.volumes.list_attached() == {}


def test_a_user_who_removes_or_changes_the_marker_is_not_locked_out(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    storage.remove_marker(disk)
    attached(storage.volumes, disk, "r-1")
    storage.forge_marker(disk, an_id())
    attached(storage.volumes, disk, "r-1")
    storage.volumes.detach(disk, "r-1")
    storage.remove_marker(disk)
    taken(storage.volumes, disk, "r-1")
    assert storage.files(disk) == {"work": 5}


def test_what_was_written_is_there_when_the_disk_is_used_again(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    storage.write(disk, "a/b", 7)
    storage.volumes.detach(disk, "r-1")
    taken(storage.volumes, disk, "r-1")
    attached(storage.volumes, disk, "s-1")
    assert storage.files(disk) == {"a/b": 7}


def test_writes_of_the_last_moment_are_in_the_snapshot(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    storage.write(disk, "last", 11)
    storage.volumes.detach(disk, "r-1")
    snapshot = taken(storage.volumes, disk, "r-1")
    found = listed(storage.volumes, storage.blobs, disk, snapshot.id)
    assert [(entry.path, entry.kind, entry.size) for entry in found] == [("last", "f", 11)]
    assert snapshot.verified_at is not None


def test_a_snapshot_stays_as_it_was_while_the_disk_goes_on(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 1)
    first = taken(storage.volumes, disk, "r-1")
    storage.write(disk, "f", 2)
    storage.write(disk, "g", 3)
    taken(storage.volumes, disk, "s-1")
    assert [(e.path, e.size) for e in listed(storage.volumes, storage.blobs, disk, "r-1")] == [("f", 1)]
    assert [(e.path, e.size) for e in listed(storage.volumes, storage.blobs, disk, "s-1")] == [("f", 2), ("g", 3)]
    assert taken(storage.volumes, disk, "r-1") == first, "a complete one is never made again"


def test_a_volume_in_use_is_not_copied(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-2")
    with pytest.raises(ProviderUnavailable, match="r-2"):
        taken(storage.volumes, disk, "r-1")
    assert snapshot_ids(storage.volumes, disk) == ()


def test_snapshots_are_listed_in_the_order_in_which_they_were_taken(storage: Storage, disk: str) -> None:
    wanted = ["z-1", "a-1", "m-1"]
    for wanted_id in wanted:
        taken(storage.volumes, disk, wanted_id)
    taken(storage.volumes, disk, "z-1")
    assert snapshot_ids(storage.volumes, disk) == tuple(wanted)
    assert snapshot_ids(storage.volumes, an_id()) == ()


def test_the_listing_goes_by_path_without_the_marker(storage: Storage, disk: str) -> None:
    for path in ("b/z", "b/a", "a.txt", "b-c", ".odd name\n"):
        storage.write(disk, path, 1)
    taken(storage.volumes, disk, "r-1")
    paths = [entry.path for entry in listed(storage.volumes, storage.blobs, disk, "r-1") if entry.kind == "f"]
    assert paths == [".odd name\n", "a.txt", "b/a", "b/z", "b-c"]


def test_a_snapshot_that_is_not_there_has_no_listing(storage: Storage, disk: str) -> None:
    with pytest.raises(ProviderRefused, match="r-9"):
        listed(storage.volumes, storage.blobs, disk, "r-9")


def test_the_storage_says_what_it_is_and_what_a_snapshot_takes(storage: Storage, disk: str) -> None:
    assert storage.volumes.describe()
    storage.write(disk, "big", MIB)
    os.sync()
    assert taken(storage.volumes, disk, "r-1").used_bytes >= MIB


def test_a_deleted_snapshot_is_gone_and_the_others_stay(storage: Storage, disk: str) -> None:
    for number in (1, 2, 3):
        storage.write(disk, f"f{number}", 5)
        taken(storage.volumes, disk, f"r-{number}")
    storage.volumes.delete_snapshot(disk, "r-2")
    storage.volumes.delete_snapshot(disk, "r-2")
    assert snapshot_ids(storage.volumes, disk) == ("r-1", "r-3")
    assert [entry.path for entry in listed(storage.volumes, storage.blobs, disk, "r-3")] == ["f1", "f2", "f3"]
    assert storage.files(disk) == {"f1": 5, "f2": 5, "f3": 5}
    taken(storage.volumes, disk, "r-4")
    assert snapshot_ids(storage.volumes, disk) == ("r-1", "r-3", "r-4")


def test_the_newest_snapshot_is_never_deleted(storage: Storage, disk: str) -> None:
    for number in (1, 2):
        taken(storage.volumes, disk, f"r-{number}")
    storage.volumes.delete_snapshot(disk, "r-1")
    with pytest.raises(ProviderRefused, match="last one"):
        storage.volumes.delete_snapshot(disk, "r-2")
    assert snapshot_ids(storage.volumes, disk) == ("r-2",)


def test_deleting_what_is_not_there_is_not_an_error(storage: Storage, disk: str) -> None:
    storage.volumes.delete_snapshot(disk, "r-1")
    storage.volumes.delete_snapshot(an_id(), "r-1")


def test_a_limit_can_be_set_again(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 5)
    storage.volumes.set_limit(disk, 32 * MIB)
    assert storage.volumes.measure().disks.get(disk, DiskUse()).limit_bytes in (None, 32 * MIB)
    assert storage.files(disk) == {"f": 5}


def test_the_storage_is_measured(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 5)
    use = storage.volumes.measure()
    assert 0 < use.free_bytes <= use.total_bytes
    assert use.used_bytes + use.free_bytes == use.total_bytes


def test_a_volume_says_whose_it_is_without_its_record(storage: Storage, disk: str) -> None:
    assert VolumeLabel(disk_id=disk) in storage.volumes.list_labels()
    for name in ("first", "second"):
        label = VolumeLabel(disk_id=disk, owner="unix:1000", user="ada", name=name, size_bytes=7)
        storage.volumes.label(label)
        assert label in storage.volumes.list_labels()
    storage.volumes.label(VolumeLabel(disk_id=an_id(), owner="unix:1000", user="ada", name="absent"))
    assert "absent" not in {label.name for label in storage.volumes.list_labels()}


def test_a_volume_is_made_from_a_snapshot_of_another_disk(storage: Storage, disk: str) -> None:
    storage.write(disk, "a/work", 5)
    taken(storage.volumes, disk, "r-1")
    storage.write(disk, "a/work", 9)
    restored = an_id()
    assert made(storage.volumes, restored, 64 * MIB, Source(disk_id=disk, snapshot_id="r-1")) is True
    assert storage.files(restored) == {"a/work": 5}
    attached(storage.volumes, restored, "s-1")
    storage.write(restored, "a/work", 7)
    assert storage.files(disk) == {"a/work": 9}
    storage.volumes.detach(restored, "s-1")
    taken(storage.volumes, restored, "s-1")
    for disk_id, taken_id, size in ((disk, "r-1", 5), (restored, "s-1", 7)):
        found = listed(storage.volumes, storage.blobs, disk_id, taken_id)
        assert [(entry.path, entry.size) for entry in found if entry.kind == "f"] == [("a/work", size)]


def test_nothing_old_is_restored_over_a_volume_that_exists(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    taken(storage.volumes, disk, "r-1")
    storage.write(disk, "work", 9)
    for source in (disk, an_id()):
        assert made(storage.volumes, disk, 64 * MIB, Source(disk_id=source, snapshot_id="r-1")) is False
    assert storage.files(disk) == {"work": 9}


def test_a_volume_from_a_snapshot_that_does_not_exist_is_refused_and_not_made(storage: Storage, disk: str) -> None:
    restored = an_id()
    for source in (disk, an_id()):
        with pytest.raises(ProviderRefused, match="no snapshot r-9"):
            made(storage.volumes, restored, 64 * MIB, Source(disk_id=source, snapshot_id="r-9"))
    with pytest.raises(ProviderRefused, match="does not exist"):
        attached(storage.volumes, restored, "s-1")
    assert made(storage.volumes, restored, 64 * MIB) is True


def test_a_deleted_volume_is_gone_and_its_snapshots_stay(storage: Storage, disk: str) -> None:
    storage.write(disk, "a/work", 5)
    taken(storage.volumes, disk, "r-1")
    for _ in range(2):
        assert not_later(lambda: storage.volumes.delete(disk))
    assert disk not in {label.disk_id for label in storage.volumes.list_labels()}
    with pytest.raises(ProviderRefused, match="does not exist"):
        attached(storage.volumes, disk, "s-1")
    assert snapshot_ids(storage.volumes, disk) == ("r-1",)
    restored = an_id()
    made(storage.volumes, restored, 64 * MIB, Source(disk_id=disk, snapshot_id="r-1"))
    assert storage.files(restored) == {"a/work": 5}
    assert made(storage.volumes, disk, 64 * MIB) is True
    assert storage.files(disk) == {}


def test_the_last_snapshot_of_a_deleted_disk_can_be_deleted(storage: Storage, disk: str) -> None:
    taken(storage.volumes, disk, "r-1")
    not_later(lambda: storage.volumes.delete(disk))
    for _ in range(2):
        assert not_later(lambda: storage.volumes.delete_snapshot(disk, "r-1", keep_last=False))
    assert snapshot_ids(storage.volumes, disk) == ()


def test_a_volume_that_is_attached_is_not_deleted(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    attached(storage.volumes, disk, "r-1")
    with pytest.raises(ProviderUnavailable, match="r-1"):
        not_later(lambda: storage.volumes.delete(disk))
    assert storage.files(disk) == {"work": 5}


def test_another_folder_in_the_place_of_a_volume_is_not_deleted(storage: Storage, disk: str) -> None:
    storage.exchange(disk, an_id())
    with pytest.raises(ProviderRefused):
        not_later(lambda: storage.volumes.delete(disk))
    assert storage.files(disk) == {}


def test_a_snapshot_of_a_disk_in_use_is_marked_or_refused_with_the_reason(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    storage.write(disk, "work", 5)
    try:
        running = taken(storage.volumes, disk, snapshot_id("r-1", 1), in_use=True)
    except ProviderRefused as error:
        assert "in use" in error.message
        assert "btrfs" in error.message
        assert not storage.copies_in_use
        assert snapshot_ids(storage.volumes, disk) == ()
        return
    assert storage.copies_in_use
    assert running.crash_consistent
    assert running.verified_at is not None
    storage.write(disk, "work", 9)
    storage.volumes.detach(disk, "r-1")
    last = taken(storage.volumes, disk, snapshot_id("r-1"))
    assert not last.crash_consistent
    assert storage.volumes.list_snapshots(disk) == (running, last)
    for one, size in ((running, 5), (last, 9)):
        assert [entry.size for entry in listed(storage.volumes, storage.blobs, disk, one.id)] == [size]


def test_a_disk_that_may_be_in_use_and_is_not_has_a_plain_snapshot(storage: Storage, disk: str) -> None:
    assert not taken(storage.volumes, disk, "r-1", in_use=True).crash_consistent


def test_work_that_takes_longer_is_asked_for_again_until_it_is_through(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    taken(storage.volumes, disk, "r-0")
    restored, source = an_id(), Source(disk_id=disk, snapshot_id="r-0")
    calls: list[Callable[[Volumes], object]] = [
        lambda volumes: volumes.create(restored, 64 * MIB, NODE, source),
        lambda volumes: volumes.attach(disk, "r-1", NODE),
        lambda volumes: volumes.detach(disk, "r-1"),
        lambda volumes: volumes.snapshot(disk, "r-1"),
        lambda volumes: volumes.write_listing(disk, "r-1", "listing"),
        lambda volumes: volumes.delete_snapshot(disk, "r-0"),
        lambda volumes: volumes.delete(disk),
    ]
    for call in calls:
        volumes = storage.impatient()
        answers: list[object] = []
        while not answers or not answers[-1]:
            answers.append(call(volumes))
            time.sleep(0.01)
        assert set(answers[:-1]) <= {None, False}
        assert call(storage.volumes), "it is done for every process"
    assert storage.files(restored) == {"work": 5}
    assert snapshot_ids(storage.volumes, disk) == ("r-1",)
    assert [entry.path for entry in stored_listing(storage.blobs, "listing")] == ["work"]


def test_two_processes_that_do_the_same_at_once_do_it_once(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    other = storage.impatient()
    with ThreadPoolExecutor(8) as pool:

        def at_once(call: Callable[[Volumes], Found | None]) -> list[Found]:
            return list(pool.map(lambda volumes: not_later(lambda: call(volumes)), [storage.volumes, other] * 4))

        assert len({found.handle for found in at_once(lambda volumes: volumes.attach(disk, "r-1", NODE))}) == 1
        assert storage.volumes.list_attached() == {disk: "r-1"}
        assert at_once(lambda volumes: volumes.detach(disk, "r-1")) == [True] * 8
        assert storage.volumes.list_attached() == {}
        assert len(set(at_once(lambda volumes: volumes.snapshot(disk, "r-1")))) == 1
        at_once(lambda volumes: volumes.write_listing(disk, "r-1", "listing"))
        restored, source = an_id(), Source(disk_id=disk, snapshot_id="r-1")
        at_once(lambda volumes: volumes.create(restored, 64 * MIB, NODE, source))
        assert at_once(lambda volumes: volumes.delete(disk)) == [True] * 8
    assert storage.files(restored) == {"work": 5}
    assert snapshot_ids(storage.volumes, disk) == ("r-1",)
