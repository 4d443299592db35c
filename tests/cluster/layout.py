"""Names, addresses and folders of a test cluster, all derived from its number.

Two clusters on one machine share nothing that has a number: the control plane of each listens on an address of its own,
so their ports are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lane import LANE

CLUSTERS = 256
API_PORT = 6443
ETCD_PORT = 2379
"""Of clients; the next one is for other servers, of which there are none."""
DNS_READY_PORT = 8181
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Node:
    """One node: namespaces for processes, mounts and the network on this machine.

    Attributes:
        cluster: its number.
        number: from 1.
    """

    cluster: int
    number: int

    @property
    def name(self) -> str:
        """As Kubernetes has it."""
        return f"node-{self.number}"

    @property
    def part(self) -> str:
        """Of its first process, of its network namespace and of its cgroups."""
        return f"odc-k{self.cluster}-{self.number}"

    @property
    def address(self) -> str:
        """Where its kubelet and NodePorts answer."""
        return f"10.77.{self.cluster}.{self.number}"

    @property
    def pods(self) -> str:
        """The addresses of its pods."""
        return f"10.78.{self.cluster}.{128 * (self.number - 1)}/25"

    @property
    def folder(self) -> Path:
        """Its files; parts of it are /var/lib and /var/log of its processes."""
        return Layout(self.cluster).state / self.name


@dataclass(frozen=True)
class Layout:
    """A cluster.

    Attributes:
        number: 0 to 255.
    """

    number: int

    @property
    def state(self) -> Path:
        """The folder with everything that the cluster keeps."""
        return Path(f"/var/tmp/odc-cluster-{self.number}")

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of their numbers."""
        return Node(self.number, 1), Node(self.number, 2)

    @property
    def address(self) -> str:
        """Where the control plane and DNS answer; also the route from the machine to the nodes."""
        return f"10.77.{self.number}.254"

    @property
    def pods(self) -> str:
        """The addresses of all pods."""
        return f"10.78.{self.number}.0/24"

    @property
    def services(self) -> str:
        """The addresses of services."""
        return f"10.79.{self.number}.0/24"

    @property
    def first_service(self) -> str:
        """The address of the API server in pods."""
        return f"10.79.{self.number}.1"

    @property
    def link(self) -> str:
        """The machine's network interface to the nodes, and the network namespace with their bridge."""
        return f"odc-k{self.number}"

    @property
    def api(self) -> str:
        """The URL of the API server."""
        return f"https://{self.address}:{API_PORT}"

    @property
    def certificates(self) -> Path:
        """The folder of keys and certificates."""
        return self.state / "certificates"

    @property
    def kubeconfigs(self) -> Path:
        """The folder of kubeconfig files, one for each user."""
        return self.state / "kubeconfigs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.kubeconfigs / "admin"

    @property
    def logs(self) -> Path:
        """The folder of the logs, one for each process."""
        return self.state / "logs"


def default_number() -> int:
    """The number of this process's cluster: its lane."""
    return LANE
