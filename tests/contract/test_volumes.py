"""The contract of volumes, held by every adapter."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import an_id
from tests.storage import ID_BASE, MIB, MemoryStorage, Storage, btrfs_mount, btrfs_storage, folders_storage, listed

from odc.domain.disk import VolumeLabel
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable
from odc.domain.storage import DiskUse

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
    storage.volumes.create(disk_id, 64 * MIB)
    return disk_id


def test_a_volume_is_new_once(storage: Storage) -> None:
    disk_id = an_id()
    assert storage.volumes.create(disk_id, 64 * MIB) is True
    storage.write(disk_id, "kept", 3)
    assert storage.volumes.create(disk_id, 64 * MIB) is False
    assert storage.files(disk_id) == {"kept": 3}


def test_attaching_again_for_the_same_holder_gives_the_same_place(storage: Storage, disk: str) -> None:
    place = storage.volumes.attach(disk, "r-1")
    assert storage.volumes.attach(disk, "r-1") == place
    assert storage.volumes.list_attached() == {disk: "r-1"}
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {}


def test_attaching_again_with_another_range_of_ids_gives_the_same_place_and_files(storage: Storage, disk: str) -> None:
    storage.write(disk, "kept", 3)
    place = storage.volumes.attach(disk, "r-1", OTHER_IDS)
    assert storage.id_base(disk, place) == OTHER_IDS
    assert storage.volumes.attach(disk, "r-1", OTHER_IDS) == place
    assert storage.volumes.attach(disk, "r-1", OTHER_IDS + 65536) == place
    assert storage.id_base(disk, place) == OTHER_IDS + 65536
    assert storage.volumes.attach(disk, "r-1") == place
    assert storage.id_base(disk, place) == 0
    assert storage.volumes.list_attached() == {disk: "r-1"}
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {}
    assert storage.files(disk) == {"kept": 3}


def test_a_volume_in_use_is_not_given_with_another_range_of_ids(storage: Storage, disk: str) -> None:
    place = storage.volumes.attach(disk, "r-1", OTHER_IDS)
    with storage.in_use(disk, place):
        for other in (OTHER_IDS + 65536, 0):
            with pytest.raises(ProviderUnavailable, match="still used by"):
                storage.volumes.attach(disk, "r-1", other)
        assert storage.volumes.attach(disk, "r-1", OTHER_IDS) == place
        assert storage.id_base(disk, place) == OTHER_IDS
    storage.volumes.attach(disk, "r-1", OTHER_IDS + 65536)
    assert storage.id_base(disk, place) == OTHER_IDS + 65536


def test_a_second_holder_does_not_get_a_volume_that_is_in_use(storage: Storage, disk: str) -> None:
    storage.volumes.attach(disk, "r-1")
    with pytest.raises(ProviderError, match="r-1"):
        storage.volumes.attach(disk, "s-1")
    assert storage.volumes.list_attached() == {disk: "r-1"}


def test_an_older_holder_takes_nothing_from_the_one_who_has_it_now(storage: Storage, disk: str) -> None:
    storage.volumes.attach(disk, "r-2")
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {disk: "r-2"}


def test_detaching_twice_and_what_never_was_is_no_error(storage: Storage, disk: str) -> None:
    storage.volumes.attach(disk, "r-1")
    for _ in range(2):
        storage.volumes.detach(disk, "r-1")
    storage.volumes.detach(an_id(), "r-1")
    assert storage.volumes.list_attached() == {}


def test_disks_are_attached_side_by_side(storage: Storage, disk: str) -> None:
    other = an_id()
    storage.volumes.create(other, 64 * MIB)
    places = {storage.volumes.attach(disk, "r-1"), storage.volumes.attach(other, "s-1")}
    assert len(places) == 2
    assert storage.volumes.list_attached() == {disk: "r-1", other: "s-1"}


def test_a_volume_that_was_never_made_or_is_gone_is_refused(storage: Storage, disk: str) -> None:
    storage.lose(disk)
    for missing in (disk, an_id()):
        with pytest.raises(ProviderRefused, match="does not exist"):
            storage.volumes.attach(missing, "r-1")
        with pytest.raises(ProviderRefused, match="does not exist"):
            storage.volumes.snapshot(missing, "r-1")
    assert storage.volumes.list_attached() == {}


@pytest.mark.parametrize("marker", ["", "0" * 32])
def test_another_folder_in_the_place_of_a_volume_is_refused(storage: Storage, disk: str, marker: str) -> None:
    storage.exchange(disk, marker)
    with pytest.raises(ProviderRefused, match="marker"):
        storage.volumes.attach(disk, "r-1")
    assert storage.volumes.list_attached() == {}


def test_a_user_who_removes_or_changes_the_marker_is_not_locked_out(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    storage.remove_marker(disk)
    storage.volumes.attach(disk, "r-1")
    storage.forge_marker(disk, an_id())
    storage.volumes.attach(disk, "r-1")
    storage.volumes.detach(disk, "r-1")
    storage.remove_marker(disk)
    storage.volumes.snapshot(disk, "r-1")
    assert storage.files(disk) == {"work": 5}


def test_what_was_written_is_there_when_the_disk_is_used_again(storage: Storage, disk: str) -> None:
    storage.volumes.attach(disk, "r-1")
    storage.write(disk, "a/b", 7)
    storage.volumes.detach(disk, "r-1")
    storage.volumes.snapshot(disk, "r-1")
    storage.volumes.attach(disk, "s-1")
    assert storage.files(disk) == {"a/b": 7}


def test_writes_of_the_last_moment_are_in_the_snapshot(storage: Storage, disk: str) -> None:
    storage.volumes.attach(disk, "r-1")
    storage.write(disk, "last", 11)
    storage.volumes.detach(disk, "r-1")
    snapshot = storage.volumes.snapshot(disk, "r-1")
    found = listed(storage.volumes, storage.blobs, disk, snapshot.id)
    assert [(entry.path, entry.kind, entry.size) for entry in found] == [("last", "f", 11)]
    assert snapshot.verified_at is not None


def test_a_snapshot_stays_as_it_was_while_the_disk_goes_on(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 1)
    first = storage.volumes.snapshot(disk, "r-1")
    storage.write(disk, "f", 2)
    storage.write(disk, "g", 3)
    storage.volumes.snapshot(disk, "s-1")
    assert [(e.path, e.size) for e in listed(storage.volumes, storage.blobs, disk, "r-1")] == [("f", 1)]
    assert [(e.path, e.size) for e in listed(storage.volumes, storage.blobs, disk, "s-1")] == [("f", 2), ("g", 3)]
    assert storage.volumes.snapshot(disk, "r-1") == first, "a complete one is never made again"


def test_a_volume_in_use_is_not_copied(storage: Storage, disk: str) -> None:
    storage.volumes.attach(disk, "r-2")
    with pytest.raises(ProviderUnavailable, match="r-2"):
        storage.volumes.snapshot(disk, "r-1")
    assert storage.volumes.list_snapshots(disk) == ()


def test_snapshots_are_listed_in_the_order_in_which_they_were_taken(storage: Storage, disk: str) -> None:
    wanted = ["z-1", "a-1", "m-1"]
    for snapshot_id in wanted:
        storage.volumes.snapshot(disk, snapshot_id)
    storage.volumes.snapshot(disk, "z-1")
    assert storage.volumes.list_snapshots(disk) == tuple(wanted)
    assert storage.volumes.list_snapshots(an_id()) == ()


def test_the_listing_goes_by_path_without_the_marker(storage: Storage, disk: str) -> None:
    for path in ("b/z", "b/a", "a.txt", "b-c", ".odd name\n"):
        storage.write(disk, path, 1)
    storage.volumes.snapshot(disk, "r-1")
    paths = [entry.path for entry in listed(storage.volumes, storage.blobs, disk, "r-1") if entry.kind == "f"]
    assert paths == [".odd name\n", "a.txt", "b/a", "b/z", "b-c"]


def test_a_snapshot_that_is_not_there_has_no_listing(storage: Storage, disk: str) -> None:
    with pytest.raises(ProviderRefused, match="r-9"):
        listed(storage.volumes, storage.blobs, disk, "r-9")


def test_the_storage_says_what_it_is_and_what_a_snapshot_takes(storage: Storage, disk: str) -> None:
    assert storage.volumes.describe()
    storage.write(disk, "big", MIB)
    os.sync()
    assert storage.volumes.snapshot(disk, "r-1").used_bytes >= MIB


def test_a_deleted_snapshot_is_gone_and_the_others_stay(storage: Storage, disk: str) -> None:
    for number in (1, 2, 3):
        storage.write(disk, f"f{number}", 5)
        storage.volumes.snapshot(disk, f"r-{number}")
    storage.volumes.delete_snapshot(disk, "r-2")
    storage.volumes.delete_snapshot(disk, "r-2")
    assert storage.volumes.list_snapshots(disk) == ("r-1", "r-3")
    assert [entry.path for entry in listed(storage.volumes, storage.blobs, disk, "r-3")] == ["f1", "f2", "f3"]
    assert storage.files(disk) == {"f1": 5, "f2": 5, "f3": 5}
    storage.volumes.snapshot(disk, "r-4")
    assert storage.volumes.list_snapshots(disk) == ("r-1", "r-3", "r-4")


def test_the_newest_snapshot_is_never_deleted(storage: Storage, disk: str) -> None:
    for number in (1, 2):
        storage.volumes.snapshot(disk, f"r-{number}")
    storage.volumes.delete_snapshot(disk, "r-1")
    with pytest.raises(ProviderRefused, match="last one"):
        storage.volumes.delete_snapshot(disk, "r-2")
    assert storage.volumes.list_snapshots(disk) == ("r-2",)


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
