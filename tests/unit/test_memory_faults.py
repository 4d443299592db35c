"""Faults that tests inject."""

from __future__ import annotations

import pytest
from tests.builders import an_id
from tests.storage import attached, made, taken

from odc.adapters.memory.volumes import MemoryVolumes
from odc.domain.errors import ProviderUnavailable

FAULT = ProviderUnavailable("not now")


def test_a_fault_before_the_work_leaves_everything_as_it_was() -> None:
    volumes, disk_id = MemoryVolumes(), an_id()
    volumes.faults.add("create", FAULT)
    with pytest.raises(ProviderUnavailable):
        made(volumes, disk_id, 1)
    assert made(volumes, disk_id, 1) is True


def test_a_fault_after_the_work_loses_only_the_answer() -> None:
    volumes, disk_id = MemoryVolumes(), an_id()
    volumes.faults.add("create", FAULT, after=True)
    with pytest.raises(ProviderUnavailable):
        made(volumes, disk_id, 1)
    assert made(volumes, disk_id, 1) is False


def test_a_fault_comes_as_often_as_was_said_and_only_at_its_method() -> None:
    volumes, disk_id = MemoryVolumes(), an_id()
    made(volumes, disk_id, 1)
    volumes.faults.add("snapshot", FAULT, times=2)
    attached(volumes, disk_id, "r-1")
    volumes.detach(disk_id, "r-1")
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            taken(volumes, disk_id, "r-1")
    assert taken(volumes, disk_id, "r-1").id == "r-1"
    volumes.faults.add("snapshot", FAULT, times=5)
    volumes.faults.clear()
    taken(volumes, disk_id, "r-1")


def test_what_keeps_a_mount_busy_and_a_reboot() -> None:
    volumes, disk_id = MemoryVolumes(), an_id()
    made(volumes, disk_id, 1)
    attached(volumes, disk_id, "r-1")
    volumes.keep_busy(disk_id, "process 12 (vim)")
    with pytest.raises(ProviderUnavailable, match="vim"):
        volumes.detach(disk_id, "r-1")
    volumes.reboot()
    assert volumes.list_attached() == {}
