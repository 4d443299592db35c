"""Starts and stops a test cluster.

Everything of a cluster is found by its number: processes by their environment, network and cgroups by their names,
files in one folder. So a start first removes whatever an earlier cluster of that number left, however that one ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import (
    api,
    archive,
    certificates,
    cgroups,
    control_plane,
    disks,
    gpus,
    network,
    node,
    processes,
    programs,
)
from tests.cluster.layout import Layout, Node
from tests.lane import LOCKS, RUN_VARIABLE
from tests.waiting import eventually

READY_S = 120.0


def up(layout: Layout) -> None:
    """Start a new cluster and wait until its nodes are Ready. The programs must be built.

    Raises:
        AssertionError: something did not start; its log is in the state folder.
    """
    with _locked(layout):
        _remove(layout)
        try:
            _start(layout)
        except BaseException:
            processes.kill_all(layout)
            raise


def down(layout: Layout) -> None:
    """Stop the cluster and remove everything of it; nothing need be there."""
    with _locked(layout):
        _remove(layout)


def list_all() -> Iterator[tuple[Layout, str]]:
    """All clusters of the machine, and for each the run of tests that started it; empty for one started by hand.

    A cluster has its state folder from the beginning of its start to the end of its removal.
    """
    for path in Path("/var/tmp").glob("odc-cluster-*"):
        number = path.name.removeprefix("odc-cluster-")
        if number.isdecimal():
            layout, run = Layout(int(number)), path / "run"
            yield layout, run.read_text() if run.exists() else ""


def is_up(layout: Layout) -> bool:
    """Whether its API server, nodes and DNS are ready, all of the programs that this checkout names."""
    built = layout.state / "programs.json"
    if not built.exists() or json.loads(built.read_text()) != programs.program_path():
        return False
    return api.ready_nodes(layout) == {each.name for each in layout.nodes} and api.is_dns_ready(layout)


def start_node(each: Node) -> None:
    """Start a node's processes: at first, or again after `processes.stop` of its first process."""
    node.start_init(each)
    node.start_containerd(each)
    node.load_image(each, Layout(each.cluster).state / "pause.tar")
    node.start_kubelet(each)
    node.start_proxy(each)
    gpus.start(each)
    disks.start_on(each)


def _start(layout: Layout) -> None:
    layout.state.mkdir(mode=0o755)
    (layout.state / "run").write_text(os.environ.get(RUN_VARIABLE, ""))
    layout.logs.mkdir()
    (layout.state / "programs.json").write_text(json.dumps(programs.program_path()))
    certificates.create(layout)
    network.create(layout)
    archive.write_image(
        layout.state / "pause.tar", node.PAUSE_IMAGE, {"/pause": programs.pause_program()}, {}, ["/pause"]
    )
    for each in layout.nodes:
        node.prepare(each)
        gpus.prepare(each)
    disks.prepare(layout)
    with ThreadPoolExecutor() as pool:
        nodes = pool.map(start_node, layout.nodes)
        start_control_plane(layout)
        disks.define(layout)
        list(nodes)
        disks.start(layout)
    wait_until_ready(layout)


def start_control_plane(layout: Layout) -> None:
    """Start those of its processes that do not run, also those that have ended because the API server was down."""
    _start_ended(layout, {"etcd": control_plane.start_etcd, "apiserver": control_plane.start_apiserver})

    def is_ready() -> bool:
        for part in ("etcd", "apiserver"):
            processes.check_running(layout, part)
        return api.is_ready(layout)

    eventually("the API server is ready", is_ready, READY_S)
    rest = {
        "controller-manager": control_plane.start_controller_manager,
        "scheduler": control_plane.start_scheduler,
        "dns": control_plane.start_dns,
    }
    _start_ended(layout, rest)


def _start_ended(layout: Layout, parts: Mapping[str, Callable[[Layout], None]]) -> None:
    for part, start in parts.items():
        if not processes.is_alive(layout, part):
            start(layout)


def wait_until_ready(layout: Layout) -> None:
    """Wait for the API server, the nodes and DNS.

    Raises:
        AssertionError: a process has ended, or they are not ready after two minutes.
    """
    eventually("the cluster is ready", lambda: _is_ready(layout), READY_S)


def _is_ready(layout: Layout) -> bool:
    of_nodes = [f"{name}-{each.number}" for each in layout.nodes for name in ("kubelet", "proxy", "gpus", "disks")]
    for part in (*control_plane.PARTS, *disks.PARTS, *of_nodes):
        processes.check_running(layout, part)
    return api.is_ready(layout) and is_up(layout) and disks.is_ready(layout)


def _remove(layout: Layout) -> None:
    processes.kill_all(layout)
    network.remove(layout)
    for each in layout.nodes:
        cgroups.remove(each)
    eventually(f"{layout.state} is deleted", lambda: _is_deleted(layout.state))


def _is_deleted(folder: Path) -> bool:
    # Again, if a process that was killed a moment ago has just written a file.
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """One process of the machine at a time starts or stops this cluster."""
    assert os.geteuid() == 0, "a test cluster needs root"
    LOCKS.mkdir(mode=0o755, exist_ok=True)
    with (LOCKS / f"cluster-{layout.number}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
