"""kill -9 of the daemon right before each of its side effects in a whole life, on real containers and real disks."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.waiting import eventually

from odc.api.client import Client
from odc.domain.errors import OdcError

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

PROGRAM = Path(__file__).with_name("dying_daemon.py")
MOST = 60
"""More side effects than a life has."""
ENDS = ("cancelled", "failed")


class DyingDaemon:
    """The cloud's daemon, which dies before a side effect if it is told to, and is then started again."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._fuse = cloud.folder / "fuse"
        self._client = Client(str(cloud.socket), timeout_s=5)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready or dead."""
        with (self._cloud.state / "odc.log").open("ab") as log:
            command = [str(self._cloud.bin / "python"), str(PROGRAM), str(self._cloud.config), str(self._fuse)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually("it is ready or dead", lambda: self.is_dead() or self._cloud.is_ready())

    def die_before(self, number: int) -> None:
        """Let it die before this side effect, counted from now."""
        self._fuse.write_text(str(number))

    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self._process is not None and self._process.poll() is not None

    def has_died(self) -> bool:
        """Whether it was killed. From now on it is not any more."""
        with self._fuse.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lives = self._fuse.exists()
            self._fuse.unlink(missing_ok=True)
        if not lives:
            assert self._process is not None
            assert self._process.wait(60) == -signal.SIGKILL
        return not lives

    def stop(self) -> None:
        """End it in order."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def state_of(self, key: str) -> str:
        """The reservation's state; empty if the daemon does not answer."""
        try:
            return str(self._client.reservation(key).state)
        except OdcError:
            return ""

    def close(self) -> None:
        """Leave nothing of it."""
        self._fuse.unlink(missing_ok=True)
        self.stop()
        self._client.close()


@pytest.fixture
def daemon(cloud: Cloud) -> Iterator[DyingDaemon]:
    """In the place of the ordinary daemon, which comes back afterwards."""
    cloud.odc("down")
    made = DyingDaemon(cloud)
    made.start()
    try:
        yield made
    finally:
        made.close()
        cloud.odc("up")


def reserve(ada: Person, name: str) -> bool:
    """Ask for a box; whether that was answered."""
    words = ("reserve", "-t", "h100", "-g", "2", "-h", "0.5", "-n", name, "--disk", name, "--no-wait", "--yes")
    return ada.gpu_dev(*words).code == 0


def try_a_life(ada: Person, name: str, daemon: DyingDaemon) -> None:
    """Reserve, work, end; as far as it comes."""
    if not reserve(ada, name):
        return
    shown = ada.gpu_dev("show", name, "--json")
    if shown.code != 0:
        return
    key = json.loads(shown.out)["id"]
    eventually("active or dead", lambda: daemon.is_dead() or daemon.state_of(key) in ("active", "failed"))
    if not daemon.is_dead():
        ada.in_box(name, f"echo {name} > file")
        ada.gpu_dev("cancel", name, "--yes")
        eventually("ended or dead", lambda: daemon.is_dead() or daemon.state_of(key) in ENDS)


def finish_the_life(ada: Person, cloud: Cloud, name: str, daemon: DyingDaemon) -> None:
    """With a daemon that does not die: whatever was asked for comes to its end, once and whole."""
    if ada.gpu_dev("show", name).code != 0:
        assert reserve(ada, name)
    key = ada.view(name)["id"]
    state = eventually("active or ended", lambda: (s := daemon.state_of(key)) in ("active", *ENDS) and s)
    view = ada.view(key)
    assert state != "failed", view["reason"]
    if state == "active":
        assert len(cloud.boxes()) == 1
        assert len(view["boxes"][0]["gpus"]) == 2
        ada.in_box(name, f"echo {name} > file")
        ada.ok("cancel", name, "--yes")
    eventually("it has ended", lambda: daemon.state_of(key) in ENDS)
    ended = ada.view(key)
    assert ended["state"] == "cancelled"
    assert ended["snapshot"]["verified"]
    eventually("nothing runs", lambda: not cloud.mounts() and not cloud.boxes() and not cloud.networks())
    kept = [path.read_text() for path in (cloud.state / "disks/volumes").glob("*/home/file")]
    assert f"{name}\n" in kept


@pytest.mark.timeout(900)
def test_a_life_comes_to_the_same_end_wherever_the_daemon_is_killed(
    ada: Person, cloud: Cloud, daemon: DyingDaemon
) -> None:
    for number in range(1, MOST):
        name = f"step-{number}"
        daemon.die_before(number)
        try_a_life(ada, name, daemon)
        died = daemon.has_died()
        if died:
            daemon.start()
        finish_the_life(ada, cloud, name, daemon)
        if not died:
            break
    assert 12 < number < MOST - 1, cloud.log()[-3000:]


def test_a_daemon_that_is_killed_while_it_starts_goes_on_with_its_boxes(
    ada: Person, cloud: Cloud, daemon: DyingDaemon
) -> None:
    assert reserve(ada, "on")
    ada.until("on", "active")
    box = cloud.boxes()[0]["Id"]
    for number in range(1, MOST):
        daemon.stop()
        daemon.die_before(number)
        daemon.start()
        if not daemon.has_died():
            break
        daemon.start()
    assert ada.view("on")["state"] == "active"
    assert [found["Id"] for found in cloud.boxes()] == [box]
    assert ada.in_box("on", "echo in").out == "in\n"
