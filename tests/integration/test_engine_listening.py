"""Where boxes listen on the machine, as the operator has set it."""

from __future__ import annotations

import dataclasses
import socket
import subprocess

import pytest
from tests.engine import private_engine
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster
from odc.domain.box import SSH

pytestmark = pytest.mark.podman


def own_address() -> str:
    """An address of this machine other than the loopback's."""
    way = subprocess.run(["ip", "-o", "-4", "route", "get", "8.8.8.8"], capture_output=True, text=True, check=True)
    words = way.stdout.split()
    return words[words.index("src") + 1]


def greets(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("listen", "inside", "outside"), [("127.0.0.1", True, False), ("0.0.0.0", True, True), ("its own", False, True)]
)
def test_boxes_listen_where_the_operator_says(listen: str, inside: bool, outside: bool) -> None:
    own = own_address()
    with private_engine("h100=1x1") as engine:
        options = dataclasses.replace(engine.options, listen=own if listen == "its own" else listen)
        cluster = EngineCluster(engine.api, engine.nodes, options)
        spec = engine.spec()
        box = cluster.create_box(spec)
        cluster.start_box(spec.name, box.uid)
        eventually("SSH answers", lambda: cluster.ssh_answers(box))
        assert greets("127.0.0.1", box.ports[SSH]) is inside
        assert greets(own, box.ports[SSH]) is outside
