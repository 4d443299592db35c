"""The contract of volumes for their snapshots, held by every adapter."""

from __future__ import annotations

import os

import pytest
from tests.builders import an_id
from tests.storage import (
    MIB,
    Storage,
    attached,
    listed,
    made,
    not_later,
    snapshot_ids,
    taken,
)

from odc.domain.disk import snapshot_id
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.ports.volumes import Source


def restored(storage: Storage, disk_id: str, snapshot_id: str) -> dict[str, int]:
    """The files of a volume that is made from the snapshot."""
    copy = an_id()
    made(storage.volumes, copy, 64 * MIB, Source(disk_id=disk_id, snapshot_id=snapshot_id))
    return storage.files(copy)


def test_writes_of_the_last_moment_are_in_the_snapshot(storage: Storage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    storage.write(disk, "last", 11)
    storage.volumes.detach(disk, "r-1")
    snapshot = taken(storage.volumes, disk, "r-1")
    assert snapshot.verified_at is not None
    if storage.lists_files:
        found = listed(storage.volumes, storage.blobs, disk, snapshot.id)
        assert [(entry.path, entry.kind, entry.size) for entry in found] == [("last", "f", 11)]
    else:
        assert restored(storage, disk, snapshot.id) == {"last": 11}


def test_a_snapshot_stays_as_it_was_while_the_disk_goes_on(storage: Storage, disk: str) -> None:
    storage.write(disk, "f", 1)
    first = taken(storage.volumes, disk, "r-1")
    storage.write(disk, "f", 2)
    storage.write(disk, "g", 3)
    taken(storage.volumes, disk, "s-1")
    assert restored(storage, disk, "r-1") == {"f": 1}
    assert restored(storage, disk, "s-1") == {"f": 2, "g": 3}
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
    if not storage.lists_files:
        pytest.skip("this storage lists no files")
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
    assert restored(storage, disk, "r-3") == {"f1": 5, "f2": 5, "f3": 5}
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


def test_a_volume_is_made_from_a_snapshot_of_another_disk(storage: Storage, disk: str) -> None:
    storage.write(disk, "a/work", 5)
    taken(storage.volumes, disk, "r-1")
    storage.write(disk, "a/work", 9)
    copy = an_id()
    assert made(storage.volumes, copy, 64 * MIB, Source(disk_id=disk, snapshot_id="r-1")) is True
    assert storage.files(copy) == {"a/work": 5}
    attached(storage.volumes, copy, "s-1")
    storage.write(copy, "a/work", 7)
    assert storage.files(disk) == {"a/work": 9}
    storage.volumes.detach(copy, "s-1")
    taken(storage.volumes, copy, "s-1")
    for disk_id, taken_id, size in ((disk, "r-1", 5), (copy, "s-1", 7)):
        assert restored(storage, disk_id, taken_id) == {"a/work": size}


def test_a_volume_from_a_snapshot_that_does_not_exist_is_refused_and_not_made(storage: Storage, disk: str) -> None:
    copy = an_id()
    for source in (disk, an_id()):
        with pytest.raises(ProviderRefused, match="no snapshot r-9"):
            made(storage.volumes, copy, 64 * MIB, Source(disk_id=source, snapshot_id="r-9"))
    with pytest.raises(ProviderRefused, match="does not exist"):
        attached(storage.volumes, copy, "s-1")
    assert made(storage.volumes, copy, 64 * MIB) is True


def test_a_deleted_volume_is_gone_and_its_snapshots_stay(storage: Storage, disk: str) -> None:
    storage.write(disk, "a/work", 5)
    taken(storage.volumes, disk, "r-1")
    for _ in range(2):
        assert not_later(lambda: storage.volumes.delete(disk))
    assert disk not in {label.disk_id for label in storage.volumes.list_labels()}
    with pytest.raises(ProviderRefused, match="does not exist"):
        attached(storage.volumes, disk, "s-1")
    assert snapshot_ids(storage.volumes, disk) == ("r-1",)
    copy = an_id()
    made(storage.volumes, copy, 64 * MIB, Source(disk_id=disk, snapshot_id="r-1"))
    assert storage.files(copy) == {"a/work": 5}
    assert made(storage.volumes, disk, 64 * MIB) is True
    assert storage.files(disk) == {}


def test_the_last_snapshot_of_a_deleted_disk_can_be_deleted(storage: Storage, disk: str) -> None:
    taken(storage.volumes, disk, "r-1")
    not_later(lambda: storage.volumes.delete(disk))
    for _ in range(2):
        assert not_later(lambda: storage.volumes.delete_snapshot(disk, "r-1", keep_last=False))
    assert snapshot_ids(storage.volumes, disk) == ()


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
        assert restored(storage, disk, one.id) == {"work": size}


def test_a_disk_that_may_be_in_use_and_is_not_has_a_plain_snapshot(storage: Storage, disk: str) -> None:
    assert not taken(storage.volumes, disk, "r-1", in_use=True).crash_consistent
