"""The records of snapshots. For every adapter."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.builders import a_disk, a_snapshot
from tests.records import Records

from odc.domain.disk_history import DiskHistory
from odc.domain.errors import Conflict
from odc.domain.records import MAX_ITEMS, Change


def test_snapshots_are_listed_by_number_and_found_by_id(store: Records) -> None:
    disk, other = a_disk(), a_disk()
    third, first, second = (a_snapshot(disk.id, number=number, id=f"r{number}-1") for number in (30, 1, 2))
    stranger = a_snapshot(other.id, id="r1-1")
    store.commit(Change(disks=(disk, other), snapshots=(third, first, second, stranger)))
    assert store.list_snapshots(disk.id).items == (first, second, third)
    everyones = store.list_snapshots(None).items
    assert sorted(everyones, key=lambda record: (record.disk_id, record.number)) == list(everyones)
    assert set(everyones) == {first, second, third, stranger}
    assert store.list_snapshots("nothing").items == ()
    wanted = [(disk.id, "r2-1"), (other.id, "r1-1"), (other.id, "r2-1")]
    assert store.find_snapshots(wanted) == {(disk.id, "r2-1"): second, (other.id, "r1-1"): stranger}
    assert store.find_snapshots([]) == {}


def test_a_snapshot_is_replaced_and_deleted_with_its_disk_or_not_at_all(store: Records) -> None:
    disk = a_disk()
    records = tuple(a_snapshot(disk.id, number=number) for number in (1, 2))
    store.commit(Change(disks=(disk,), snapshots=records))
    read = store.find_disk(disk.id)
    assert read is not None
    store.commit(Change(disks=(read,), snapshots=(replace(records[0], deleting=True),)))
    assert [record.deleting for record in store.list_snapshots(disk.id).items] == [True, False]
    with pytest.raises(Conflict):
        store.commit(Change(disks=(read,), deleted_snapshots=records[:1], snapshots=(a_snapshot(disk.id, number=3),)))
    assert len(store.list_snapshots(disk.id).items) == 2
    store.commit(Change(disks=(replace(read, version=2),), deleted_snapshots=records[:1]))
    assert store.list_snapshots(disk.id).items == records[1:]


def test_a_change_of_the_most_snapshots_is_written(store: Records) -> None:
    disk = a_disk()
    records = tuple(a_snapshot(disk.id, number=number) for number in range(1, MAX_ITEMS - 1))
    change = Change(disks=(disk,), snapshots=records)
    assert change.items == MAX_ITEMS
    store.commit(change)
    assert store.list_snapshots(disk.id).items == records
    assert DiskHistory(disk=disk, snapshots=store.list_snapshots(disk.id).items).kept == records
