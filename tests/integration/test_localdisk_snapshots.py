"""Snapshots on real storage: deleted at any step, counted exactly, and freed when the storage is full."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.builders import an_id
from tests.killed_steps import killed_before_step
from tests.storage import (
    ID_BASE,
    MIB,
    LocalStorage,
    btrfs_mount,
    btrfs_storage,
    folders_storage,
    made,
    snapshot_ids,
    taken,
)
from tests.waiting import eventually

from odc.adapters.localdisk import quota_groups
from odc.domain.errors import ProviderError
from odc.domain.storage import DiskUse, StorageUse
from odc.ports.volumes import Source

pytestmark = [pytest.mark.btrfs]


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[LocalStorage]:
    with btrfs_mount(tmp_path / "disks", 400 * MIB) as folder, btrfs_storage(folder / "cloud") as found:
        yield found


@pytest.fixture(params=["folders", "btrfs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalStorage]:
    if request.param == "btrfs":
        yield request.getfixturevalue("btrfs")
    else:
        with folders_storage(tmp_path / "disks") as found:
            yield found


def a_full_disk(storage: LocalStorage, size: int = 64 * MIB) -> str:
    disk_id = an_id()
    made(storage.volumes, disk_id, size)
    return disk_id


def rewrite(storage: LocalStorage, disk_id: str, size: int) -> None:
    """Other bytes in the same file: nothing of it is shared with any snapshot."""
    (storage.home(disk_id) / "data").write_bytes(os.urandom(size))


def settled(storage: LocalStorage) -> StorageUse:
    """What the storage counts once it has freed what was deleted."""
    for _ in range(600):
        subprocess.run(["btrfs", "filesystem", "sync", str(storage.root)], check=True)
        use = storage.volumes.measure()
        counted = [disk for disk in use.disks.values() if disk.live_bytes is not None]
        if not use.settling and counted and len(counted) == len(use.disks):
            return use
        time.sleep(0.1)
    raise AssertionError("the storage does not settle")


def test_a_deletion_that_was_killed_at_any_step_is_finished_by_the_next(storage: LocalStorage) -> None:
    disk = a_full_disk(storage)
    step, killed = 0, True
    taken(storage.volumes, disk, "r-0")
    while killed:
        storage.write(disk, f"f{step}", 3)
        old, new = f"r-{step}", f"r-{step + 1}"
        taken(storage.volumes, disk, new)
        killed = killed_before_step(step, functools.partial(storage.volumes.delete_snapshot, disk, old))
        storage.volumes.delete_snapshot(disk, old)
        assert snapshot_ids(storage.volumes, disk) == (new,)
        left = {path.name for path in (storage.root / "snapshots" / disk).iterdir()}
        assert left == {new, f".{new}.facts"}
        step += 1
    assert step > 2


def test_a_snapshot_that_was_half_deleted_is_never_listed(storage: LocalStorage) -> None:
    disk = a_full_disk(storage)
    taken(storage.volumes, disk, "r-1")
    taken(storage.volumes, disk, "r-2")
    for step in range(20):
        killed_before_step(step, lambda: storage.volumes.delete_snapshot(disk, "r-1"))
        if "r-1" in snapshot_ids(storage.volumes, disk):
            assert (storage.root / "snapshots" / disk / "r-1" / ".odc-disk").read_text().strip() == disk
    assert snapshot_ids(storage.volumes, disk) == ("r-2",)


def test_what_only_snapshots_share_counts_for_the_disk(btrfs: LocalStorage) -> None:
    disk, idle = a_full_disk(btrfs), a_full_disk(btrfs)
    for number in (1, 2, 3):
        rewrite(btrfs, disk, 20 * MIB)
        # Twice the same: neither of the two would free anything alone.
        taken(btrfs.volumes, disk, f"r-{number}a")
        taken(btrfs.volumes, disk, f"r-{number}b")
    use = settled(btrfs).disks
    assert _mib(use[disk].live_bytes) == 20
    assert _mib(use[disk].total_bytes) == 60
    assert _mib(use[disk].history_bytes) == 40
    assert max(map(_mib, use[disk].snapshots.values())) == 0
    assert _mib(use[idle].total_bytes) == 0


def test_a_deleted_snapshot_frees_what_it_alone_held(btrfs: LocalStorage) -> None:
    disk = a_full_disk(btrfs)
    for number in (1, 2, 3):
        rewrite(btrfs, disk, 20 * MIB)
        taken(btrfs.volumes, disk, f"r-{number}")
    before = settled(btrfs)
    assert {key: _mib(value) for key, value in before.disks[disk].snapshots.items()} == {"r-1": 20, "r-2": 20, "r-3": 0}
    btrfs.volumes.delete_snapshot(disk, "r-1")
    after = settled(btrfs)
    assert _mib(after.disks[disk].total_bytes) == 40
    assert after.free_bytes - before.free_bytes > 15 * MIB


def test_the_host_gets_back_what_a_deleted_snapshot_held(btrfs: LocalStorage) -> None:
    disk = a_full_disk(btrfs, 200 * MIB)
    rewrite(btrfs, disk, 100 * MIB)
    taken(btrfs.volumes, disk, "r-1")
    (btrfs.home(disk) / "data").unlink()
    taken(btrfs.volumes, disk, "r-2")
    settled(btrfs)
    file = btrfs.root.parent.with_name("disks.btrfs")
    before = file.stat().st_blocks * 512
    btrfs.volumes.delete_snapshot(disk, "r-1")
    settled(btrfs)
    subprocess.run(["fstrim", str(btrfs.root.parent)], check=True)
    assert before - file.stat().st_blocks * 512 > 80 * MIB


def test_snapshots_can_be_deleted_when_not_a_byte_is_free(btrfs: LocalStorage) -> None:
    disk, other = a_full_disk(btrfs, 400 * MIB), a_full_disk(btrfs, 400 * MIB)
    rewrite(btrfs, disk, 100 * MIB)
    taken(btrfs.volumes, disk, "r-1")
    rewrite(btrfs, disk, 20 * MIB)
    taken(btrfs.volumes, disk, "r-2")
    with (btrfs.home(other) / "filler").open("wb") as file:
        for step in (MIB, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        rewrite(btrfs, disk, 20 * MIB)
    btrfs.volumes.delete_snapshot(disk, "r-1")
    assert settled(btrfs).free_bytes > 50 * MIB
    rewrite(btrfs, disk, 20 * MIB)


def test_disks_that_were_made_before_groups_were_used_are_counted(btrfs: LocalStorage) -> None:
    disk = a_full_disk(btrfs)
    home = btrfs.home(disk)
    group = f"1/{_root_id(home)}"
    for command in (["remove", f"0/{_root_id(home)}", group], ["destroy", group]):
        subprocess.run(["btrfs", "qgroup", *command, str(home)], check=True, capture_output=True)
    rewrite(btrfs, disk, 20 * MIB)
    taken(btrfs.volumes, disk, "r-1")
    rewrite(btrfs, disk, 20 * MIB)
    taken(btrfs.volumes, disk, "r-2")
    assert btrfs.volumes.measure().disks == {}
    assert _mib(settled(btrfs).disks[disk].total_bytes) == 40


def test_a_folder_that_a_user_names_like_a_disk_changes_no_numbers(btrfs: LocalStorage) -> None:
    disk = a_full_disk(btrfs)
    rewrite(btrfs, disk, 10 * MIB)
    odd = btrfs.home(disk) / f"x\nID 5 gen 1 top level 5 path cloud\nvolumes\n{an_id()}"
    subprocess.run(["btrfs", "subvolume", "create", str(odd)], check=True, capture_output=True)
    use = settled(btrfs).disks
    assert set(use) == {disk}
    assert _mib(use[disk].live_bytes) == 10


def test_plain_folders_say_how_full_they_are_and_not_by_whom(tmp_path: Path) -> None:
    with folders_storage(tmp_path / "disks") as storage:
        disk = a_full_disk(storage)
        use = storage.volumes.measure()
        assert use.total_bytes > use.free_bytes > 0
        assert use.disks.get(disk, DiskUse()).total_bytes is None


def _mib(count: int | None) -> int:
    assert count is not None
    return round(count / MIB)


def _root_id(home: Path) -> str:
    done = subprocess.run(
        ["btrfs", "inspect-internal", "rootid", str(home)], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def test_quotas_that_somebody_turned_off_hold_again(btrfs: LocalStorage) -> None:
    disk = a_full_disk(btrfs, 30 * MIB)
    rewrite(btrfs, disk, 10 * MIB)
    taken(btrfs.volumes, disk, "r-1")
    subprocess.run(["btrfs", "quota", "disable", str(btrfs.root)], check=True)
    use = settled(btrfs).disks[disk]
    assert use.limit_bytes == 0
    btrfs.volumes.set_limit(disk, 30 * MIB)
    use = settled(btrfs).disks[disk]
    assert (use.limit_bytes, _mib(use.live_bytes), _mib(use.total_bytes)) == (30 * MIB, 10, 10)
    with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
        rewrite(btrfs, disk, 60 * MIB)


def lose_count(storage: LocalStorage, disk_id: str, number: int) -> Path:
    """Let btrfs give up counting, as it does after the deletion of a very large snapshot; the file that says so."""
    kept = next(Path("/sys/fs/btrfs").glob(f"{quota_groups._uuid(storage.home(disk_id))}/qgroups"))
    (kept / "drop_subtree_threshold").write_text("1")
    for name in (f"r{number}-1", f"r{number}-2"):
        storage.write(disk_id, "changed", 1)
        taken(storage.volumes, disk_id, name)
    storage.write(disk_id, "changed", 1)
    storage.volumes.delete_snapshot(disk_id, f"r{number}-1")
    subprocess.run(["btrfs", "subvolume", "sync", storage.home(disk_id)], check=True, capture_output=True)
    eventually("the count is lost", lambda: (kept / "inconsistent").read_text().strip() == "1")
    return kept / "inconsistent"


def test_a_count_that_btrfs_gave_up_is_made_again_within_minutes(
    btrfs: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_id, passed = an_id(), [0.0]
    made(btrfs.volumes, disk_id, 32 * MIB)
    for number in range(6000):
        (btrfs.home(disk_id) / f"f{number}").write_bytes(bytes(1500))
    monkeypatch.setattr(quota_groups, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))

    def is_counted() -> bool:
        for _ in range(100):
            if btrfs.volumes.measure().disks:
                return True
            time.sleep(0.02)
        passed[0] += 120.0
        return False

    for number in (1, 2, 3):
        lost = lose_count(btrfs, disk_id, number)
        assert any(is_counted() for _ in range(5)), "within ten minutes"
        assert lost.read_text().strip() == "0"


def test_limits_hold_after_a_very_large_snapshot_is_deleted(tmp_path: Path) -> None:
    with btrfs_mount(tmp_path / "disks", 400 * MIB) as folder:
        subprocess.run(["btrfs", "quota", "enable", str(folder)], check=True)
        kept = Path("/sys/fs/btrfs", quota_groups._uuid(folder), "qgroups")
        # As if even small snapshots were very large.
        (kept / "drop_subtree_threshold").write_text("1")
        with btrfs_storage(folder / "cloud") as storage:
            disk_id = an_id()
            made(storage.volumes, disk_id, 43 * MIB)
            for number in range(12000):
                (storage.home(disk_id) / f"f{number}").write_bytes(bytes(1500))
            for name in ("r-1", "r-2"):
                storage.write(disk_id, "changed", 1)
                taken(storage.volumes, disk_id, name)
            storage.write(disk_id, "changed", 1)
            storage.volumes.delete_snapshot(disk_id, "r-1")
            subprocess.run(["btrfs", "subvolume", "sync", folder], check=True, capture_output=True)
            subprocess.run(["btrfs", "filesystem", "sync", folder], check=True, capture_output=True)
            assert (kept / "inconsistent").read_text().strip() == "0"
            with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
                storage.write(disk_id, "too-much", 64 * MIB)


def test_a_restored_disk_shares_its_data_is_counted_and_has_its_limit_at_once(btrfs: LocalStorage) -> None:
    disk, restored = a_full_disk(btrfs), an_id()
    rewrite(btrfs, disk, 20 * MIB)
    os.chown(btrfs.home(disk) / "data", ID_BASE + 7, ID_BASE + 8)
    (btrfs.home(disk) / "again").hardlink_to(btrfs.home(disk) / "data")
    os.setxattr(btrfs.home(disk) / "data", "user.note", b"kept")
    taken(btrfs.volumes, disk, "r-1")
    free = settled(btrfs).free_bytes
    source = Source(disk_id=disk, snapshot_id="r-1")
    with pytest.raises(ProviderError, match="full"):
        made(btrfs.volumes, restored, 8 * MIB, source)
    made(btrfs.volumes, restored, 32 * MIB, source)
    copy = btrfs.home(restored) / "data"
    assert (copy.stat().st_uid, copy.stat().st_gid, copy.stat().st_nlink) == (ID_BASE + 7, ID_BASE + 8, 2)
    assert copy.read_bytes() == (btrfs.home(disk) / "data").read_bytes()
    assert os.getxattr(copy, "user.note") == b"kept"
    with pytest.raises(OSError, match="quota"):
        (btrfs.home(restored) / "more").write_bytes(os.urandom(16 * MIB))
    (btrfs.home(restored) / "more").unlink()
    use = settled(btrfs)
    assert use.disks[restored].limit_bytes == 32 * MIB
    live = use.disks[restored].live_bytes
    assert live is not None
    assert 20 * MIB <= live < 24 * MIB
    assert free - use.free_bytes < 10 * MIB
