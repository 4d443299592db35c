"""The contract of volumes, held by every adapter."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.builders import an_id
from tests.storage import (
    ID_BASE,
    MIB,
    NODE,
    Found,
    Storage,
    attached,
    made,
    not_later,
    snapshot_ids,
    stored_listing,
    taken,
)

from odc.domain.disk import VolumeLabel
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable
from odc.domain.storage import DiskUse
from odc.ports.volumes import Source, Volumes

OTHER_IDS = ID_BASE + 7 * 65536


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
    if not storage.maps_owners:
        pytest.skip("the kubelet maps owners")
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
    if not storage.maps_owners:
        pytest.skip("the kubelet maps owners")
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


def test_a_limit_can_be_set_again(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 5)
    storage.volumes.set_limit(disk, 32 * MIB)
    smaller = 32 * MIB if storage.can_shrink else 64 * MIB
    assert storage.volumes.measure().disks.get(disk, DiskUse()).limit_bytes in (None, smaller)
    assert storage.files(disk) == {"f": 5}


def test_the_storage_is_measured(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 5)
    use = storage.volumes.measure()
    assert 0 < use.free_bytes <= use.total_bytes
    assert use.used_bytes + use.free_bytes == use.total_bytes


def test_a_volume_says_whose_it_is_without_its_record(storage: Storage, disk: str) -> None:
    assert VolumeLabel(disk_id=disk) in storage.volumes.list_labels()
    for name in ("first", "second"):
        label = VolumeLabel(disk_id=disk, owner="unix:1000", user="ada", name=name, size_bytes=7, zone="z-1")
        storage.volumes.label(label)
        assert label in storage.volumes.list_labels()
    storage.volumes.label(VolumeLabel(disk_id=an_id(), owner="unix:1000", user="ada", name="absent"))
    assert "absent" not in {label.name for label in storage.volumes.list_labels()}


def test_nothing_old_is_restored_over_a_volume_that_exists(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    taken(storage.volumes, disk, "r-1")
    storage.write(disk, "work", 9)
    for source in (disk, an_id()):
        assert made(storage.volumes, disk, 64 * MIB, Source(disk_id=source, snapshot_id="r-1")) is False
    assert storage.files(disk) == {"work": 9}


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


def test_work_that_takes_longer_is_asked_for_again_until_it_is_through(storage: Storage, disk: str) -> None:
    storage.write(disk, "work", 5)
    taken(storage.volumes, disk, "r-0")
    restored, source = an_id(), Source(disk_id=disk, snapshot_id="r-0")
    calls: list[Callable[[Volumes], object]] = [
        lambda volumes: volumes.create(restored, 64 * MIB, NODE, source),
        lambda volumes: volumes.attach(disk, "r-1", NODE),
        lambda volumes: volumes.detach(disk, "r-1"),
        lambda volumes: volumes.snapshot(disk, "r-1"),
        lambda volumes: volumes.delete_snapshot(disk, "r-0"),
        lambda volumes: volumes.delete(disk),
    ]
    if storage.lists_files:
        calls.append(lambda volumes: volumes.write_listing(disk, "r-1", "listing"))
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
    if storage.lists_files:
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
        if storage.lists_files:
            at_once(lambda volumes: volumes.write_listing(disk, "r-1", "listing"))
        restored, source = an_id(), Source(disk_id=disk, snapshot_id="r-1")
        at_once(lambda volumes: volumes.create(restored, 64 * MIB, NODE, source))
        assert at_once(lambda volumes: volumes.delete(disk)) == [True] * 8
    assert storage.files(restored) == {"work": 5}
    assert snapshot_ids(storage.volumes, disk) == ("r-1",)
