"""Kubernetes' nodes as ODC's. Pure.

A node belongs to the cloud if its labels name a GPU type, or if it offers GPUs whose product is labelled by NVIDIA's
feature discovery. A node without GPUs is lent only if the label says so: `odc.dev/gpu-type=cpu-x86`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from odc.adapters.kubernetes.objects import KubernetesNode, RequestingContainer, RequestingPod
from odc.adapters.kubernetes.options import LABEL, NODE_ADDRESSES, KubernetesOptions
from odc.adapters.kubernetes.quantities import amount, millis
from odc.domain.node import Node
from odc.domain.resources import REQUEST_PERCENT, Capacity

_PRODUCT, _MEMORY_MIB = "nvidia.com/gpu.product", "nvidia.com/gpu.memory"
_ZONE = "topology.kubernetes.io/zone"
SIMULATED = f"{LABEL}simulated"
"""The label of nodes whose GPUs are simulated; its value is `true`."""
NO_USER_NAMESPACES = (
    "it has no user namespaces, without which root in a box is root of the node; needed are Kubernetes 1.33, "
    "containerd 2 or CRI-O, and Linux 6.3, or the setting allow_root_of_nodes"
)
_TAKES_NOTHING = frozenset(("NoSchedule", "NoExecute"))
_BY_KUBERNETES = "node.kubernetes.io/"

Requests = Mapping[str, Decimal]
"""Resource to the amount that pods request."""


def requests_by_node(pods: Iterable[RequestingPod]) -> dict[str, dict[str, Decimal]]:
    """Return node to what these pods request there; those that are not scheduled request nothing."""
    found: dict[str, dict[str, Decimal]] = {}
    for pod in pods:
        if pod.spec.node:
            sums = found.setdefault(pod.spec.node, {})
            for name, value in _requests_of(pod).items():
                sums[name] = sums.get(name, Decimal(0)) + value
    return found


def _requests_of(pod: RequestingPod) -> dict[str, Decimal]:
    """As the scheduler counts: the containers' sum, or the largest of those that run before them.

    Source: Kubernetes documentation, "Init Containers", "Resource sharing within containers"; "Sidecar Containers".
    """
    lasting = [one for one in pod.spec.first_containers if one.restart == "Always"]
    sums = _sum([*pod.spec.containers, *lasting])
    for container in pod.spec.first_containers:
        for name, value in container.resources.requests.items():
            sums[name] = max(sums.get(name, Decimal(0)), amount(value))
    for name, value in pod.spec.overhead.items():
        sums[name] = sums.get(name, Decimal(0)) + amount(value)
    return sums


def _sum(containers: Iterable[RequestingContainer]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for container in containers:
        for name, value in container.resources.requests.items():
            sums[name] = sums.get(name, Decimal(0)) + amount(value)
    return sums


def node_of(found: KubernetesNode, held: Requests, options: KubernetesOptions) -> Node | None:
    """Return the node as ODC lends it; None if it does not belong to the cloud.

    Args:
        found: as the API server has it.
        held: what other tenants' pods request on it.
        options: of the cloud.
    """
    gpu_type = _type_of(found, options)
    if not gpu_type:
        return None
    has_gpus = options.catalog.has_gpus(gpu_type)
    units, offered = _units(found, gpu_type, has_gpus, options)
    if not units:
        return None
    allocatable = _capacity(found.status.allocatable)
    gpus_held = int(held.get(options.gpu_resource, Decimal(0))) if has_gpus else 0
    return Node(
        name=found.metadata.name,
        gpu_type=gpu_type,
        units=units,
        capacity=_capacity(found.status.capacity),
        allocatable=allocatable,
        zone=found.metadata.labels.get(_ZONE, ""),
        labels=found.metadata.labels,
        arch=found.status.info.architecture,
        ready=is_ready(found),
        simulated=found.metadata.labels.get(SIMULATED) == "true",
        cordoned=found.spec.unschedulable or bool(foreign_taints(found, options)),
        address=address_of(found, options),
        full=_full(found, offered, options),
        held_units=_held_units(allocatable, units, gpus_held, held),
    )


def _full(found: KubernetesNode, offered: bool, options: KubernetesOptions) -> str:
    if not offered:
        return "its device plugin offers no GPU"
    return "" if options.allow_root_of_nodes or has_user_namespaces(found) else NO_USER_NAMESPACES


def has_user_namespaces(found: KubernetesNode) -> bool:
    """Whether the node's default container runtime can give a pod a user namespace, by the kubelet's account."""
    return any(handler.features.user_namespaces for handler in found.status.handlers if not handler.name)


def is_ready(found: KubernetesNode) -> bool:
    """Whether the kubelet reports that it is ready, and did so lately."""
    return any(one.type == "Ready" and one.status == "True" for one in found.status.conditions)


def address_of(found: KubernetesNode, options: KubernetesOptions) -> str:
    """Return where users reach the ports of the node's boxes; empty if the node has no address."""
    by_kind = {one.type: one.address for one in reversed(found.status.addresses)}
    own = next((by_kind[kind] for kind in NODE_ADDRESSES if kind in by_kind), "")
    return options.address or own


def foreign_taints(found: KubernetesNode, options: KubernetesOptions) -> list[str]:
    """Return the keys of the taints that keep boxes away, without those that Kubernetes sets by itself."""
    return [
        taint.key
        for taint in found.spec.taints
        if taint.effect in _TAKES_NOTHING
        and taint.key not in options.tolerated
        and not taint.key.startswith(_BY_KUBERNETES)
    ]


def _type_of(found: KubernetesNode, options: KubernetesOptions) -> str:
    labels = found.metadata.labels
    if options.type_label in labels:
        return labels[options.type_label]
    product = labels.get(_PRODUCT, "")
    if not product or options.gpu_resource not in found.status.capacity:
        return ""
    return options.catalog.type_of_gpu(product.replace("-", " "), float(amount(labels.get(_MEMORY_MIB, "0"))) / 1024)


def _units(found: KubernetesNode, gpu_type: str, has_gpus: bool, options: KubernetesOptions) -> tuple[int, bool]:
    """Return the node's units, and whether there are any to offer now.

    After a restart the kubelet offers no GPU until the device plugin has registered again. The node keeps its units
    for that time, or every promise on it would be withdrawn.
    """
    if not has_gpus:
        return options.catalog.get_type(gpu_type).units_per_node, True
    offered = int(amount(found.status.allocatable.get(options.gpu_resource, "0")))
    return offered or int(amount(found.status.capacity.get(options.gpu_resource, "0"))), offered > 0


def _capacity(amounts: Mapping[str, str]) -> Capacity:
    return Capacity(cpu_millis=millis(amounts.get("cpu", "0")), memory_bytes=int(amount(amounts.get("memory", "0"))))


def _held_units(allocatable: Capacity, units: int, gpus_held: int, held: Requests) -> int:
    """Return how many units other pods hold: their GPUs, or so much CPU or memory that fewer shares are left.

    The scheduler would refuse a box whose requests do not fit, however many GPUs are free.
    """
    left = units - gpus_held
    for name, whole, scale in (("cpu", allocatable.cpu_millis, 1000), ("memory", allocatable.memory_bytes, 1)):
        share = max(whole * REQUEST_PERCENT // 100 // units, 1)
        left = min(left, (whole - int(held.get(name, Decimal(0)) * scale)) // share)
    return units - max(left, 0)
