"""A control plane with 1,000 live reservations: the real records, passes and API, over a cluster in memory.

Run as a process of its own, `python -m bench.live NUMBER FOLDER`, it prints its figures as JSON: memory is a process's.
The floor of a pass is reading the same records out of the same file.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
import uuid
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from bench.cloud import run
from bench.commands import bare_interpreter_mb
from bench.measuring import in_turns, memory_mb, milliseconds
from bench.table import Row
from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.memory.key_source import MemoryKeySource
from odc.adapters.memory.volumes import MemoryVolumes
from odc.adapters.sql.state_store import SqlStateStore
from odc.adapters.system.accounts import SystemAccounts
from odc.adapters.system.clock import SystemClock
from odc.adapters.system.host_keys import OpensshHostKeys
from odc.adapters.system.thread_runner import ThreadRunner
from odc.adapters.system.wake import LocalWake
from odc.api.app import build_app
from odc.api.client import Client
from odc.api.messages.cloud import Health
from odc.api.unix_socket import UnixServer, recognizer
from odc.control.context import Policy, Ports
from odc.control.control_plane import ControlPlane
from odc.control.reconcile import PassReport
from odc.domain.access import Principal
from odc.domain.node import Node
from odc.domain.requests import Cancel, Reserve, SetOwnKeys
from odc.domain.reservation import State
from odc.domain.resources import Capacity
from odc.entrypoints.bootstrap.run_cloud import prepare_interpreter

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPjN5Xh8mYv1b4uJx3m2o9c0p7q6r5s4t3u2v1w0x9y8 bench"
EACH = 10
"""Reservations of one user."""
PASSES = 15
NUMBER = 1000
HEALTH = Health(ready=True, version="0", cloud="bench", types={}, simulated=True, storage="memory", engine="memory")
SIZE = Capacity(cpu_millis=64_000, memory_bytes=512 * 2**30)


def nodes_for(number: int) -> tuple[Node, ...]:
    """Nodes of eight GPUs, enough for as many reservations of one GPU."""
    return tuple(
        Node(
            name=f"node-{index}",
            gpu_type="h100",
            gpus=tuple(f"GPU-{index}-{gpu}" for gpu in range(8)),
            units=8,
            capacity=SIZE,
            allocatable=SIZE,
        )
        for index in range(-(-number // 8))
    )


def rows() -> list[Row]:
    """A pass in which nothing has changed, and the process's memory."""
    with tempfile.TemporaryDirectory(prefix="odc-bench-") as folder:
        seen = json.loads(run([sys.executable, "-m", "bench.live", str(NUMBER), folder]))
    memory = (
        f"resident; {seen['pss']:.0f} MB by proportional share; the real records, passes and API, after three "
        "of its longest lists were asked for; boxes and disks in memory instead of on the engine, which are in it too"
    )
    return [
        Row(
            f"a pass with {NUMBER:,} live, nothing changed",
            "ms",
            seen["pass_ms"],
            200,
            floor=seen["read_ms"],
            note="boxes and disks in memory; floor: the same records read from SQLite, not decoded",
        ),
        Row(f"daemon memory, {NUMBER:,} live", "MB", seen["rss"], 200, floor=bare_interpreter_mb(), note=memory),
        Row(
            f"{NUMBER:,} ends, after the last grace",
            "s",
            seen["gone_s"],
            60,
            note="from the end of the last one's 30 s until no box is there; all are cancelled as fast as requests are "
            "answered; boxes and disks in memory, each box takes its whole grace",
        ),
    ]


