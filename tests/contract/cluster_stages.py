"""Clusters of every kind, each with the accidents that the contract plays on it."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.cluster import lifecycle, processes
from tests.engine import Engine
from tests.image import IMAGE
from tests.lane import listening_port
from tests.pods import RUNTIME, PodCloud
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.adapters.memory.cluster import MemoryCluster
from odc.domain.box import BoxName, BoxSeen, BoxSpec, StartPhase, StartWait
from odc.domain.resources import share_of
from odc.ports.cluster import Cluster

PYTHON = Path("/usr/bin/python3").resolve()
EMPTY_REGISTRY = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    asked, _ = server.accept()
    asked.recv(65536)
    asked.sendall(b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    asked.close()
"""
"""A registry without images. A node asks one at its own loopback without TLS, after it has tried with TLS."""


class Stage(Protocol):
    """A cluster, and the accidents that a test plays on it."""

    @property
    def cluster(self) -> Cluster:
        """The cluster."""

    def spec(self, **changes: Any) -> BoxSpec:
        """A box that can be made."""

    def delete_by_hand(self, name: BoxName) -> None:
        """Someone deletes the box behind the cluster's back."""

    def end_by_itself(self, name: BoxName) -> None:
        """The box's first process ends."""

    def break_down(self) -> None:
        """Nothing answers any more."""

    def repair(self) -> None:
        """It answers again."""

    def another_process(self) -> Cluster:
        """The same cluster, without what this process has in memory."""

    def port_taken(self, port: int) -> AbstractContextManager[object]:
        """Another program has this port."""

    def image_not_there(self) -> AbstractContextManager[StartPhase | None]:
        """Nodes have to fetch the image first; what a start waits for then. None: a node always has it."""

    def unknown_image(self) -> AbstractContextManager[str]:
        """An image that does not exist."""

    @property
    def reads_reports(self) -> bool:
        """Whether the cluster can read what a running box reports."""

    @property
    def starts_again(self) -> bool:
        """Whether the cluster starts a box that has ended again by itself."""

    def keys_in_effect(self, name: BoxName, key: Path) -> int | None:
        """How many keys open the box; None if it cannot be entered with this one."""


@dataclass
class MemoryStage:
    """The cluster in memory."""

    cluster: MemoryCluster

    def spec(self, **changes: Any) -> BoxSpec:
        (node,) = self.cluster.list_nodes()
        rank, attempt = changes.pop("rank", 0), changes.pop("attempt", 1)
        defaults: dict[str, Any] = {
            "name": BoxName(changes.pop("reservation_id", uuid.uuid4().hex), attempt, rank),
            "node": node.name,
            "image": "box",
            "hostname": "train",
            "gpus": node.gpus[:1],
            "gpu_type": node.gpu_type,
            "units": 1,
            "resources": share_of(node.allocatable, 1, node.units),
            "files": {"name": b"train\n"},
        }
        return BoxSpec(**(defaults | changes))

    def delete_by_hand(self, name: BoxName) -> None:
        self.cluster.vanish(name)

    def end_by_itself(self, name: BoxName) -> None:
        self.cluster.exit_box(name, 0, "its first process ended")

    def break_down(self) -> None:
        self.cluster.go_down()

    def repair(self) -> None:
        self.cluster.heal()

    def another_process(self) -> Cluster:
        return self.cluster

    @contextmanager
    def port_taken(self, port: int) -> Iterator[None]:
        self.cluster.strangers.add(port)
        yield
        self.cluster.strangers.remove(port)

    @contextmanager
    def image_not_there(self) -> Iterator[StartPhase]:
        self.cluster.start_wait = StartWait(StartPhase.IMAGE, "the node fetches the image")
        yield self.cluster.start_wait.phase
        self.cluster.start_wait = None

    def unknown_image(self) -> AbstractContextManager[str]:
        return nullcontext("none")

    reads_reports = True
    starts_again = False

    def keys_in_effect(self, name: BoxName, key: Path) -> int | None:
        return _reported_keys(self.cluster, name)


