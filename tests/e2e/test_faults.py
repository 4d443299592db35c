"""What dies, goes away or is done by hand: everything converges, nothing is lost, nothing is double."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.image import IMAGE
from tests.lane import lane_name
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

STRANGER = lane_name("odc-stranger")
MOMENTS_MS = (0, 40, 110, 200, 320)


@pytest.mark.parametrize("moment", MOMENTS_MS)
def test_kill_9_while_a_box_starts_gives_one_box(ada: Person, cloud: Cloud, moment: int) -> None:
    ada.ok("reserve", "-t", "h100", "-g", "2", "-h", "0.5", "-n", "k", "--disk", "killed", "--no-wait")
    time.sleep(moment / 1000)
    cloud.kill()
    cloud.odc("up")
    view = ada.until("k", "active")
    assert len(cloud.boxes()) == 1
    assert len(view["boxes"][0]["gpus"]) == 2
    assert ada.in_box("k", "cat .odc-disk > /dev/null && echo fine").out == "fine\n"


@pytest.mark.parametrize("moment", MOMENTS_MS)
def test_kill_9_while_a_reservation_ends_loses_no_file(ada: Person, cloud: Cloud, moment: int) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "k", "--disk", f"end{moment}", "--wait", "--yes")
    ada.in_box("k", "echo kept > file")
    ada.ok("cancel", "k", "--yes")
    time.sleep(moment / 1000)
    cloud.kill()
    cloud.odc("up")
    ended = ada.until("k", "cancelled")
    assert ended["snapshot"]["verified"]
    assert not cloud.boxes()
    assert not cloud.mounts()
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "again", "--disk", f"end{moment}", "--wait", "--yes")
    assert ada.in_box("again", "cat file").out == "kept\n"


def test_boxes_go_on_and_can_be_entered_while_the_daemon_is_down(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "on", "--disk", "none", "--wait")
    ada.ok("list")
    cloud.odc("down")
    listed = ada.gpu_dev("list")
    assert listed.code == 1
    assert "STALE" in listed.out
    assert "on" in listed.out
    assert f"odc --config {cloud.config} up" in listed.err
    told = ada.gpu_dev("connect", "on", "--", "echo alive")
    assert (told.code, told.out) == (0, "alive\n")
    assert "does not answer" in told.err
    cloud.odc("up")
    assert ada.view("on")["state"] == "active"


def has_new_engine(cloud: Cloud, old: int) -> bool:
    return cloud.engine_pid() not in (0, old)


def test_the_engine_goes_away_and_comes_back_and_nothing_ends(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "calm", "--disk", "none", "--wait")
    before = cloud.boxes()[0]["Id"]
    for _ in range(2):
        old = cloud.engine_pid()
        os.kill(old, signal.SIGKILL)
        eventually("the engine is back", functools.partial(has_new_engine, cloud, old))
        assert ada.view("calm")["state"] == "active"
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "after", "--disk", "none", "--wait")
    assert before in [box["Id"] for box in cloud.boxes()]
    assert ada.view("calm")["state"] == "active"


def test_a_box_that_was_removed_by_hand_fails_with_the_reason_and_keeps_its_disk(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "hand", "--disk", "handy", "--wait")
    ada.in_box("hand", "echo safe > file")
    remove = ["podman", "rm", "-f", "-t", "0", str(cloud.boxes()[0]["Id"])]
    # The engine's own clean-up of a box that has just ended may hold its mounts for a moment.
    eventually("it is removed", lambda: subprocess.run(remove, capture_output=True).returncode == 0)
    failed = ada.until("hand", "failed")
    assert "removed by someone other than ODC" in failed["reason"]
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "hand2", "--disk", "handy", "--wait")
    assert ada.in_box("hand2", "cat file").out == "safe\n"


def test_a_stopped_box_that_podman_prune_removed_fails_with_the_reason_and_keeps_its_disk(
    ada: Person, cloud: Cloud
) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "pruned", "--disk", "pruned", "--wait")
    ada.in_box("pruned", "echo safe > file && sync")
    cloud.kill()  # or it would start the box again before the prune
    box = str(cloud.boxes()[0]["Id"])
    subprocess.run(["podman", "kill", box], check=True, capture_output=True)
    prune = ["podman", "container", "prune", "--force", "--filter", f"label=odc.cloud={cloud.name}"]
    eventually("it is pruned", lambda: box in subprocess.run(prune, capture_output=True, text=True).stdout)
    cloud.odc("up")
    failed = ada.until("pruned", "failed")
    assert "removed by someone other than ODC" in failed["reason"]
    assert failed["snapshot"]["verified"]
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "pruned2", "--disk", "pruned", "--wait")
    assert ada.in_box("pruned2", "cat file").out == "safe\n"


def test_a_box_that_stopped_is_started_again_with_its_home(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "stop", "--disk", "stopped", "--wait")
    ada.in_box("stop", "echo here > file")
    box = cloud.boxes()[0]
    subprocess.run(["podman", "kill", str(box["Id"])], check=True, capture_output=True)
    eventually("it runs again", lambda: cloud.boxes()[0]["State"] == "running")
    eventually("ssh answers", lambda: ada.in_box("stop", "cat file").out == "here\n")
    assert cloud.boxes()[0]["Id"] == box["Id"]


def test_a_box_that_died_after_its_monitor_fails_with_the_reason_and_keeps_its_disk(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "deaf", "--disk", "deaf", "--wait")
    ada.in_box("deaf", "echo safe > file && sync")
    shown = ["podman", "inspect", "--format", "{{.State.ConmonPid}} {{.State.Pid}}", str(cloud.boxes()[0]["Id"])]
    for pid in subprocess.run(shown, check=True, capture_output=True, text=True).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    failed = ada.until("deaf", "failed")
    assert "its box stopped and cannot start again" in failed["reason"]
    assert failed["snapshot"]["verified"]
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "heard", "--disk", "deaf", "--wait")
    assert ada.in_box("heard", "cat file").out == "safe\n"


def test_a_box_never_starts_on_a_home_that_is_not_its_disk(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "boot", "--disk", "booted", "--wait")
    ada.in_box("boot", "echo precious > file")
    # As after a boot at which the disks were not mounted: the box is down and its mount is gone.
    box = str(cloud.boxes()[0]["Id"])
    cloud.kill()
    subprocess.run(["podman", "kill", box], check=True, capture_output=True)
    mount = cloud.mounts()[0].split()[4]
    eventually("unmounted", lambda: subprocess.run(["umount", mount], capture_output=True).returncode == 0)
    cloud.odc("up")
    eventually("it is back with its home", lambda: ada.in_box("boot", "cat file").out == "precious\n")


def test_a_stranger_s_container_is_never_touched(ada: Person, cloud: Cloud) -> None:
    subprocess.run(["podman", "create", "--name", STRANGER, IMAGE, "true"], check=True)
    try:
        ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "own", "--disk", "none", "--wait")
        ada.ok("cancel", "own", "--yes")
        ada.until("own", "cancelled")
        subprocess.run(["podman", "container", "exists", STRANGER], check=True)
    finally:
        subprocess.run(["podman", "rm", "-f", STRANGER], capture_output=True)