class BenchedDaemon:
    """Everything of the daemon but its engine and its disks."""

    def __init__(
        self,
        folder: Path,
        nodes: tuple[Node, ...],
        cluster: MemoryCluster | None = None,
        store: SqlStateStore | None = None,
    ) -> None:
        """Put together as the daemon does.

        Args:
            folder: of the records and the socket.
            nodes: of the cluster in memory.
            cluster: that has boxes already; None: an empty one.
            store: of the records; None: one in the folder.
        """
        self.wake, self.clock, blobs = LocalWake(), SystemClock(), MemoryBlobStore()
        self.cluster = cluster or MemoryCluster(nodes)
        self.store = store or SqlStateStore(f"sqlite:///{folder}/odc.db")
        ports = Ports(
            store=self.store,
            documents=self.store,
            history=self.store,
            leases=self.store,
            pruning=self.store,
            space=self.store,
            wake=self.wake,
            cluster=self.cluster,
            volumes=MemoryVolumes(self.clock, blobs),
            blobs=blobs,
            keys=MemoryKeySource(),
            host_keys=OpensshHostKeys(),
            clock=self.clock,
            accounts=SystemAccounts(),
        )
        self.runner = ThreadRunner(self.wake.notify)
        self.plane = ControlPlane(ports, Policy(), self.runner)
        app = build_app(self.plane, lambda _: HEALTH)
        self.server = UnixServer(app, folder / "odc.sock", recognizer(frozenset()))

    def fill(self, number: int) -> None:
        """Let users reserve one GPU each time, until all is active and nothing is left to do."""
        self.plane.reconciler.reconcile_once()
        for index in range(number):
            caller = caller_of(index // EACH)
            if index % EACH == 0:
                self.plane.requests.handle(caller, uuid.uuid4().hex, SetOwnKeys(keys=(KEY,)))
            wanted = Reserve(name=f"r{index % EACH}", gpu_type="h100", gpus=1, hours=24, disk=f"disk{index % EACH}")
            self.plane.requests.handle(caller, uuid.uuid4().hex, wanted)
        while not self._is_quiet():
            self.wake.wait(timedelta(seconds=1))

    def _is_quiet(self) -> bool:
        report = self.plane.reconciler.reconcile_once()
        states = {record.state for record in self.store.observe().reservations}
        return not report.committed and not self.runner.busy() and states == {State.ACTIVE}

    def quiet_pass(self) -> float:
        """One pass, in ms.

        Raises:
            SystemExit: it changed something, so that the figure would not be that of a quiet pass.
        """
        reports: list[PassReport] = []
        took = milliseconds(lambda: reports.append(self.plane.reconciler.reconcile_once()))
        if reports[0].committed:
            raise SystemExit("a pass changed something")
        return took

    def end_all(self) -> float:
        """Cancel every reservation; how many seconds after the last one's grace its box was gone."""
        self.cluster.use_grace(self.clock)
        for number, record in enumerate(self.store.observe().reservations):
            caller = Principal(id=record.owner, user=record.user)
            self.plane.requests.handle(caller, uuid.uuid4().hex, Cancel(reservation=record.id))
            if number % EACH == 0:
                self.plane.reconciler.reconcile_once()
        last = time.monotonic() + Policy().grace.total_seconds()
        while self.cluster.peek():
            self.plane.reconciler.reconcile_once()
            self.wake.wait(timedelta(seconds=0.1))
        return max(0.0, time.monotonic() - last)


def caller_of(number: int) -> Principal:
    """A user."""
    return Principal(id=f"unix:{2000 + number}", user=f"user{number}")


def read_once(database: Path) -> float:
    """The live records as they lie in the file, in ms."""
    with closing(sqlite3.connect(database)) as connection:
        return milliseconds(lambda: connection.execute("SELECT body FROM reservations WHERE live = 1").fetchall())


def main(number: int, folder: Path) -> None:
    """Measure and print."""
    prepare_interpreter()
    daemon = BenchedDaemon(folder, nodes_for(number))
    daemon.server.start()
    daemon.fill(number)
    took = in_turns({"read_ms": lambda: read_once(folder / "odc.db"), "pass_ms": daemon.quiet_pass}, PASSES)
    client = Client(str(folder / "odc.sock"))
    for _ in range(3):
        client.reservations(user="all")
    memory = memory_mb()
    print(json.dumps({**took, **memory, "gone_s": daemon.end_all()}))
    client.close()
    daemon.server.stop()
    daemon.runner.close()
    daemon.store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