@dataclass
class EngineStage:
    """The cluster on Podman."""

    engine: Engine

    @property
    def cluster(self) -> Cluster:
        return self.engine.cluster

    def spec(self, **changes: Any) -> BoxSpec:
        return self.engine.spec(**changes)

    def _container(self, name: BoxName) -> str:
        return f"odc-{self.engine.cloud}-{name}"

    def delete_by_hand(self, name: BoxName) -> None:
        self.engine.podman("rm", "-f", "-t", "0", self._container(name), check=False)

    def end_by_itself(self, name: BoxName) -> None:
        self.engine.podman("stop", "-t", "10", self._container(name))

    def break_down(self) -> None:
        self.engine.kill_service()

    def repair(self) -> None:
        self.engine.start_service()

    def another_process(self) -> Cluster:
        return EngineCluster(self.engine.api, self.engine.nodes, self.engine.options)

    def port_taken(self, port: int) -> AbstractContextManager[object]:
        return socket.create_server(("127.0.0.1", port))

    def image_not_there(self) -> AbstractContextManager[None]:
        return nullcontext()

    def unknown_image(self) -> AbstractContextManager[str]:
        return nullcontext("localhost/odceng/none:1")

    reads_reports = True
    starts_again = False

    def keys_in_effect(self, name: BoxName, key: Path) -> int | None:
        return _reported_keys(self.cluster, name)


@dataclass
class KubernetesStage:
    """The cluster on Kubernetes."""

    pods: PodCloud

    @property
    def cluster(self) -> Cluster:
        return self.pods.cluster

    def spec(self, **changes: Any) -> BoxSpec:
        return self.pods.spec(**changes)

    def delete_by_hand(self, name: BoxName) -> None:
        box = self.pods.box(name)
        self.pods.ask(self.pods.api.path("pods", box.container), "DELETE", {"gracePeriodSeconds": 0})

    def end_by_itself(self, name: BoxName) -> None:
        # The kubelet starts it again at once, and the second time after ten seconds.
        box = self.pods.box(name)
        for ends in (1, 2):
            eventually("it runs", lambda: "running" in self._container(box)["state"])
            self.pods.kill(box, "SIGTERM")
            eventually("it ended", lambda ends=ends: self._ends(box) == ends)  # type: ignore[misc]

    def _container(self, box: BoxSeen) -> Any:
        (status,) = self.pods.pod(box)["status"]["containerStatuses"]
        return status

    def _ends(self, box: BoxSeen) -> int:
        status = self._container(box)
        waits = status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        restarts: int = status["restartCount"]
        return restarts + int(waits)

    def break_down(self) -> None:
        processes.stop(self.pods.layout, "apiserver", "kube-apiserver")

    def repair(self) -> None:
        lifecycle.start_control_plane(self.pods.layout)
        lifecycle.wait_until_ready(self.pods.layout)

    def another_process(self) -> Cluster:
        return KubernetesCluster(self.pods.api, self.pods.options)

    @contextmanager
    def port_taken(self, port: int) -> Iterator[None]:
        # Only if someone has deleted the box's own Service.
        services = self.pods.api.path("services")
        for service in self.pods.ask(services)["items"]:
            if port in (each.get("nodePort") for each in service["spec"].get("ports", ())):
                self.pods.ask(f"{services}/{service['metadata']['name']}", "DELETE")
        ports = [{"port": 80, "nodePort": port}]
        self.pods.ask(
            services, "POST", {"metadata": {"name": "stranger"}, "spec": {"type": "NodePort", "ports": ports}}
        )
        yield
        self.pods.ask(f"{services}/stranger", "DELETE")

    @contextmanager
    def image_not_there(self) -> Iterator[StartPhase]:
        for each in self.pods.layout.nodes:
            processes.run_inside(each, *RUNTIME, "images", "tag", "--force", IMAGE, "kept.test/box:1")
            processes.run_inside(each, *RUNTIME, "images", "rm", "--sync", IMAGE)
        try:
            yield StartPhase.IMAGE
        finally:
            for each in self.pods.layout.nodes:
                processes.run_inside(each, *RUNTIME, "images", "tag", "--force", "kept.test/box:1", IMAGE)

    @contextmanager
    def unknown_image(self) -> Iterator[str]:
        first, port = self.pods.layout.nodes[0], listening_port(0)
        processes.start(self.pods.layout, "registry", [str(PYTHON), "-c", EMPTY_REGISTRY, str(port)], first)
        try:
            yield f"127.0.0.1:{port}/odceng/none:1"
        finally:
            processes.stop(self.pods.layout, "registry", PYTHON.name)

    reads_reports = False
    starts_again = True

    def keys_in_effect(self, name: BoxName, key: Path) -> int | None:
        done = self.pods.ssh(self.pods.box(name), "odc-box keys", key)
        return int(done.stdout.split()[0]) if done.returncode == 0 else None


def _reported_keys(cluster: Cluster, name: BoxName) -> int | None:
    box = next((box for box in cluster.list_boxes() if box.name == name), None)
    return box.report.keys if box and box.report else None
