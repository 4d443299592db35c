"""Disks on real storage: a daemon that dies at any step, or leaves its work behind."""

from __future__ import annotations

import functools
import os
import subprocess
import threading
from pathlib import Path

import pytest
from tests.builders import an_id
from tests.killed_steps import killed_before_step
from tests.storage import (
    DEV,
    ID_BASE,
    MIB,
    NODE,
    LocalStorage,
    all_files,
    attached,
    made,
    not_later,
    snapshot_ids,
    taken,
)
from tests.waiting import eventually

from odc.adapters.localdisk.disk_locks import disk_lock
from odc.adapters.localdisk.mounts import read_mounts
from odc.adapters.localdisk.programs import run
from odc.domain.errors import ProviderRefused
from odc.ports.volumes import Source

pytestmark = [pytest.mark.btrfs]


def test_a_create_that_was_killed_at_any_step_is_finished_by_the_next(storage: LocalStorage) -> None:
    step, killed = 0, True
    while killed:
        disk_id = an_id()
        killed = killed_before_step(step, functools.partial(made, storage.volumes, disk_id, 64 * MIB))
        assert made(storage.volumes, disk_id, 64 * MIB) in ({True, False} if killed else {False})
        place = Path(attached(storage.volumes, disk_id, f"r-{step}"))
        assert (place / ".odc-disk").read_text() == disk_id + "\n"
        assert (place.stat().st_uid, (place / ".odc-disk").stat().st_uid) == (DEV, ID_BASE)
        storage.volumes.detach(disk_id, f"r-{step}")
        step += 1
    assert step > 6


def test_attach_and_detach_that_were_killed_at_any_step_are_finished_by_the_next(
    storage: LocalStorage, disk: str
) -> None:
    storage.write(disk, "work", 5)
    step, killed = 0, True
    while killed:
        holder = f"r-{step}"
        killed = killed_before_step(step, functools.partial(attached, storage.volumes, disk, holder))
        place = Path(attached(storage.volumes, disk, holder))
        assert len([mount for mount in read_mounts() if mount.target == place]) == 1
        assert (place / "work").read_bytes() == b"xxxxx"
        killed = killed_before_step(step, functools.partial(storage.volumes.detach, disk, holder)) or killed
        storage.volumes.detach(disk, holder)
        assert storage.volumes.list_attached() == {}
        assert not place.exists()
        step += 1
    assert storage.files(disk) == {"work": 5}


def test_a_restore_that_was_killed_at_any_step_is_finished_by_the_next(storage: LocalStorage, disk: str) -> None:
    storage.write(disk, "work", 5)
    taken(storage.volumes, disk, "r-1")
    source = Source(disk_id=disk, snapshot_id="r-1")
    step, killed = 0, True
    while killed:
        restored = an_id()
        killed = killed_before_step(step, functools.partial(made, storage.volumes, restored, 64 * MIB, source))
        assert made(storage.volumes, restored, 64 * MIB, source) in ({True, False} if killed else {False})
        place = Path(attached(storage.volumes, restored, f"s-{step}"))
        assert (place / ".odc-disk").read_text() == restored + "\n"
        assert (place.stat().st_uid, (place / ".odc-disk").stat().st_uid) == (DEV, ID_BASE)
        assert storage.files(restored) == {"work": 5}
        storage.volumes.detach(restored, f"s-{step}")
        assert {path.name for path in (storage.root / "volumes" / restored).iterdir()} == {"home", "id"}
        step += 1
    assert step > 8
    assert (storage.root / "snapshots" / disk / "r-1" / ".odc-disk").read_text() == disk + "\n"


def deleted(storage: LocalStorage, disk_id: str) -> bool:
    return not_later(lambda: storage.volumes.delete(disk_id))


