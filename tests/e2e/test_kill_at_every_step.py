"""kill -9 of the daemon right before each of its side effects in a whole life, on real containers and real disks."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

DAEMON = Path(__file__).with_name("dying_daemon.py")
MOST = 60
"""More side effects than a life has."""


@contextmanager
def dying_daemon(cloud: Cloud, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """The cloud's daemon, which dies before this side effect; afterwards the ordinary one."""
    cloud.odc("down")
    with (cloud.state / "odc.log").open("ab") as log:
        command = [str(cloud.bin / "python"), str(DAEMON), str(cloud.config), str(number)]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    eventually("it answers or is dead", lambda: cloud.is_ready() or daemon.poll() is not None)
    try:
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(60)
        cloud.odc("up")


def try_a_life(ada: Person, name: str, daemon: subprocess.Popen[bytes]) -> None:
    """Reserve, work, end; as far as it comes."""
    reserve = ("reserve", "-t", "h100", "-g", "2", "-h", "0.5", "-n", name, "--disk", name, "--no-wait", "--yes")
    if ada.gpu_dev(*reserve).code != 0:
        return

    def reached(*states: str) -> bool:
        done = ada.gpu_dev("show", name, "--json")
        return daemon.poll() is not None or any(f'"state": "{state}"' in done.out for state in states)

    eventually("active or dead", lambda: reached("active", "failed"))
    if daemon.poll() is None:
        ada.in_box(name, f"echo {name} > file")
        ada.gpu_dev("cancel", name, "--yes")
        eventually("cancelled or dead", lambda: reached("cancelled", "failed"))


def finish_the_life(ada: Person, cloud: Cloud, name: str) -> None:
    """With an ordinary daemon: whatever was asked for comes to its end, once and whole."""
    if ada.gpu_dev("show", name).code != 0:
        ada.ok("reserve", "-t", "h100", "-g", "2", "-h", "0.5", "-n", name, "--disk", name, "--wait", "--yes")
    view = eventually(
        "active or ended", lambda: (v := ada.view(name))["state"] in ("active", "cancelled", "failed") and v
    )
    assert view["state"] != "failed", view["reason"]
    if view["state"] == "active":
        assert len(cloud.boxes()) == 1
        assert len(view["boxes"][0]["gpus"]) == 2
        ada.in_box(name, f"echo {name} > file")
        ada.ok("cancel", name, "--yes")
    ended = eventually("its disk is safe", lambda: (v := ada.view(name))["snapshot"] and v)
    assert ended["snapshot"]["verified"]
    assert ended["state"] == "cancelled"
    eventually("nothing runs", lambda: not cloud.boxes() and not cloud.networks() and not cloud.mounts())


@pytest.mark.timeout(900)
def test_a_life_comes_to_the_same_end_wherever_the_daemon_is_killed(ada: Person, cloud: Cloud) -> None:
    for number in range(1, MOST):
        name = f"step-{number}"
        with dying_daemon(cloud, number) as daemon:
            try_a_life(ada, name, daemon)
        finish_the_life(ada, cloud, name)
        kept = [path.read_text() for path in (cloud.state / "disks/volumes").glob("*/home/file")]
        assert f"{name}\n" in kept
        if daemon.returncode != -signal.SIGKILL:
            break
    assert 12 < number < MOST - 1, cloud.log()[-3000:]
