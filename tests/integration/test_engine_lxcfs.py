"""A box sees its own memory by lxcfs; one that dies is started again for the next box, and stops nobody."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine import Engine, private_engine
from tests.waiting import eventually, suspend

from odc.adapters.engine import lxcfs
from odc.adapters.engine.lxcfs import has_died, stop_lxcfs
from odc.domain.box import BoxSpec
from odc.domain.problem_text import problem_texts

pytestmark = [
    pytest.mark.podman,
    pytest.mark.skipif(shutil.which("lxcfs") is None, reason="lxcfs is not installed"),
]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with private_engine("h100=1x8") as made:
        yield made


def memory_seen(engine: Engine, spec: BoxSpec) -> int:
    """What `free` says in the box; 0 if it fails."""
    return int(engine.ssh(spec, "free -b | awk '/Mem:/ {print $2}'").stdout or 0)


def mounts_of(folder: Path) -> int:
    return len([line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder} " in line])


def kill_lxcfs(engine: Engine) -> None:
    os.kill(int((engine.state / "lxcfs.pid").read_text()), signal.SIGKILL)
    eventually("lxcfs is dead", lambda: has_died(engine.state / "lxcfs"))


def test_a_dead_lxcfs_is_started_again_for_the_next_box_and_for_the_next_start(engine: Engine) -> None:
    before, after = engine.spec(), engine.spec()
    uid = engine.up(before)
    own = memory_seen(engine, before)
    kill_lxcfs(engine)
    engine.up(after)
    assert memory_seen(engine, after) == own > 0
    assert memory_seen(engine, before) == 0, "a box that runs looks at the dead one"
    kill_lxcfs(engine)
    engine.podman("stop", "-t", "1", engine.container(before))
    engine.cluster.start_box(before.name, uid)
    eventually("SSH answers", lambda: engine.answers(before))
    assert memory_seen(engine, before) == own
    assert mounts_of(engine.state / "lxcfs") == 1
    kill_lxcfs(engine)
    stop_lxcfs(engine.state / "lxcfs")
    assert mounts_of(engine.state / "lxcfs") == 0


def test_where_lxcfs_cannot_be_started_boxes_do_without_it(engine: Engine) -> None:
    (engine.state / "lxcfs").write_text("in its way")
    spec = engine.spec()
    engine.up(spec)
    assert memory_seen(engine, spec) > 2 * spec.resources.limit.memory_bytes, "the host's"


def test_an_lxcfs_that_hangs_is_ended_and_keeps_no_box_from_starting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lxcfs, "ANSWER_LIMIT_S", 1.0)
    before, after = engine.spec(), engine.spec()
    engine.up(before)
    own = memory_seen(engine, before)
    suspend(int((engine.state / "lxcfs.pid").read_text()))
    engine.up(after)
    assert memory_seen(engine, after) == own > 0
    assert memory_seen(engine, before) == 0, "it fails, and does not wait"
    suspend(int((engine.state / "lxcfs.pid").read_text()))
    report = engine.cluster.check_host(engine.cluster.list_boxes())
    assert any("lxcfs had died or hung" in text for text in problem_texts(report.repaired))
    assert len(report.reachable) == 2
    suspend(int((engine.state / "lxcfs.pid").read_text()))
    stop_lxcfs(engine.state / "lxcfs")
    assert mounts_of(engine.state / "lxcfs") == 0