def test_a_delete_that_was_killed_at_any_step_is_never_taken_for_a_volume_and_is_finished_by_the_next(
    storage: LocalStorage,
) -> None:
    step, killed = 0, True
    while killed:
        disk = an_id()
        made(storage.volumes, disk, 64 * MIB)
        for number in range(3):
            storage.write(disk, f"f{number}", 3)
        taken(storage.volumes, disk, "r-1")
        killed = killed_before_step(step, functools.partial(deleted, storage, disk))
        if (storage.root / "volumes" / disk / "home").exists():
            assert storage.files(disk) == {f"f{number}": 3 for number in range(3)}
        deleted(storage, disk)
        assert not (storage.root / "volumes" / disk).exists()
        assert set(all_files(storage, disk, "r-1")) == {".odc-disk", "f0", "f1", "f2"}
        step += 1
    assert step > 4


def test_a_half_made_volume_is_deleted_and_files_that_are_not_odcs_are_kept(storage: LocalStorage) -> None:
    for step in range(8):
        disk = an_id()
        killed_before_step(step, functools.partial(made, storage.volumes, disk, 64 * MIB))
        deleted(storage, disk)
        assert not (storage.root / "volumes" / disk).exists()
    disk = an_id()
    made(storage.volumes, disk, 64 * MIB)
    (storage.root / "volumes" / disk / "notes").write_text("an operator's")
    with pytest.raises(ProviderRefused, match="notes"):
        not_later(lambda: storage.volumes.delete(disk))
    assert storage.home(disk).exists()


def test_a_program_that_outlives_its_daemon_keeps_the_disk_until_it_ends(
    storage: LocalStorage, disk: str, tmp_path: Path
) -> None:
    folder = storage.root / "volumes" / disk
    child = os.fork()
    if child == 0:
        with disk_lock(folder, 0):
            threading.Timer(0.3, os._exit, [9]).start()
            run("sleep", "2")
    os.waitpid(child, 0)
    volumes = storage.impatient()
    assert volumes.attach(disk, "r-1", NODE) is None
    assert volumes.list_attached() == {}
    assert attached(volumes, disk, "r-1")


def test_the_error_of_work_that_nobody_waited_for_is_told_once_and_then_it_is_tried_again(
    storage: LocalStorage, disk: str
) -> None:
    volumes = storage.impatient()
    storage.lose(disk)
    with pytest.raises(ProviderRefused, match="does not exist"):
        eventually("the error", lambda: volumes.snapshot(disk, "r-1"))
    storage.find(disk)
    assert taken(volumes, disk, "r-1").id == "r-1"


def test_a_snapshot_that_was_killed_at_any_step_is_never_taken_for_whole(storage: LocalStorage, disk: str) -> None:
    step, killed = 0, True
    wanted = []
    while killed:
        storage.write(disk, f"f{step}", 3)
        snapshot_id = f"r-{step}"
        killed = killed_before_step(step, functools.partial(taken, storage.volumes, disk, snapshot_id))
        if snapshot_id in snapshot_ids(storage.volumes, disk):
            assert f"f{step}" in all_files(storage, disk, snapshot_id)
        taken(storage.volumes, disk, snapshot_id)
        wanted.append(snapshot_id)
        assert set(all_files(storage, disk, snapshot_id)) == {".odc-disk", *(f"f{n}" for n in range(step + 1))}
        step += 1
    assert snapshot_ids(storage.volumes, disk) == tuple(wanted)
    left = {path.name for path in (storage.root / "snapshots" / disk).iterdir()}
    assert not [name for name in left if name.endswith(".partial")]


def test_a_mount_whose_maker_died_half_way_gets_its_options(storage: LocalStorage, disk: str) -> None:
    place = storage.root / "mounts" / "r-1"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(storage.home(disk)), str(place)], check=True)
    attached(storage.volumes, disk, "r-1")
    found = [mount for mount in read_mounts() if mount.target == place]
    assert len(found) == 1
    assert found[0].options >= {"nosuid", "nodev"}
