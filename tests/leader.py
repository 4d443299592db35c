"""A whole daemon over a PostgreSQL database and adapters of the test's process: `python -m tests.leader`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

from tests.builders import a_node
from tests.shared_cloud import FastClock, FastWake, Remote
from tests.world import ADA, BEN, OPERATOR, GivenHostKeys

from odc.adapters.memory.accounts import MemoryAccounts
from odc.adapters.memory.key_source import MemoryKeySource
from odc.adapters.sql.state_store import SqlStateStore
from odc.api.unix_socket import UnixServer
from odc.control.context import Policy, Ports
from odc.domain.access import Principal
from odc.domain.limits import Limits
from odc.entrypoints.bootstrap.run_cloud import Cloud, run_cloud

LONG = timedelta(hours=1)
"""Limits that nothing reaches: whatever is late here is so because a daemon was stopped or the machine is busy."""
LIMITS = Limits(
    live_per_user=3, prepare=LONG, stop=LONG, disk=LONG, box=LONG, node=LONG, image=LONG, ssh=LONG, snapshot=LONG
)
USERS = {1000: ADA, 1001: BEN}
NODES = tuple(a_node(f"node-{number}", units=4) for number in (1, 2))


def socket_of(folder: Path, daemon: str) -> Path:
    """Where the daemon serves everybody."""
    return folder / f"{daemon}.sock"


def recognize(uid: int) -> Principal:
    """The users by their uids; everybody else is the operator."""
    return USERS.get(uid, OPERATOR)


def main(folder: Path, daemon: str, database: str) -> None:
    """Run the daemon until it is asked to end."""
    logging.basicConfig(filename=folder / f"{daemon}.log", level=logging.INFO)
    store = SqlStateStore(database)
    cluster, volumes, blobs = (Remote(folder / "shared", port, os.getpid()) for port in ("cluster", "volumes", "blobs"))
    ports = Ports(
        store=store,
        documents=store,
        history=store,
        leases=store,
        pruning=store,
        space=store,
        wake=FastWake(),
        cluster=cluster,
        volumes=volumes,
        blobs=blobs,
        keys=MemoryKeySource(),
        host_keys=GivenHostKeys(),
        clock=FastClock(),
        accounts=MemoryAccounts({uid: user.user for uid, user in USERS.items()}),
    )
    cloud = Cloud(Policy(limits=LIMITS), ports, NODES, "memory", store.close)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    path = socket_of(folder, daemon)
    run_cloud(cloud, f"{daemon}-{os.getpid()}", lambda app: UnixServer(app, path, recognize), lambda _: None, stop)
    cloud.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
