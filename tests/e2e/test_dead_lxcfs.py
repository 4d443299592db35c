"""lxcfs dies while a box looks through it: the cloud goes on, comes up again, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import left_of, reserve

pytestmark = [
    pytest.mark.podman,
    pytest.mark.btrfs,
    pytest.mark.skipif(shutil.which("lxcfs") is None, reason="lxcfs is not installed"),
]


def kill_lxcfs(cloud: Cloud) -> None:
    os.kill(int((cloud.state / "lxcfs.pid").read_text()), signal.SIGKILL)


def test_a_dead_lxcfs_stops_no_reservation_no_start_and_no_end(spare: Cloud, dora: Person) -> None:
    reserve(dora, "first")
    kill_lxcfs(spare)
    assert "free fails in boxes that run" in spare.odc("doctor").out
    reserve(dora, "second")
    assert dora.in_box("second", "free").code == 0
    assert "lxcfs has died" not in spare.odc("doctor").out
    kill_lxcfs(spare)
    spare.odc("down")
    spare.odc("up")
    reserve(dora, "third")
    kill_lxcfs(spare)
    spare.odc("down", "--all", "--yes")
    assert left_of(spare) == []
