"""GPUs that containers of others hold, seen on the machine's real Podman."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tests.boxes import end_box
from tests.engine import Engine
from tests.image import IMAGE
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster

pytestmark = pytest.mark.podman


@contextmanager
def stranger(engine: Engine, name: str, gpu: str, *options: str) -> Iterator[str]:
    """A container that an operator has started by hand with one of the GPUs."""
    device = f"{engine.options.gpu_kind}={gpu}"
    run = ("run", "-d", "--network", "none", "--device", device, "--name", f"{engine.cloud}-{name}", *options)
    engine.podman(*run, "--entrypoint", "sleep", IMAGE, "600")
    try:
        yield f"{engine.cloud}-{name}"
    finally:
        engine.podman("rm", "-f", "-t", "0", f"{engine.cloud}-{name}")


def held(engine: Engine) -> dict[str, str]:
    return dict(engine.cluster.list_nodes()[0].held_by_others)


def test_a_gpu_of_a_container_started_by_hand_is_held_while_it_runs(engine: Engine) -> None:
    gpu = engine.nodes[0].gpus[3]
    with stranger(engine, "by-hand", gpu) as name:
        assert held(engine) == {gpu: name}
        assert held(engine) == {gpu: name}
        engine.podman("pause", name)
        assert held(engine) == {gpu: name}
        engine.podman("unpause", name)
        engine.podman("stop", "-t", "0", name)
        assert eventually("it is free again", lambda: not held(engine))


@pytest.mark.parametrize("own", [False, True], ids=["another cloud", "this cloud"])
def test_a_box_counts_whatever_cloud_its_label_names(engine: Engine, own: bool) -> None:
    gpu = engine.nodes[0].gpus[0]
    label = f"odc.cloud={engine.cloud if own else 'another'}"
    with stranger(engine, "renamed", gpu, "--label", label, "--label", "odc.gpus=wrong") as name:
        assert held(engine) == {gpu: name}


def test_own_boxes_and_containers_that_only_watch_hold_nothing(engine: Engine) -> None:
    spec = engine.spec(gpus=engine.nodes[0].gpus[1:2])
    uid = engine.up(spec)
    try:
        with stranger(engine, "monitor", engine.nodes[0].gpus[2]):
            assert held(engine) == {}
        # The same box is another's to a cloud of another name.
        other = EngineCluster(engine.api, engine.nodes, replace(engine.options, cloud="another"))
        assert dict(other.list_nodes()[0].held_by_others) == {engine.nodes[0].gpus[1]: engine.container(spec)}
    finally:
        end_box(engine.cluster, spec.name, uid)
        engine.cluster.clean_up(spec.name.reservation_id, 1)
