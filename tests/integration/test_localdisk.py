"""Disks on real storage: crashes after every step, full storage, reboots, hostile files, exact copies."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.builders import an_id
from tests.storage import (
    DEV,
    ID_BASE,
    MIB,
    NODE,
    LocalStorage,
    attached,
    btrfs_storage,
    folders_storage,
    listed,
    made,
    not_later,
    snapshot_ids,
    taken,
)
from tests.waiting import eventually

from odc.adapters.localdisk.disk_locks import disk_lock
from odc.adapters.localdisk.mounts import read_mounts
from odc.adapters.localdisk.programs import run
from odc.adapters.localdisk.volumes import LocalVolumes
from odc.domain.errors import InvariantError, ProviderRefused, ProviderUnavailable
from odc.ports.volumes import Source, Volumes

pytestmark = [pytest.mark.btrfs]
STEPS = frozenset(
    {"os.rename", "os.mkdir", "os.chown", "os.chmod", "os.remove", "os.rmdir", "subprocess.Popen", "open"}
)


def killed_before_step(number: int, work: Callable[[], Any]) -> bool:
    """Do the work in a process that ends, as by `kill -9`, before its step `number`; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, args: tuple[Any, ...]) -> None:
            nonlocal left
            reads = event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
            if event in STEPS and not reads:
                if left == 0:
                    os._exit(9)
                left -= 1

        sys.addaudithook(count)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), f"the work failed after {number} steps"
    return code == 9


def all_files(storage: LocalStorage, disk_id: str, snapshot_id: str) -> dict[str, bytes]:
    top = storage.root / "snapshots" / disk_id / snapshot_id
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


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


def test_nothing_planted_in_a_home_is_worth_anything_on_the_host(storage: LocalStorage, disk: str) -> None:
    place = Path(attached(storage.volumes, disk, "r-1"))
    os.mknod(place / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(PermissionError):
        (place / "null").write_bytes(b"x")
    assert os.statvfs(place).f_flag & os.ST_NOSUID
    assert next(mount.options for mount in read_mounts() if mount.target == place) >= {"nosuid", "nodev"}


def test_an_ordinary_user_of_the_host_reaches_no_disk(storage: LocalStorage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    for path in (storage.home(disk), storage.root / "mounts" / "r-1", storage.root / "snapshots"):
        done = subprocess.run(["ls", str(path)], user=65534, group=65534, extra_groups=[], capture_output=True, cwd="/")
        assert done.returncode != 0


def test_a_mount_whose_maker_died_half_way_gets_its_options(storage: LocalStorage, disk: str) -> None:
    place = storage.root / "mounts" / "r-1"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(storage.home(disk)), str(place)], check=True)
    attached(storage.volumes, disk, "r-1")
    found = [mount for mount in read_mounts() if mount.target == place]
    assert len(found) == 1
    assert found[0].options >= {"nosuid", "nodev"}


def test_a_new_process_sees_what_an_old_one_attached(storage: LocalStorage, disk: str) -> None:
    assert not killed_before_step(10**6, lambda: attached(storage.volumes, disk, "r-1"))
    assert storage.volumes.list_attached() == {disk: "r-1"}


def test_what_uses_a_mount_is_named_and_keeps_it(storage: LocalStorage, disk: str) -> None:
    place = attached(storage.volumes, disk, "r-1")
    with subprocess.Popen(["sleep", "60"], cwd=place) as user:
        try:
            with pytest.raises(ProviderUnavailable, match=rf"used by process {user.pid} \(sleep\)"):
                storage.volumes.detach(disk, "r-1")
            assert storage.volumes.list_attached() == {disk: "r-1"}
        finally:
            user.kill()
    storage.volumes.detach(disk, "r-1")


def test_a_volume_that_another_mount_namespace_still_sees_is_not_taken(storage: LocalStorage, disk: str) -> None:
    place = attached(storage.volumes, disk, "r-1")
    inside = storage.root / "inside"
    inside.mkdir()
    script = f"mount --bind {place} {inside} && umount {place} && echo ready && exec sleep 60"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE
    ) as box:
        assert box.stdout is not None
        try:
            assert box.stdout.readline() == b"ready\n"
            with pytest.raises(ProviderUnavailable, match=f"used by process {box.pid}"):
                storage.volumes.detach(disk, "r-1")
        finally:
            box.kill()
    storage.volumes.detach(disk, "r-1")
    assert storage.volumes.list_attached() == {}


