"""What every deployment runs: passes and the API, over any adapters and any server."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.builders import a_node
from tests.waiting import eventually

from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.memory.key_source import MemoryKeySource
from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.memory.volumes import MemoryVolumes
from odc.adapters.system.accounts import SystemAccounts
from odc.adapters.system.clock import SystemClock
from odc.adapters.system.host_keys import OpensshHostKeys
from odc.adapters.system.wake import LocalWake
from odc.api.client import Client
from odc.api.unix_socket import UnixServer, recognizer
from odc.control.context import Policy, Ports
from odc.entrypoints.bootstrap import run_cloud as running
from odc.entrypoints.bootstrap.run_cloud import Cloud, run_cloud


def test_a_cloud_of_other_adapters_serves_passes_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CHECK_INTERVAL_S", 0.05)
    clock, store, socket = SystemClock(), MemoryStateStore(), tmp_path / "odc.sock"
    ports = Ports(
        store=store,
        documents=store,
        history=store,
        leases=store,
        pruning=store,
        space=store,
        wake=LocalWake(),
        cluster=MemoryCluster((a_node("node-1"),)),
        volumes=MemoryVolumes(clock),
        blobs=MemoryBlobStore(),
        keys=MemoryKeySource(),
        host_keys=OpensshHostKeys(),
        clock=clock,
        accounts=SystemAccounts(),
    )
    cloud = Cloud(Policy(cloud="lab"), ports, (a_node("node-1"),), "memory", lambda: None)
    stop, checked = threading.Event(), threading.Event()
    recognize = recognizer(frozenset(), lambda _: None)
    arguments = (cloud, "test", lambda app: UnixServer(app, socket, recognize), lambda _: checked.set(), stop)
    process = threading.Thread(target=run_cloud, args=arguments)
    process.start()
    client = Client(str(socket))
    try:
        eventually("it listens", socket.exists)
        eventually("a pass has seen the nodes", lambda: client.health().ready)
        assert (client.health().cloud, client.health().types) == ("lab", {"h100": 8})
        assert client.me().principal == f"unix:{os.getuid()}"
        assert checked.wait(10)
    finally:
        client.close()
        stop.set()
        process.join(30)
    assert not process.is_alive()
    assert not socket.exists()
