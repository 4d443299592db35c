"""What ODC reads of Kubernetes' objects: the fields that it needs, so that long lists are decoded fast.

Names of fields are those of the API. Source: k8s.io/api 1.34, `core/v1/types.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Owner(msgspec.Struct):
    """The object with which another one is deleted."""

    uid: str


class Meta(
    msgspec.Struct,
    rename={
        "owners": "ownerReferences",
        "deleted_at": "deletionTimestamp",
        "grace_s": "deletionGracePeriodSeconds",
    },
):
    """Metadata of any object; the last two are set once its deletion was requested."""

    name: str
    uid: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    owners: list[Owner] = []
    deleted_at: str | None = None
    grace_s: int | None = None


class Named(msgspec.Struct):
    """An object of which only the metadata are read."""

    metadata: Meta


class Condition(msgspec.Struct):
    """A condition of a node or pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Waiting(msgspec.Struct):
    """Why a container does not run yet, or not again."""

    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, rename={"exit_code": "exitCode", "finished_at": "finishedAt"}):
    """How a container ended; `message` is the end of what it printed."""

    exit_code: int
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class ContainerState(msgspec.Struct):
    """One of these is set; none is for a container that waits without a reason."""

    waiting: Waiting | None = None
    running: Mapping[str, str | None] | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, rename={"last_state": "lastState", "restart_count": "restartCount"}):
    """A pod's container now, and how it ended last."""

    name: str
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    restart_count: int = 0


class PodStatus(msgspec.Struct, rename={"containers": "containerStatuses"}):
    """The kubelet's and the scheduler's view of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = []
    containers: list[ContainerStatus] = []


class ContainerImage(msgspec.Struct):
    """The part of a container's specification that errors name."""

    image: str = ""


class PodSpec(msgspec.Struct, rename={"gates": "schedulingGates", "node": "nodeName"}):
    """Where a pod is, and whether it may be scheduled."""

    node: str = ""
    gates: list[Mapping[str, str]] = []
    containers: list[ContainerImage] = []


class Pod(msgspec.Struct):
    """A pod of this cloud."""

    metadata: Meta
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type; None if the pod has none."""
        return next((found for found in self.status.conditions if found.type == kind), None)


class Event(msgspec.Struct):
    """What a component of the cluster has told about an object."""

    message: str = ""


class Requirements(msgspec.Struct):
    """What a container asks for."""

    requests: Mapping[str, str] = {}


class RequestingContainer(msgspec.Struct, rename={"restart": "restartPolicy"}):
    """A container of another tenant's pod."""

    resources: Requirements = msgspec.field(default_factory=Requirements)
    restart: str = ""


class RequestingSpec(msgspec.Struct, rename={"node": "nodeName", "first_containers": "initContainers"}):
    """What another tenant's pod asks for, and where."""

    node: str = ""
    containers: list[RequestingContainer] = []
    first_containers: list[RequestingContainer] = []
    overhead: Mapping[str, str] = {}


class RequestingPod(msgspec.Struct):
    """A pod of another tenant."""

    spec: RequestingSpec


class Taint(msgspec.Struct):
    """A taint of a node."""

    key: str
    effect: str


class NodeSpec(msgspec.Struct):
    """What an operator has set for a node."""

    unschedulable: bool = False
    taints: list[Taint] = []


class Address(msgspec.Struct):
    """An address of a node."""

    type: str
    address: str


class NodeInfo(msgspec.Struct):
    """Facts about a node's system."""

    architecture: str = ""


class Features(msgspec.Struct, rename={"user_namespaces": "userNamespaces"}):
    """What a container runtime can do."""

    user_namespaces: bool = False


class RuntimeHandler(msgspec.Struct):
    """A container runtime of a node; the default one has no name."""

    name: str = ""
    features: Features = msgspec.field(default_factory=Features)


class NodeStatus(msgspec.Struct, rename={"info": "nodeInfo", "handlers": "runtimeHandlers"}):
    """The kubelet's view of its node."""

    capacity: Mapping[str, str] = {}
    allocatable: Mapping[str, str] = {}
    conditions: list[Condition] = []
    addresses: list[Address] = []
    info: NodeInfo = msgspec.field(default_factory=NodeInfo)
    handlers: list[RuntimeHandler] = []


class KubernetesNode(msgspec.Struct):
    """A node."""

    metadata: Meta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class ContainerPort(msgspec.Struct, rename={"number": "containerPort"}):
    """A port that a container listens at."""

    name: str
    number: int


class ListeningContainer(msgspec.Struct):
    """The ports of a container."""

    ports: list[ContainerPort] = []


class ListeningSpec(msgspec.Struct):
    """The part of a pod's specification with its ports."""

    containers: list[ListeningContainer] = []


class ListeningPod(msgspec.Struct):
    """A box's pod with the ports inside the box."""

    spec: ListeningSpec

    def ports(self) -> dict[str, int]:
        """Name to port."""
        return {port.name: port.number for container in self.spec.containers for port in container.ports}


class ServicePort(msgspec.Struct, rename={"node_port": "nodePort"}):
    """A port of a Service."""

    name: str = ""
    node_port: int = 0


class ServiceSpec(msgspec.Struct):
    """The ports of a Service."""

    ports: list[ServicePort] = []


class Service(msgspec.Struct):
    """A Service of a box."""

    metadata: Meta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)

    def ports(self) -> dict[str, int]:
        """Name to node port."""
        return {port.name: port.node_port for port in self.spec.ports}
