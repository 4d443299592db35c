"""Disks on real storage: full storage, reboots, hostile files, exact copies."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.builders import an_id
from tests.killed_steps import killed_before_step
from tests.storage import (
    DEV,
    MIB,
    LocalStorage,
    all_files,
    attached,
    btrfs_storage,
    folders_storage,
    listed,
    made,
    snapshot_ids,
    taken,
)

from odc.adapters.localdisk.mounts import read_mounts
from odc.adapters.localdisk.volumes import LocalVolumes
from odc.domain.errors import InvariantError, ProviderUnavailable
from odc.ports.volumes import Volumes

pytestmark = [pytest.mark.btrfs]


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
