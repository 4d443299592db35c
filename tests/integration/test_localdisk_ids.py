"""Homes that boxes see in ranges of ids of their own: owners on disk, hostile files, and crashes between the steps."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
from pathlib import Path

import pytest
from tests.killed_steps import killed_before_step
from tests.storage import DEV, ID_BASE, LocalStorage, attached, taken

from odc.adapters.localdisk.idmapped import has_idmapped_mounts, mount_idmapped
from odc.adapters.localdisk.mounts import Mount, read_mounts

pytestmark = [pytest.mark.btrfs]
ONE, TWO = ID_BASE + 65536, ID_BASE + 2 * 65536


def as_user(uid: int, script: str, place: Path) -> subprocess.CompletedProcess[str]:
    """A shell with this uid in the folder, entered by root: its parents are closed to others."""
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", script]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in [folder, *folder.iterdir()]}


def test_a_file_has_the_same_owner_on_disk_whichever_range_its_box_has(storage: LocalStorage, disk: str) -> None:
    home = storage.home(disk)
    storage.write(disk, "of-an-earlier-version", 3)
    for holder, base, name in (("r-1", ONE, "first"), ("s-1", TWO, "second")):
        place = Path(attached(storage.volumes, disk, holder, base))
        done = as_user(base + 1000, f"echo {name} > {name} && echo more >> of-an-earlier-version && cat *", place)
        assert (done.returncode, name in done.stdout) == (0, True), done.stderr
        assert set(owners(place).values()) == {(base + 1000, base + 1000), (base, base)}
        storage.volumes.detach(disk, holder)
    kept = dict.fromkeys((home.name, "of-an-earlier-version", "first", "second"), (DEV, DEV))
    assert owners(home) == kept | {".odc-disk": (ID_BASE, ID_BASE)}
    snapshot = taken(storage.volumes, disk, "s-1")
    assert owners(storage.root / "snapshots" / disk / snapshot.id)["second"] == (DEV, DEV)


def test_ids_of_another_range_can_neither_read_nor_write(storage: LocalStorage, disk: str) -> None:
    place = Path(attached(storage.volumes, disk, "r-1", ONE))
    assert as_user(ONE + 1000, "umask 077; echo mine > mine", place).returncode == 0
    for uid in (DEV, TWO + 1000, ONE + 65536):
        assert as_user(uid, "cat mine", place).returncode != 0
        assert as_user(uid, "echo x > other", place).returncode != 0
    # Root of the host has no owner there: what it makes by mistake cannot belong to a box.
    with pytest.raises(OSError, match="too large"):
        (place / "of-the-host").write_text("x")


def test_nothing_planted_in_a_mapped_home_is_worth_anything_on_the_host(storage: LocalStorage, disk: str) -> None:
    place = Path(attached(storage.volumes, disk, "r-1", ONE))
    os.mknod(storage.home(disk) / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(PermissionError):
        (place / "null").write_bytes(b"x")
    options = next(mount.options for mount in read_mounts() if mount.target == place)
    assert options >= {"nosuid", "nodev", "idmapped"}
    assert os.statvfs(place).f_flag & os.ST_NOSUID


def test_a_mapped_attach_that_was_killed_at_any_step_is_finished_by_the_next(storage: LocalStorage, disk: str) -> None:
    storage.write(disk, "work", 5)
    step, killed = 0, True
    while killed:
        holder = f"r-{step}"
        killed = killed_before_step(step, functools.partial(attached, storage.volumes, disk, holder, ONE))
        place = Path(attached(storage.volumes, disk, holder, TWO))
        (mount,) = [mount for mount in read_mounts() if mount.target == place]
        assert mount.options >= {"nosuid", "nodev", "idmapped"}
        assert owners(place)["work"] == (TWO + 1000, TWO + 1000)
        killed = killed_before_step(step, functools.partial(attached, storage.volumes, disk, holder, ONE)) or killed
        place = Path(attached(storage.volumes, disk, holder, ONE))
        assert owners(place)["work"] == (ONE + 1000, ONE + 1000)
        storage.volumes.detach(disk, holder)
        assert storage.volumes.list_attached() == {}
        step += 1
    assert step > 4
    assert storage.files(disk) == {"work": 5}


@pytest.mark.parametrize("wrong", ["plain", "of another range", "of another first id"])
def test_a_mount_that_shows_other_owners_is_never_given(storage: LocalStorage, disk: str, wrong: str) -> None:
    place = storage.root / "mounts" / "r-1"
    place.mkdir()
    if wrong == "plain":
        subprocess.run(["mount", "--bind", str(storage.home(disk)), str(place)], check=True)
    elif wrong == "of another range":
        mount_idmapped(storage.home(disk), place, ID_BASE, TWO)
    else:
        mount_idmapped(storage.home(disk), place, ID_BASE + 1, ONE)
    assert Path(attached(storage.volumes, disk, "r-1", ONE)) == place
    assert owners(place)[place.name] == (ONE + 1000, ONE + 1000)
    assert owners(place)[".odc-disk"] == (ONE, ONE)
    assert len([mount for mount in read_mounts() if mount.target == place]) == 1


def test_a_home_whose_box_changed_its_owner_is_still_given_to_it(storage: LocalStorage, disk: str) -> None:
    place = Path(attached(storage.volumes, disk, "r-1", ONE))
    with subprocess.Popen(["sleep", "60"], cwd=place) as user:
        try:
            for owner in (0, 65535):
                os.chown(place, ONE + owner, ONE + owner)
                assert Path(attached(storage.volumes, disk, "r-1", ONE)) == place
        finally:
            user.kill()


def test_whether_a_file_system_has_mapped_mounts_is_tried(storage: LocalStorage) -> None:
    def ours() -> list[Mount]:
        """The mounts at and below the storage; tests next to this one mount elsewhere."""
        return [mount for mount in read_mounts() if mount.target.is_relative_to(storage.root)]

    before = ours()
    assert has_idmapped_mounts(storage.root)
    assert not has_idmapped_mounts(Path("/proc"))
    assert not has_idmapped_mounts(storage.root / "absent")
    assert ours() == before
