"""Backups, what they do not know, and the clock, with the installed `odc`. Rows 16 and 26 of what ODC must survive."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import left_of, reserve
from tests.waiting import eventually

from odc.adapters.sql.state_store import SqlStateStore
from odc.adapters.system.clock import SystemClock
from odc.control.clock_check import anchor_now
from odc.domain.records import Change

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


@pytest.fixture
def stray(spare: Cloud, dora: Person, tmp_path: Path) -> str:
    """The name of a box with two GPUs and a disk that no record knows: the backup is older than it."""
    reserve(dora, "before", disk="proj")
    dora.ok("cancel", "before", "--yes")
    dora.until("before", "cancelled")
    spare.odc("backup", str(tmp_path / "records.db"))
    reserve(dora, "after", disk="proj", gpus=2)
    spare.odc("down")
    spare.odc("restore", str(tmp_path / "records.db"))
    spare.odc("up")
    return str(spare.boxes()[0]["Names"][0])


def test_a_backup_is_made_while_the_cloud_is_used_and_replaces_nothing(
    spare: Cloud, dora: Person, tmp_path: Path
) -> None:
    reserve(dora, "used")
    target = tmp_path / "records.db"
    assert f"All records are in {target}." in spare.odc("backup", str(target)).out
    assert target.stat().st_mode & 0o777 == 0o600
    whole = target.read_bytes()
    again = spare.odc("backup", str(target), check=False)
    assert again.code == 1
    assert f"error: {target} exists; a backup never replaces a file" in again.err
    assert target.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [target]
    assert dora.in_box("used", "cat file").out == "used\n"


def test_records_are_restored_from_a_backup_without_a_daemon_and_those_of_now_are_kept(
    spare: Cloud, dora: Person, tmp_path: Path
) -> None:
    older = tmp_path / "records.db"
    spare.odc("backup", str(older))
    reserve(dora, "newest")
    refused = spare.odc("restore", str(older), check=False)
    assert refused.code == 1
    assert re.search(r"error: process \d+ serves .* already\n +stop it +odc .*down", refused.err)
    spare.odc("down")
    noise, empty = tmp_path / "noise", tmp_path / "empty"
    noise.write_text("no records\n" * 1000)
    empty.touch()
    for file in (noise, empty):
        refused = spare.odc("restore", str(file), check=False)
        assert refused.code == 1
        assert f"{file} is not an ODC backup" in refused.err
    assert spare.odc("restore", str(tmp_path / "gone"), check=False).code == 2
    kept = re.search(r"The ones before are kept. Undo: odc .*restore (\S+)\n", spare.odc("restore", str(older)).out)
    assert kept is not None
    spare.odc("restore", kept[1])
    spare.odc("up")
    assert dora.view("newest")["state"] == "active"
    assert dora.in_box("newest", "cat file").out == "newest\n"


def test_a_box_that_the_restored_records_do_not_know_goes_on_counts_and_is_shown(
    spare: Cloud, dora: Person, stray: str
) -> None:
    short = stray.removeprefix(f"odc-{spare.name}-")
    said = dora.ok("status")
    named = short[:8] + short[32:]
    assert f"warning: box {named} is quarantined: no record knows it, and holds 2 t4 of t4-node-1; " in said
    assert f"sudo podman rm -f {stray}\n" in said
    assert re.search(r"^t4 +2/4 +now +now +- +- ", dora.ok("avail"), re.MULTILINE)
    assert short[:8] not in dora.ok("list", "--all")
    reserve(dora, "other", gpus=2)
    assert dora.view("other")["boxes"][0]["gpu_indexes"] == [2, 3]
    assert re.search(r"^t4 +0/4 ", dora.ok("avail"), re.MULTILINE)
    assert {str(box["Names"][0]): box["State"] for box in spare.boxes()}[stray] == "running"
    told = spare.odc("down", "--all", "--yes").out
    assert f"ending box {short}, which no record knows; its disk stays as it is" in told
    assert left_of(spare) == []
    spare.odc("up")
    files = [path.read_text() for path in (spare.state / "disks/volumes").glob("*/home/file")]
    assert "after\n" in files


def test_once_the_operator_has_removed_such_a_box_its_disk_can_be_used_again(
    spare: Cloud, dora: Person, stray: str
) -> None:
    wish = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "next", "--disk", "proj", "--no-wait")
    refused = dora.gpu_dev(*wish)
    assert refused.code == 2
    assert "disk proj is in use by a box that has no record" in refused.err
    assert f"sudo podman rm -f {stray}" in refused.err
    remove = ["podman", "rm", "-f", "-t", "0", stray]
    # The engine's own clean-up of a box that has just ended may hold its mounts for a moment.
    eventually("it is removed", lambda: subprocess.run(remove, capture_output=True).returncode == 0)
    eventually("it is seen", lambda: "quarantined" not in dora.ok("status"))
    dora.ok(*wish)
    dora.until("next", "active")
    assert dora.in_box("next", "cat file").out == "after\n"
    assert "quarantined" not in dora.ok("status")
    # Its network and files have no record and no box any more.
    spare.odc("down", "--all", "--yes")
    assert left_of(spare) == []
    spare.odc("up")


def test_a_clock_jump_while_the_daemon_was_down_ends_nothing_until_an_operator_accepts_it(
    spare: Cloud, dora: Person, olga: Person
) -> None:
    late = reserve(dora, "late")
    spare.odc("down")
    clock = SystemClock()
    now = anchor_now(clock)
    store = SqlStateStore(f"sqlite:///{spare.state / 'odc.db'}")
    record = store.find_reservation(late)
    assert record is not None
    store.swap_clock_anchor(replace(now, wall=now.wall - timedelta(hours=2)))
    store.commit(Change(reservations=(replace(record, expires_at=clock.now() - timedelta(minutes=1)),)))
    store.close()
    warning = "warning: the clock jumped forward by 2:00:00; no reservation ends by time; if the clock is right now"
    assert f"{warning}: odc --config {spare.config} clock accept\n" in spare.odc("up").out
    assert f"{warning}: odc --config {spare.config} clock accept\n" in dora.ok("status")
    refused = dora.run("odc", "--config", str(spare.config), "clock", "accept")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"error: {dora.name} may not operate the cloud; only an operator may\n"
    # A pass runs at once for every request: the refused one's, and this one's.
    reserve(dora, "meanwhile")
    assert dora.view("late")["state"] == "active"
    accept = ("odc", "--config", str(spare.config), "clock", "accept")
    unsure = olga.run(*accept)
    assert (unsure.code, unsure.out) == (2, "")
    assert f"this ends 1 reservation: late of {dora.name}; confirm it with --yes" in unsure.err
    assert dora.view("late")["state"] == "active"
    accepted = olga.run(*accept, "--yes")
    assert (accepted.code, accepted.out) == (0, "the clock is accepted; reservations end by it\n")
    dora.until("late", "expired")
    assert dora.view("meanwhile")["state"] == "active"
    assert "clock" not in dora.ok("status")


def test_disks_made_after_the_backup_are_named_kept_and_taken_back(spare: Cloud, dora: Person, tmp_path: Path) -> None:
    spare.odc("backup", str(tmp_path / "records.db"))
    reserve(dora, "work", disk="late")
    dora.ok("cancel", "work", "--yes")
    dora.until("work", "cancelled")
    spare.odc("down")
    said = spare.odc("restore", str(tmp_path / "records.db")).out
    assert f"disk late of {dora.name} has files but no record" in said
    spare.odc("up")
    dora.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    wish = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "back", "--disk", "late", "--yes")
    refused = dora.gpu_dev(*wish)
    assert refused.code == 2
    assert "disk late has files but no record any more, so no new one is made in its place" in refused.err
    found = re.search(r"sudo odc (?:--config \S+ )?disk recover ([0-9a-f]{8})", refused.err)
    assert found, refused.err
    eventually("status names it", lambda: f"disk recover {found[1]}" in dora.ok("status"))
    assert "disk late" in spare.odc("doctor", check=False).out
    assert "taken back: late" in spare.odc("disk", "recover", found[1]).out
    dora.ok(*wish, "--wait")
    assert dora.in_box("back", "cat file").out == "work\n"
    eventually("status is quiet", lambda: "disk recover" not in dora.ok("status"))
    dora.ok("cancel", "back", "--yes")
    dora.until("back", "cancelled")
