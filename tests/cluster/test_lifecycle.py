"""A test cluster stops without remains, and starts again whatever is left of an earlier one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.cluster import api, cgroups, lifecycle, processes
from tests.cluster.layout import Layout, default_number
from tests.lane import RUN_VARIABLE
from tests.remains import Owner, list_remains, remove, started_by

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def layout() -> Iterator[Layout]:
    """A second cluster, while the first may run."""
    layout = Layout(default_number() + 100)
    yield layout
    lifecycle.down(layout)


def remains(layout: Layout) -> list[str]:
    parts = [layout.link, *(each.part for each in layout.nodes)]
    paths = [layout.state, Path("/sys/class/net", layout.link), *(Path("/run/netns", part) for part in parts)]
    paths += [folder for each in layout.nodes for folder in cgroups.folders(each)]
    mounts = Path("/proc/self/mountinfo").read_text()
    found = [str(path) for path in paths if path.exists()]
    return found + [text for text in (str(layout.state),) if text in mounts]


def test_it_starts_twice_in_a_row_and_leaves_nothing(layout: Layout) -> None:
    for _ in range(2):
        lifecycle.up(layout)
        assert api.ready_nodes(layout) == {"node-1", "node-2"}
        lifecycle.down(layout)
        assert not processes.is_alive(layout)
        assert remains(layout) == []


def test_it_starts_after_all_its_processes_were_killed(layout: Layout) -> None:
    lifecycle.up(layout)
    processes.kill_all(layout)
    lifecycle.up(layout)
    assert lifecycle.is_up(layout)


@pytest.mark.parametrize("after_s", [0.5, 1.5, 3.0])
def test_it_starts_after_its_starter_was_killed(layout: Layout, after_s: float) -> None:
    command = [sys.executable, "-m", "tests.cluster", "up", "--number", str(layout.number)]
    starter = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(after_s)
    with suppress(ProcessLookupError):
        os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    lifecycle.up(layout)
    assert lifecycle.is_up(layout)


def test_what_a_killed_run_left_of_it_is_found_and_removed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = Owner(run=uuid.uuid4().hex, folder="")
    monkeypatch.setenv(RUN_VARIABLE, killed.run)
    lifecycle.up(layout)
    found = [remain for remain in list_remains() if remain.kind == "Kubernetes cluster" and killed.has(remain)]
    assert [remain.name for remain in found] == [str(layout.number)]
    assert started_by(killed.run)
    remove(found)
    assert not started_by(killed.run)
    assert remains(layout) == []


def test_a_process_is_alive_while_it_executes_another_program(layout: Layout, tmp_path: Path) -> None:
    script = tmp_path / "executes"
    script.write_text('[ "$1" = 0 ] || exec sh "$0" $(($1 - 1))\nexec sleep 60\n')
    layout.logs.mkdir(parents=True)
    processes.start(layout, "executes", ["sh", str(script), "2000"])
    while not processes.find(layout, "executes", "sleep"):
        assert processes.is_alive(layout, "executes")
