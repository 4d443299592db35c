"""The address at which boxes' ports are opened."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from tests.engine import private_engine

from odc.adapters.engine.cluster import EngineCluster
from odc.domain.errors import PlaceTaken
from odc.domain.problem_text import problem_texts

pytestmark = pytest.mark.podman


def test_an_address_that_the_machine_has_lost_is_told_and_not_taken_for_taken_ports() -> None:
    with private_engine("h100=1x1") as engine:
        lost = EngineCluster(engine.api, engine.nodes, replace(engine.options, listen="192.0.2.77"))
        problems = problem_texts(lost.check_host((), ()).problems)
        assert any("lost its address 192.0.2.77" in problem for problem in problems), problems
        assert not any(
            "lost its address" in problem for problem in problem_texts(engine.cluster.check_host((), ()).problems)
        )


def test_a_port_that_is_taken_after_the_box_was_made_is_named_as_taken() -> None:
    with private_engine("h100=1x1") as engine:
        spec = engine.spec(gpus=())
        uid = engine.cluster.create_box(spec)
        with socket.create_server(("127.0.0.1", spec.ssh_port)), pytest.raises(PlaceTaken) as refused:
            engine.cluster.start_box(spec.name, uid)
        # Outgoing connections of other programs may use ports of the range as well.
        assert spec.ssh_port in refused.value.ports
