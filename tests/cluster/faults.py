"""Faults of a test cluster: parts of it that stop, and start again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from tests.cluster import api, lifecycle, node, processes
from tests.cluster.layout import Layout, Node
from tests.waiting import eventually

AT_ONCE = timedelta(0)


@contextmanager
def api_server_down(layout: Layout) -> Iterator[None]:
    """The API server is killed, and starts again afterwards; what has ended for it, too."""
    processes.stop(layout, "apiserver", "kube-apiserver")
    try:
        yield
    finally:
        lifecycle.start_control_plane(layout)
        lifecycle.wait_until_ready(layout)


@contextmanager
def kubelet_down(of: Node) -> Iterator[None]:
    """The kubelet of a node is killed; its pods go on. Afterwards it starts again, and the node is Ready."""
    layout = Layout(of.cluster)
    processes.stop(layout, f"kubelet-{of.number}", "kubelet")
    try:
        yield
    finally:
        node.start_kubelet(of)
        wait_until_ready(of)


@contextmanager
def node_down(of: Node) -> Iterator[None]:
    """All processes of a node are killed, those of pods too. Afterwards it starts again, and is Ready."""
    layout = Layout(of.cluster)
    processes.stop(layout, of.part, "sleep")
    try:
        yield
    finally:
        lifecycle.start_node(of)
        wait_until_ready(of)


def wait_until_ready(of: Node) -> None:
    """Wait until the API server calls the node Ready."""
    layout = Layout(of.cluster)
    eventually(f"{of.name} is Ready", lambda: of.name in api.ready_nodes(layout))


def wait_until_lost(of: Node) -> None:
    """Wait until the API server does not call it Ready any more."""
    layout = Layout(of.cluster)
    eventually(f"{of.name} is not Ready", lambda: of.name not in api.ready_nodes(layout))
