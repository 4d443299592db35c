"""Which storage a folder gets, and that it is the same one after reboots, full hosts and mistakes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.builders import an_id
from tests.storage import ID_BASE, MIB, attached, btrfs_mount, listed, made, snapshot_ids, taken, unmount_all

from odc.adapters.localdisk.btrfs_file import file_of, mounted_file
from odc.adapters.localdisk.health import examine_storage
from odc.adapters.localdisk.volumes import LocalVolumes, open_volumes
from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable

pytestmark = [pytest.mark.btrfs]
SIZE = 256 * MIB
BLOBS = MemoryBlobStore()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "state" / "disks"
    yield found
    unmount_all(tmp_path)
    file_of(found).unlink(missing_ok=True)


def opened(folder: Path, size: int = SIZE) -> LocalVolumes:
    return open_volumes(folder, size, ID_BASE, BLOBS)


def with_work(volumes: LocalVolumes) -> str:
    disk_id = an_id()
    made(volumes, disk_id, 64 * MIB)
    place = Path(attached(volumes, disk_id, "r-1"))
    (place / "work").write_text("precious")
    return disk_id


def work_of(volumes: LocalVolumes, disk_id: str) -> str:
    return (Path(attached(volumes, disk_id, "r-2")) / "work").read_text()


def reboot(folder: Path) -> None:
    """After a reboot every mount is gone."""
    os.sync()
    unmount_all(folder)


def levels(folder: Path) -> dict[str, str]:
    return {line.subject: line.level for line in examine_storage(folder, SIZE)}


def test_without_snapshots_a_btrfs_file_is_made_and_is_there_again_after_a_reboot(folder: Path) -> None:
    volumes = opened(folder)
    assert volumes.describe().startswith("btrfs file of 256 MiB, ")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    disk_id = with_work(volumes)
    reboot(folder)
    again = opened(folder)
    assert again.list_attached() == {}
    assert work_of(again, disk_id) == "precious"


def test_opening_twice_changes_nothing(folder: Path) -> None:
    disk_id = with_work(opened(folder))
    again = opened(folder)
    assert again.list_attached() == {disk_id: "r-1"}
    assert len([line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder} " in line]) == 1


def test_between_a_reboot_and_the_mount_no_disk_is_found_and_none_is_made(folder: Path) -> None:
    volumes = opened(folder)
    disk_id = with_work(volumes)
    reboot(folder)
    with pytest.raises(ProviderRefused, match="does not exist"):
        attached(volumes, disk_id, "r-1")
    with pytest.raises(ProviderError):
        taken(volumes, disk_id, "r-1")
    assert not any((folder / "volumes").glob("*")) if (folder / "volumes").exists() else True


def test_a_lost_file_is_never_replaced_by_an_empty_one(folder: Path) -> None:
    disk_id = with_work(opened(folder))
    reboot(folder)
    mislaid = file_of(folder).rename(folder.with_name("mislaid"))
    with pytest.raises(ProviderUnavailable, match="is it mounted"):
        opened(folder)
    assert not file_of(folder).exists()
    assert levels(folder)["disks"] == "fail"
    mislaid.rename(file_of(folder))
    assert work_of(opened(folder), disk_id) == "precious"


def test_the_file_grows_to_a_larger_setting_and_keeps_what_it_holds(folder: Path) -> None:
    disk_id = with_work(opened(folder))
    reboot(folder)
    grown = opened(folder, 2 * SIZE)
    assert file_of(folder).stat().st_size == 2 * SIZE
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == 2 * SIZE
    assert work_of(grown, disk_id) == "precious"
    reboot(folder)
    opened(folder, SIZE)
    assert file_of(folder).stat().st_size == 2 * SIZE


def test_a_file_that_was_half_made_is_made_anew(folder: Path) -> None:
    folder.mkdir(parents=True)
    file_of(folder).with_name(file_of(folder).name + ".new").write_bytes(b"half")
    assert opened(folder).describe().startswith("btrfs file")


def test_no_room_on_the_host_is_said_before_anything_is_made(folder: Path) -> None:
    folder.mkdir(parents=True)
    small = folder.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(small)], check=True)
    with pytest.raises(ProviderUnavailable, match="no space"):
        opened(small / "disks")
    assert not file_of(small / "disks").exists()


def write_until_it_stops(place: Path) -> None:
    for number in range(100):
        with suppress(OSError):
            for name in range(200):
                (place / f"more-{number}-{name}").write_bytes(os.urandom(1500))
        subprocess.run(["sync", "-f", str(place)], capture_output=True)
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return
    pytest.fail("the file system goes on although the host is full")


@contextmanager
def another_monitor() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps a copy of all mounts for itself, as the engine's monitor of another cloud's box does."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def kept_by(process: subprocess.Popen[bytes], folder: Path) -> list[str]:
    table = Path(f"/proc/{process.pid}/mountinfo").read_text()
    return [line.split()[4] for line in table.splitlines() if f" {folder}" in line]


@pytest.mark.parametrize("unmounted", [False, True])
def test_a_full_host_is_repaired_although_another_cloud_s_box_keeps_the_old_mount(
    folder: Path, unmounted: bool
) -> None:
    host = folder.parent
    host.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", str(host)], check=True)
    volumes = opened(folder, SIZE)
    disk_id = with_work(volumes)
    volumes.detach(disk_id, "r-1")
    taken(volumes, disk_id, "r-1")
    place = Path(attached(volumes, disk_id, "r-2"))
    with another_monitor() as monitor:
        with (host / "ballast").open("wb") as ballast, suppress(OSError):
            while True:
                ballast.write(b"x" * MIB)
                ballast.flush()
        write_until_it_stops(place)
        (host / "ballast").unlink()
        volumes.detach(disk_id, "r-2")
        assert kept_by(monitor, folder)
        if unmounted:
            volumes.close()
        again = opened(folder, SIZE)
        assert work_of(again, disk_id) == "precious"
        (Path(attached(again, disk_id, "r-2")) / "more").write_text("written")
        assert kept_by(monitor, folder) == []


def test_a_full_host_stops_writes_loses_nothing_and_is_repaired_by_opening_anew(folder: Path) -> None:
    host = folder.parent
    host.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", str(host)], check=True)
    volumes = opened(folder, SIZE)
    disk_id = with_work(volumes)
    volumes.detach(disk_id, "r-1")
    taken(volumes, disk_id, "r-1")
    with (host / "ballast").open("wb") as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * MIB)
            ballast.flush()
    assert levels(folder)["disks"] == "warn"
    place = Path(attached(volumes, disk_id, "r-2"))
    write_until_it_stops(place)
    assert levels(folder)["disks"] == "fail"
    assert opened(folder).list_attached() == {disk_id: "r-2"}, "opened, though a box keeps it from being repaired"
    volumes.detach(disk_id, "r-2")
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            taken(volumes, disk_id, "r-2")
    (host / "ballast").unlink()
    again = opened(folder, SIZE)
    assert snapshot_ids(again, disk_id) == ("r-1",)
    assert work_of(again, disk_id) == "precious"
    again.detach(disk_id, "r-2")
    taken(again, disk_id, "r-2")
    assert snapshot_ids(again, disk_id) == ("r-1", "r-2")
    assert levels(folder)["disks"] == "ok"


def test_a_folder_on_btrfs_is_used_as_it_is_and_never_unmounted(tmp_path: Path) -> None:
    with btrfs_mount(tmp_path / "own") as own:
        file_of(own).rename(tmp_path / "operators.image")
        for folder in (own, own / "below"):
            volumes = opened(folder)
            assert volumes.describe().startswith("btrfs, ")
            assert mounted_file(folder) is None
            with_work(volumes)
            volumes.close()
            assert os.path.ismount(own)
            assert volumes.list_attached() == {}


def test_an_operators_mount_that_is_missing_after_a_reboot_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "mnt"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], check=True)
    try:
        (folder / "volumes").mkdir()
        disk_id = with_work(opened(folder))
        subprocess.run(["mount", "--move", str(folder), str(_made(tmp_path / "away"))], check=True)
        with pytest.raises(ProviderUnavailable, match="is it mounted"):
            opened(folder)
        assert list(folder.iterdir()) == []
        subprocess.run(["mount", "--move", str(tmp_path / "away"), str(folder)], check=True)
        assert opened(folder).list_attached() == {disk_id: "r-1"}
    finally:
        unmount_all(tmp_path)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_plain_folders_that_hold_disks_are_never_covered_by_a_mount(folder: Path) -> None:
    (folder / "volumes").mkdir(parents=True)
    volumes = opened(folder)
    assert volumes.describe().startswith("folders with hard-linked copies, ")
    assert not os.path.ismount(folder)
    assert levels(folder)["disks"] == "warn"
    disk_id = with_work(volumes)
    assert work_of_same(opened(folder), disk_id) == "precious"


def work_of_same(volumes: LocalVolumes, disk_id: str) -> str:
    return (Path(attached(volumes, disk_id, "r-1")) / "work").read_text()


def test_closing_lets_go_of_the_file_and_keeps_it(folder: Path) -> None:
    volumes = opened(folder)
    disk_id = with_work(volumes)
    volumes.close()
    volumes.close()
    assert not os.path.ismount(folder)
    assert work_of(opened(folder), disk_id) == "precious"


def test_closing_waits_for_a_program_that_still_reads_the_storage(folder: Path) -> None:
    volumes = opened(folder)
    with subprocess.Popen(["sh", "-c", "echo reads; exec sleep 1"], cwd=folder, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"reads\n"
        volumes.close()
    assert not os.path.ismount(folder)


def test_a_folder_reached_by_a_link_is_the_same_folder(folder: Path, tmp_path: Path) -> None:
    disk_id = with_work(opened(folder))
    (tmp_path / "link").symlink_to(folder)
    assert opened(tmp_path / "link").list_attached() == {disk_id: "r-1"}


def test_the_operator_is_told_what_will_be_used(folder: Path) -> None:
    assert levels(folder)["disks"] == "warn"
    opened(folder)
    assert levels(folder)["disks"] == "ok"
    reboot(folder)
    assert levels(folder)["disks"] == "warn"


def test_what_is_promised_before_the_start_is_the_size_that_the_file_gets(folder: Path) -> None:
    wanted = 2**50
    (text,) = [line.text for line in examine_storage(folder, wanted) if "btrfs file" in line.text]
    promised = re.search(r"a btrfs file of ([0-9.]+) GiB will be used, not of 1048576 GiB", text)
    assert promised, text
    opened(folder, wanted)
    got = file_of(folder).stat().st_size / 2**30
    assert got < wanted / 2**30
    assert float(promised[1]) == pytest.approx(got, rel=0.05, abs=1)


def test_the_operator_is_told_of_what_no_quota_counts(folder: Path) -> None:
    volumes = opened(folder)
    disk_id = with_work(volumes)
    inside = folder / "volumes" / disk_id / "home" / "own"
    subprocess.run(["btrfs", "subvolume", "create", str(inside)], check=True, capture_output=True)
    (inside / "f").write_text("kept in the volume")
    volumes.detach(disk_id, "r-1")
    taken(volumes, disk_id, "r-1")
    assert [entry.path for entry in listed(volumes, BLOBS, disk_id, "r-1")] == ["own", "work"]
    assert (inside / "f").read_text() == "kept in the volume"
    assert any(disk_id in line.text and line.level == "warn" for line in examine_storage(folder, SIZE))


def test_a_folder_with_files_of_others_is_not_taken_for_disks(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "ada").mkdir()
    with pytest.raises(ProviderRefused, match="has other files, such as ada"):
        open_volumes(folder, SIZE, ID_BASE, BLOBS)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
