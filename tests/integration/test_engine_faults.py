"""What is done to boxes and to the engine behind ODC's back, on the machine's real Podman."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.engine import Engine, private_engine

from odc.adapters.engine import cluster as engine_cluster
from odc.adapters.engine import service as engine_service
from odc.domain.box import BoxState
from odc.domain.errors import ProviderUnavailable

pytestmark = pytest.mark.podman

GRACE = timedelta(seconds=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine("h100=1x8") as made:
        yield made


def test_a_paused_box_is_stopped_with_its_grace(engine: Engine) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.podman("pause", engine.container(spec))
    engine.cluster.stop_box(spec.name, uid, GRACE)
    (box,) = [box for box in engine.cluster.list_boxes() if box.name == spec.name]
    assert (box.state, box.exit_code) == (BoxState.EXITED, 0)
    engine.cluster.remove_box(spec.name, uid)


def test_a_paused_box_is_removed(engine: Engine) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.podman("pause", engine.container(spec))
    engine.cluster.remove_box(spec.name, uid)
    assert [box for box in engine.cluster.list_boxes() if box.name == spec.name] == []


@contextmanager
def hanging_service(engine: Engine) -> Iterator[None]:
    """The engine's service takes connections and does nothing."""
    pid = int((engine.state / "engine" / "podman.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
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