def test_odd_names_are_listed_as_text(storage: LocalStorage, disk: str) -> None:
    home = storage.home(disk)
    for name in (b"new\nline", b"\xff\xfe", b"#hash", b"-n", "ü".encode(), b"tab\t\\x"):
        (home / os.fsdecode(name)).write_bytes(b"1")
    (home / "link").symlink_to("/etc/shadow")
    os.mknod(home / "sock", 0o600 | stat.S_IFSOCK)
    os.mkfifo(home / "pipe")
    taken(storage.volumes, disk, "r-1")
    found = {entry.path: entry.kind for entry in listed(storage.volumes, storage.blobs, disk, "r-1")}
    assert found == {
        "new\nline": "f",
        "\ufffd\ufffd": "f",
        "#hash": "f",
        "-n": "f",
        "ü": "f",
        "tab\t\\x": "f",
        "sock": "o",
        "link": "l",
        "pipe": "o",
    }


def test_whatever_stands_in_the_markers_place_is_cleared_or_moved_aside(storage: LocalStorage, disk: str) -> None:
    marker = storage.home(disk) / ".odc-disk"
    marker.unlink()
    marker.symlink_to("/etc/hostname")
    attached(storage.volumes, disk, "r-1")
    assert marker.read_text() == disk + "\n"
    assert Path("/etc/hostname").exists()
    marker.unlink()
    os.mkfifo(marker)
    attached(storage.volumes, disk, "r-1")
    marker.unlink()
    marker.mkdir()
    (marker / "precious").write_text("data")
    attached(storage.volumes, disk, "r-1")
    assert marker.read_text() == disk + "\n"
    assert stat.S_IMODE(marker.stat().st_mode) == 0o444
    assert [path.read_text() for path in storage.home(disk).glob(".odc-disk.*/precious")] == ["data"]


def test_a_user_who_makes_their_home_read_only_locks_nobody_out(btrfs: Path) -> None:
    with btrfs_storage(btrfs / an_id()) as storage:
        disk_id = an_id()
        made(storage.volumes, disk_id, 64 * MIB)
        acts: list[Callable[[Volumes, str, str], object]] = [attached, taken]
        for step, act in enumerate(acts):
            storage.write(disk_id, f"work{step}", 5)
            storage.remove_marker(disk_id)
            subprocess.run(["btrfs", "property", "set", "-ts", storage.home(disk_id), "ro", "true"], check=True)
            with pytest.raises(OSError, match="Read-only"):
                storage.write(disk_id, "more", 1)
            act(storage.volumes, disk_id, "r-1")
            storage.volumes.detach(disk_id, "r-1")
        assert storage.files(disk_id) == {"work0": 5, "work1": 5}


def test_a_snapshot_keeps_owners_links_times_and_attributes(storage: LocalStorage, disk: str) -> None:
    home = storage.home(disk)
    (home / "a").write_text("text")
    os.link(home / "a", home / "b")
    (home / "run").write_text("#!/bin/sh")
    (home / "run").chmod(0o4751)
    os.chown(home / "a", DEV, DEV + 7)
    (home / "link").symlink_to("nowhere")
    os.setxattr(home / "a", "user.note", b"\x00\x01")
    with (home / "sparse").open("wb") as file:
        file.truncate(32 * MIB)
    os.utime(home / "a", ns=(1_600_000_000_123_456_789,) * 2)
    os.utime(home, ns=(1_500_000_000_000_000_001,) * 2)
    taken(storage.volumes, disk, "r-1")
    copy = storage.root / "snapshots" / disk / "r-1"
    facts = (copy / "a").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mtime_ns) == (DEV, DEV + 7, 1_600_000_000_123_456_789)
    assert (copy / "a").samefile(copy / "b")
    assert not (copy / "a").samefile(home / "a")
    assert os.getxattr(copy / "a", "user.note") == b"\x00\x01"
    assert (copy / "link").readlink() == Path("nowhere")
    assert stat.S_IMODE((copy / "run").lstat().st_mode) == 0o4751
    assert copy.stat().st_mtime_ns == 1_500_000_000_000_000_001
    assert (copy / "sparse").stat().st_blocks < 100


def test_a_file_that_only_seems_unchanged_is_exact_in_the_next_snapshot(storage: LocalStorage, disk: str) -> None:
    file = storage.home(disk) / "#f"
    for text, snapshot_id in (("one", "r-1"), ("two", "r-2")):
        file.write_text(text)
        os.utime(file, ns=(10**18, 10**18))
        taken(storage.volumes, disk, snapshot_id)
    assert all_files(storage, disk, "r-1")["#f"] == b"one"
    assert all_files(storage, disk, "r-2")["#f"] == b"two"


def test_a_changed_mode_does_not_reach_an_earlier_snapshot(storage: LocalStorage, disk: str) -> None:
    file = storage.home(disk) / "f"
    file.write_text("x")
    file.chmod(0o600)
    taken(storage.volumes, disk, "r-1")
    file.chmod(0o644)
    taken(storage.volumes, disk, "r-2")
    modes = [stat.S_IMODE((storage.root / "snapshots" / disk / name / "f").stat().st_mode) for name in ("r-1", "r-2")]
    assert modes == [0o600, 0o644]


