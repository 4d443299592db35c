"""Boxes on a real Kubernetes: the test cluster of two nodes on this machine. Run by `make bench-kubernetes`.

A start begins with the call that makes the box and ends when `ssh … true` has succeeded, next to the same from a bare
pod with a NodePort: the same image, sshd with keys that are there already, no GPU, limits or user namespace.

A quiet pass reads all nodes, other tenants' pods and all boxes. Its nodes and pods are objects of the API server
without a kubelet: 1,250 nodes of eight GPUs and 1,000 running boxes. Calls and bytes are counted by a proxy, in a pass
that does not count for the time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.boxes import end_box
from tests.cluster import lifecycle, programs
from tests.cluster.api_proxy import api_proxy
from tests.cluster.layout import Layout, default_number
from tests.image import IMAGE
from tests.pods import PodCloud, pod_cloud

from bench.measuring import cpu_milliseconds, in_turns, memory_mb, milliseconds
from bench.table import Row, table
from odc.adapters.kubernetes import manifests
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.domain.box import BoxName, BoxSpec
from odc.domain.resources import Capacity, share_of

TURNS = 7
PASSES = 7
DEADLINE_S = 60.0
BUDGET_OF_FLOOR = 1.4
PASS_BUDGET_MS = 2500
"""Half of the time between two passes."""
NODES, BOXES = 1250, 1000
BARE = "bare"
MARK = "odc-bench"
"""The label of the nodes without a kubelet."""
SSHD = """printf '%s' "$HOST" >/run/host; printf '%s\\n' "$KEY" >/run/keys; chmod 600 /run/host; mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -h /run/host -o AuthorizedKeysFile=/run/keys -o StrictModes=no"""
GPU = "nvidia.com/gpu"
WHOLE = {"cpu": "96", "memory": "1024Gi", "pods": "110", GPU: "8"}


def main() -> int:
    """Measure, and print the table."""
    with (
        running_cluster() as layout,
        tempfile.TemporaryDirectory(prefix="odc-bench-") as folder,
        pod_cloud(layout, Path(folder)) as pods,
    ):
        rows = [start_row(pods), pass_row(pods, Path(folder))]
    print(table(rows))
    return 0


@contextmanager
def running_cluster() -> Iterator[Layout]:
    """The test cluster: the one that runs, or one for this bench."""
    programs.build_all(lambda line: print(line, file=sys.stderr, flush=True))
    layout = Layout(default_number())
    running = lifecycle.is_up(layout)
    if not running:
        lifecycle.up(layout)
    try:
        yield layout
    finally:
        if not running:
            lifecycle.down(layout)


def start_row(pods: PodCloud) -> Row:
    """A box next to a bare pod, in turns."""
    took = in_turns({"floor": lambda: bare(pods), "box": lambda: box(pods)}, TURNS)
    note = "floor: a pod of the same image with sshd, a NodePort, first ssh"
    return Row("box to ssh", "ms", took["box"], BUDGET_OF_FLOOR, floor=took["floor"], of_floor=True, note=note)


def box(pods: PodCloud) -> float:
    """One box, in ms; it is gone when this returns."""
    spec = pods.spec()

    def work() -> None:
        made = pods.cluster.create_box(spec)
        pods.cluster.write_files(spec.name, spec.files)
        pods.cluster.start_box(spec.name, made.uid)
        await_login(pods, made.address, made.ports["ssh"])

    took = milliseconds(work)
    end_box(pods.cluster, spec.name, pods.box(spec.name).uid)
    pods.cluster.clean_up(spec.name.reservation_id, spec.name.attempt)
    return took


def bare(pods: PodCloud) -> float:
    """One bare pod, in ms; it is gone when this returns."""
    environment = [{"name": "HOST", "value": pods.keys.host_private}, {"name": "KEY", "value": pods.keys.public}]
    node = pods.spec().node
    container: dict[str, Any] = {"name": "box", "image": IMAGE, "command": ["/bin/sh", "-c", SSHD], "env": environment}
    container |= {"securityContext": {"runAsUser": 0}}
    placed = {"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 1}
    pod = {"metadata": {"name": BARE, "labels": {"app": BARE}}, "spec": {**placed, "containers": [container]}}
    ports = [{"port": 22}]
    service = {"metadata": {"name": BARE}, "spec": {"type": "NodePort", "selector": {"app": BARE}, "ports": ports}}
    address = next(one.address for one in pods.cluster.list_nodes() if one.name == node)

    def work() -> None:
        pods.ask(pods.api.path("pods"), "POST", pod)
        made = pods.ask(pods.api.path("services"), "POST", service)
        await_login(pods, address, made["spec"]["ports"][0]["nodePort"])

    took = milliseconds(work)
    pods.ask(pods.api.path("services", BARE), "DELETE")
    pods.ask(pods.api.path("pods", BARE), "DELETE", {"gracePeriodSeconds": 1})
    while any(one["metadata"]["name"] == BARE for one in pods.ask(pods.api.path("pods"))["items"]):
        time.sleep(0.1)
    return took


def await_login(pods: PodCloud, address: str, port: int) -> None:
    """Return when a command runs over ssh.

    Raises:
        AssertionError: it never does.
    """
    options = ["-F", "none", "-i", str(pods.keys.private), "-o", "BatchMode=yes", "-o", "ConnectTimeout=1"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    words = ["ssh", *options, "-p", str(port), f"dev@{address}", "true"]
    end = time.monotonic() + DEADLINE_S
    while (done := subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)).returncode != 0:
        assert time.monotonic() < end, f"no login over ssh: {done.stderr}"
        time.sleep(0.02)


def pass_row(pods: PodCloud, folder: Path) -> Row:
    """What a pass reads of a large cluster when nothing has changed."""
    with large_cluster(pods):
        count, sent = counted_pass(pods, folder)
        before = memory_mb()["rss"]
        cluster = KubernetesCluster(pods.api, pods.options)
        took = in_turns({"wall": lambda: milliseconds(lambda: observe(cluster))}, PASSES)["wall"]
        cpu = in_turns({"cpu": lambda: cpu_milliseconds(lambda: observe(cluster))}, PASSES)["cpu"]
        grown = memory_mb()["rss"] - before
    note = f"{count} calls, {sent / 1e6:.1f} MB of answers, {cpu:.0f} ms of processor time, {grown:.0f} MB of memory"
    what = f"quiet pass, {NODES:,} nodes, {BOXES:,} boxes"
    return Row(what, "ms", took, PASS_BUDGET_MS, note=note)


def observe(cluster: KubernetesCluster) -> None:
    """What a pass asks of the cluster, and what it must find."""
    assert len(cluster.list_nodes()) >= NODES
    assert len(cluster.list_boxes()) == BOXES


def counted_pass(pods: PodCloud, folder: Path) -> tuple[int, int]:
    """The calls of a pass, and the bytes of their answers."""
    with api_proxy(pods.layout, folder) as proxy:
        connection = KubernetesApi(proxy.kubeconfig, namespace=pods.namespace)
        observe(KubernetesCluster(connection, pods.options))
        connection.close()
        return proxy.calls, proxy.sent


@contextmanager
def large_cluster(pods: PodCloud) -> Iterator[None]:
    """Nodes and boxes without a kubelet; nothing of them is left afterwards."""
    whole = Capacity(cpu_millis=96_000, memory_bytes=1024 * 2**30)
    with ThreadPoolExecutor(8) as pool:
        try:
            list(pool.map(lambda number: make_node(pods, number), range(NODES)))
            list(pool.map(lambda number: make_box(pods, number, whole), range(BOXES)))
            yield
        finally:
            paths = [pods.api.path("pods", one.container) for one in pods.cluster.list_boxes()]
            paths += [f"/api/v1/nodes/{node.name}" for node in pods.cluster.list_nodes() if MARK in node.labels]
            list(pool.map(lambda path: pods.ask(path, "DELETE", {"gracePeriodSeconds": 0}), paths))


def make_node(pods: PodCloud, number: int) -> None:
    """A node that is ready until the controllers miss its kubelet."""
    name = f"bench-{number:04}"
    labels = {MARK: "true", "odc.dev/gpu-type": "h100", "kubernetes.io/hostname": name}
    pods.ask("/api/v1/nodes", "POST", {"metadata": {"name": name, "labels": labels}})
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is ready"}]
    status: dict[str, Any] = {"capacity": WHOLE, "allocatable": WHOLE, "conditions": conditions}
    status |= {"addresses": [{"type": "InternalIP", "address": f"10.1.{number // 250}.{number % 250}"}]}
    status |= {"runtimeHandlers": [{"name": "", "features": {"userNamespaces": True}}]}
    pods.ask(f"/api/v1/nodes/{name}/status", "PATCH", {"status": status})


def make_box(pods: PodCloud, number: int, whole: Capacity) -> None:
    """A running box as a whole pod, with what a kubelet would say of it."""
    spec = BoxSpec(
        name=BoxName(uuid.uuid4().hex, 1),
        node=f"bench-{number:04}",
        image=IMAGE,
        hostname=f"train-{number}",
        gpus=(),
        gpu_type="h100",
        units=8,
        resources=share_of(whole, 8, 8),
        files={},
    )
    body = manifests.pod(pods.options, spec, manifests.PodPlace("10.1.0.1", "odc-box-bench"))
    body["metadata"]["annotations"][manifests.PORTS] = f"ssh={30000 + number},jupyter={31000 + number}"
    body["spec"] |= {"nodeName": spec.node, "schedulingGates": []}
    made = pods.ask(pods.api.path("pods"), "POST", body)
    container = {"name": "box", "image": IMAGE, "imageID": "sha256:0", "ready": True, "restartCount": 0}
    container |= {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    ready = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
    status = {"phase": "Running", "conditions": ready, "containerStatuses": [container]}
    pods.ask(f"{pods.api.path('pods', made['metadata']['name'])}/status", "PATCH", {"status": status})


if __name__ == "__main__":
    sys.exit(main())
