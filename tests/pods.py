"""A cloud on the test cluster, in a namespace of its own, for tests of the Kubernetes adapter."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.boxes import end_box
from tests.cluster import api, node, processes
from tests.cluster.layout import Layout, Node
from tests.engine import Keys, make_keys
from tests.image import IMAGE, ensure_image
from tests.lane import lane_name, locked
from tests.waiting import eventually

from odc.adapters.engine.image import box_files
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.domain.box import SSH, BoxName, BoxSeen, BoxSpec
from odc.domain.resources import share_of

GPU_TYPE = "t4"
RUNTIME = ["ctr", "--address", node.CONTAINERD_SOCKET, "--namespace", "k8s.io"]
"""The command line of a node's container runtime."""


@dataclass
class PodCloud:
    """A cloud of its own."""

    layout: Layout
    api: KubernetesApi
    options: KubernetesOptions
    cluster: KubernetesCluster
    keys: Keys

    @property
    def namespace(self) -> str:
        return self.api.namespace

    def spec(self, **changes: Any) -> BoxSpec:
        """A box on the first node with one GPU."""
        rank = changes.pop("rank", 0)
        attempt = changes.pop("attempt", 1)
        name = BoxName(changes.pop("reservation_id", uuid.uuid4().hex), attempt, rank)
        found = self.cluster.list_nodes()[0]
        defaults: dict[str, Any] = {
            "name": name,
            "node": found.name,
            "image": IMAGE,
            "hostname": "train",
            "gpus": (),
            "gpu_type": found.gpu_type,
            "units": 1,
            "resources": share_of(found.allocatable, 1, found.units),
            "files": self.files(),
        }
        return BoxSpec(**(defaults | changes))

    def files(self) -> dict[str, bytes]:
        """What `docs/box.md` says that a box reads, in its smallest form."""
        texts = {
            "authorized_keys": self.keys.public + "\n",
            "ssh_host_ed25519_key": self.keys.host_private,
            "ssh_host_ed25519_key.pub": self.keys.host_public + "\n",
            "name": "train\n",
            "env": "",
            "disk_id": "",
        }
        return {path: text.encode() for path, text in texts.items()}

    def box(self, name: BoxName) -> BoxSeen:
        """The box as a list shows it."""
        return next(box for box in self.cluster.list_boxes() if box.name == name)

    def start(self, spec: BoxSpec) -> BoxSeen:
        """Make and start the box and wait for its SSH."""
        box = self.cluster.create_box(spec)
        eventually("the box runs", lambda: self.cluster.start_box(spec.name, box.uid) is None)
        eventually("SSH answers", lambda: self.cluster.ssh_answers(box))
        return box

    def ssh(self, box: BoxSeen, command: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the box by real ssh."""
        options = ["-F", "none", "-i", str(key or self.keys.private), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        words = ["ssh", *options, "-p", str(box.ports[SSH]), f"dev@{box.address}", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """A request to the API server as the cluster's administrator."""
        return api.request(self.layout, path, method, body)

    def pod(self, box: BoxSeen) -> Any:
        """The whole pod of a box."""
        return self.ask(self.api.path("pods", box.container))

    def node_of(self, box: BoxSeen) -> Node:
        """The test cluster's node on which the box is."""
        return next(each for each in self.layout.nodes if each.name == box.node)

    def kill(self, box: BoxSeen, signal: str) -> None:
        """Send a signal to the box's first process, from its node."""
        (status,) = self.pod(box)["status"]["containerStatuses"]
        container = status["containerID"].partition("//")[2]
        processes.run_inside(self.node_of(box), *RUNTIME, "tasks", "kill", "--signal", signal, container)

    def forget_everything(self) -> None:
        """Delete every box of this cloud."""
        for box in self.cluster.list_boxes():
            end_box(self.cluster, box.name, box.uid)
            self.cluster.clean_up(box.name.reservation_id, box.name.attempt)


@contextmanager
def pod_cloud(layout: Layout, folder: Path) -> Iterator[PodCloud]:
    """A cloud in a new namespace; the nodes have the image of boxes and a GPU type.

    Args:
        layout: of a cluster that runs.
        folder: for keys.
    """
    load_box_image(layout)
    for each in layout.nodes:
        labels = {"metadata": {"labels": {"odc.dev/gpu-type": GPU_TYPE}}}
        api.request(layout, f"/api/v1/nodes/{each.name}", "PATCH", labels)
    cloud = lane_name("pods", uuid.uuid4().hex[:6])
    api.request(layout, "/api/v1/namespaces", "POST", {"metadata": {"name": cloud}})
    connection = KubernetesApi(layout.kubeconfig, namespace=cloud)
    options = KubernetesOptions(cloud=cloud, program=(box_files() / "odc-box").read_bytes(), grace_s=2)
    made = PodCloud(layout, connection, options, KubernetesCluster(connection, options), make_keys(folder / "keys"))
    eventually("the namespace has its service account", lambda: _exists(layout, f"{cloud}/serviceaccounts/default"))
    try:
        yield made
    finally:
        made.forget_everything()
        connection.close()
        api.request(layout, f"/api/v1/namespaces/{cloud}", "DELETE")
        eventually(f"namespace {cloud} is gone", lambda: not _exists(layout, cloud))


def load_box_image(layout: Layout) -> None:
    """Give every node the image of boxes, unless it has it."""
    ensure_image()
    with locked(f"cluster-{layout.number}-image"):
        missing = [
            each
            for each in layout.nodes
            if IMAGE not in processes.run_inside(each, *RUNTIME, "images", "ls", "-q").split()
        ]
        if not missing:
            return
        path = layout.state / "box.tar"
        path.unlink(missing_ok=True)
        save = ["podman", "save", "-q", "--format", "docker-archive", "-o", str(path), IMAGE]
        subprocess.run(save, check=True, capture_output=True)
        for each in missing:
            node.load_image(each, path)
        path.unlink()


def _exists(layout: Layout, path: str) -> bool:
    try:
        api.request(layout, f"/api/v1/namespaces/{path}")
    except HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True