def test_equal_files_of_two_snapshots_take_room_once(tmp_path: Path) -> None:
    with folders_storage(tmp_path / "disks") as storage:
        disk_id = an_id()
        made(storage.volumes, disk_id, 64 * MIB)
        storage.write(disk_id, "d/big", MIB)
        taken(storage.volumes, disk_id, "r-1")
        taken(storage.volumes, disk_id, "r-2")
        copies = [storage.root / "snapshots" / disk_id / name / "d/big" for name in ("r-1", "r-2")]
        assert copies[0].samefile(copies[1])
        assert not copies[0].samefile(storage.home(disk_id) / "d/big")


@pytest.mark.parametrize(("depth", "shown"), [(1200, 1200), (2500, None)])
def test_a_deep_tree_is_listed_as_far_as_one_path_can_name_it(btrfs: Path, depth: int, shown: int | None) -> None:
    with btrfs_storage(btrfs / an_id()) as storage:
        disk_id = an_id()
        made(storage.volumes, disk_id, 64 * MIB)
        folder = os.open(storage.home(disk_id), os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=folder)
            deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        os.close(folder)
        taken(storage.volumes, disk_id, "r-1")
        count = len(listed(storage.volumes, storage.blobs, disk_id, "r-1"))
        assert count == shown if shown else 1200 < count < depth


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\n", "-x", "ü", "x" * 200])
def test_no_name_leads_out_of_the_folder(storage: LocalStorage, disk: str, name: str) -> None:
    for call in (
        lambda: made(storage.volumes, name, MIB),
        lambda: attached(storage.volumes, disk, name),
        lambda: storage.volumes.detach(disk, name),
        lambda: taken(storage.volumes, disk, name),
        lambda: snapshot_ids(storage.volumes, name),
        lambda: listed(storage.volumes, storage.blobs, disk, name),
    ):
        with pytest.raises(InvariantError):
            call()


def test_a_full_disk_stops_its_user_alone_and_still_has_its_snapshot(btrfs: Path) -> None:
    with btrfs_storage(btrfs / an_id()) as storage:
        full, other = an_id(), an_id()
        made(storage.volumes, full, 24 * MIB)
        made(storage.volumes, other, 24 * MIB)
        place = Path(attached(storage.volumes, full, "r-1"))
        with pytest.raises(OSError, match="quota"), (place / "big").open("wb") as file:
            while True:
                file.write(os.urandom(MIB))
                file.flush()
                os.fsync(file.fileno())
        storage.write(other, "fine", MIB)
        storage.volumes.detach(full, "r-1")
        written = storage.files(full)["big"]
        taken(storage.volumes, full, "r-1")
        assert [entry.size for entry in listed(storage.volumes, storage.blobs, full, "r-1")] == [written]
        assert attached(storage.volumes, full, "r-2")


def test_making_and_attaching_a_volume_takes_no_time(btrfs: Path) -> None:
    with btrfs_storage(btrfs / an_id()) as storage:
        times = []
        for number in range(5):
            disk_id = an_id()
            begun = time.monotonic()
            made(storage.volumes, disk_id, 24 * MIB)
            attached(storage.volumes, disk_id, f"r-{number}")
            times.append(time.monotonic() - begun)
        assert min(times) < 0.2, "an order of magnitude above what it takes"


def test_closing_takes_every_mount_away_and_no_data(storage: LocalStorage, disk: str) -> None:
    attached(storage.volumes, disk, "r-1")
    storage.write(disk, "kept", 4)
    assert isinstance(storage.local, LocalVolumes)
    storage.local.close()
    assert storage.volumes.list_attached() == {}
    assert storage.files(disk) == {"kept": 4}


def test_different_disks_are_worked_on_at_once(storage: LocalStorage) -> None:
    def whole_life(number: int) -> dict[str, int]:
        disk_id = an_id()
        made(storage.volumes, disk_id, 24 * MIB)
        for attempt in range(3):
            attached(storage.volumes, disk_id, f"r{number}-{attempt}")
            storage.write(disk_id, f"f{attempt}", number + 1)
            storage.volumes.detach(disk_id, f"r{number}-{attempt}")
            taken(storage.volumes, disk_id, f"r{number}-{attempt}")
        return {entry.path: entry.size for entry in listed(storage.volumes, storage.blobs, disk_id, f"r{number}-2")}

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(whole_life, range(6)))
    assert found == [{f"f{attempt}": number + 1 for attempt in range(3)} for number in range(6)]
    assert storage.volumes.list_attached() == {}
