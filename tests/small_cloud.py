"""A whole cloud in this process: the real control plane and API on a real unix socket, over the memory adapters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from litestar import Litestar
from tests.builders import a_node

from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.memory.key_source import MemoryKeySource
from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.memory.volumes import MemoryVolumes
from odc.adapters.system.accounts import SystemAccounts
from odc.adapters.system.clock import SystemClock
from odc.adapters.system.host_keys import OpensshHostKeys
from odc.adapters.system.thread_runner import ThreadRunner
from odc.adapters.system.wake import LocalWake
from odc.api.app import build_app
from odc.api.messages.cloud import Health
from odc.api.unix_socket import UnixServer, recognizer
from odc.control.context import Policy, Ports
from odc.control.control_plane import ControlPlane
from odc.control.requests import Requests
from odc.domain.access import Principal
from odc.domain.node import Node

NODES = (a_node("node-1"), a_node("node-2", units=4, gpu_type="t4"), a_node("node-3", gpus=(), gpu_type="cpu-x86"))


@dataclass(frozen=True)
class SmallCloud:
    """Where it listens, and what it is made of."""

    socket: Path
    cluster: MemoryCluster
    volumes: MemoryVolumes
    app: Litestar
    requests: Requests
    server: UnixServer

    @property
    def endpoint(self) -> str:
        """As `gpu-dev --endpoint` takes it."""
        return f"unix://{self.socket}"


def _healthy(_: Principal) -> Health:
    return Health(ready=True, version="0", cloud="small", types={}, simulated=True, storage="memory", engine="memory")


@contextmanager
def small_cloud(
    folder: Path,
    nodes: Iterable[Node] = NODES,
    admins: Iterable[str] = (),
    lender_of: Callable[[int], str | None] = lambda uid: None,
) -> Iterator[SmallCloud]:
    """A cloud that is up; its passes run by themselves."""
    wake, clock, blobs, store = LocalWake(), SystemClock(), MemoryBlobStore(), MemoryStateStore()
    cluster, volumes = MemoryCluster(nodes), MemoryVolumes(clock, blobs)
    ports = Ports(
        store=store,
        documents=store,
        history=store,
        leases=store,
        pruning=store,
        space=store,
        wake=wake,
        cluster=cluster,
        volumes=volumes,
        blobs=blobs,
        keys=MemoryKeySource(),
        host_keys=OpensshHostKeys(),
        clock=clock,
        accounts=SystemAccounts(),
    )
    policy = Policy(grace=timedelta(seconds=1))
    runner = ThreadRunner(wake.notify, threads=4)
    plane = ControlPlane(ports, policy, runner)
    loop = plane.pass_loop(holder="tests")
    socket = folder / "odc.sock"
    app = build_app(plane, _healthy)
    server = UnixServer(app, socket, recognizer(frozenset(admins), lender_of))
    passes = threading.Thread(target=loop.run, name="passes")
    server.start()
    passes.start()
    try:
        yield SmallCloud(
            socket=socket, cluster=cluster, volumes=volumes, app=app, requests=plane.requests, server=server
        )
    finally:
        loop.stop()
        passes.join(30)
        server.stop()
        runner.close()
