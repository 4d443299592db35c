"""What is done to boxes and to the engine behind ODC's back, on the machine's real Podman."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.boxes import end_box
from tests.engine import Engine
from tests.links import links_in
from tests.waiting import eventually, suspend

from odc.adapters.engine import cluster as engine_cluster
from odc.adapters.engine import host_checks
from odc.adapters.engine import service as engine_service
from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.engine.firewall import forget_rules, is_kept_apart
from odc.domain.box import BoxState
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.domain.problem_text import problem_texts

pytestmark = pytest.mark.podman

GRACE = timedelta(seconds=1)
LONG_GRACE = timedelta(seconds=50)


def test_a_paused_box_is_stopped_with_its_grace(engine: Engine) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.podman("pause", engine.container(spec))
    begun = time.monotonic()
    end_box(engine.cluster, spec.name, uid, LONG_GRACE)
    # Its processes were asked, and did not wait until they were killed.
    assert time.monotonic() - begun < LONG_GRACE.total_seconds()


def test_a_box_whose_first_process_does_not_react_is_killed_after_the_grace(engine: Engine) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.podman("kill", "--signal", "STOP", engine.container(spec))
    end_box(engine.cluster, spec.name, uid, GRACE)
    assert [box for box in engine.cluster.list_boxes() if box.name == spec.name] == []


def test_a_paused_box_is_removed(engine: Engine) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.podman("pause", engine.container(spec))
    end_box(engine.cluster, spec.name, uid)
    assert [box for box in engine.cluster.list_boxes() if box.name == spec.name] == []


def test_a_box_that_died_after_its_monitor_has_ended_and_leaves_nothing(engine: Engine) -> None:
    spec, other = engine.spec(), engine.spec()
    uid, _ = engine.up(spec), engine.up(other)
    facts = engine.api.get(f"/containers/{uid}/json")
    monitor, first = facts["State"]["ConmonPid"], facts["State"]["Pid"]
    os.kill(monitor, signal.SIGKILL)
    eventually("its monitor is gone", lambda: not Path(f"/proc/{monitor}").exists())
    assert engine.ssh(spec, "echo alive").stdout == "alive\n"
    engine.cluster.start_box(spec.name, uid)
    os.kill(first, signal.SIGKILL)
    eventually("it is gone", lambda: not Path(f"/proc/{first}").exists())
    states = {box.name: box.state for box in engine.cluster.list_boxes()}
    assert states == {spec.name: BoxState.EXITED, other.name: BoxState.RUNNING}
    assert engine.podman("inspect", "--format", "{{.State.Status}}", uid) == "running"
    with pytest.raises(ProviderRefused, match="the engine's monitor"):
        engine.cluster.start_box(spec.name, uid)
    try:
        end_box(engine.cluster, spec.name, uid)
    except ProviderUnavailable:
        end_box(engine.cluster, spec.name, uid)
    assert [box.name for box in engine.cluster.list_boxes()] == [other.name]
    engine.cluster.clean_up(spec.name.reservation_id, spec.name.attempt)
    assert len(links_in(engine.options.network)) == 1
    engine.forget_everything()


@contextmanager
def hanging_service(engine: Engine) -> Iterator[None]:
    """The engine's service takes connections and does nothing."""
    pid = int((engine.state / "engine" / "podman.pid").read_text())
    suspend(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_engine_that_hangs_is_noticed_soon(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (engine_cluster.LIST_LIMIT_S, engine_service.ANSWER_LIMIT_S) == (15, 10)
    monkeypatch.setattr(engine_cluster, "LIST_LIMIT_S", 0.5)
    monkeypatch.setattr(engine_service, "ANSWER_LIMIT_S", 0.5)
    lists: tuple[Callable[[], object], ...] = (engine.cluster.list_boxes, engine.cluster.list_remains)
    with hanging_service(engine):
        began = time.monotonic()
        assert not engine.service.answers()
        for listed in lists:
            with pytest.raises(ProviderUnavailable, match=r"took longer than 0\.5 s"):
                listed()
        assert time.monotonic() - began < 10
    assert engine.service.answers()
    for listed in lists:
        listed()


def test_a_gpu_driver_that_hangs_keeps_nothing_else_from_being_checked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, may_answer = threading.Event(), threading.Event()
    answers.set()

    def look_at_gpus() -> dict[str, str]:
        if not answers.is_set():
            may_answer.wait(60)
        return {}

    options = replace(engine.options, broken_gpus=look_at_gpus)
    cluster = EngineCluster(engine.api, engine.nodes, options)
    monkeypatch.setattr(host_checks, "SURVEY_PAUSE_S", 0.0)
    monkeypatch.setattr(host_checks, "SURVEY_LIMIT_S", 0.0)
    answers.clear()
    try:
        cluster.check_host(())
        forget_rules(engine.cloud)
        report = cluster.check_host(())
        assert is_kept_apart(engine.cloud)
        assert any("the GPU driver has not answered" in text for text in problem_texts(report.problems))
        may_answer.set()
        eventually("it answers again", lambda: not cluster.check_host(()).problems)
    finally:
        may_answer.set()
