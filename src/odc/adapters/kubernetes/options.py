"""What the operator has set for nodes and boxes on Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass, field

from odc.domain.catalog import Catalog

LABEL = "odc.dev/"
"""Begins every label and annotation of ODC."""
NODE_ADDRESSES = ("ExternalIP", "InternalIP")


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """The options of one cloud.

    Attributes:
        cloud: its name; the label of everything that it makes.
        program: `odc-box`.
        catalog: the known GPU types.
        gpu_resource: the device plugin's name of GPUs, as in a node's allocatable.
        type_label: the label of a node that names its GPU type. Without it, the type follows from the labels of
            NVIDIA's feature discovery.
        address: where users reach the boxes' ports, for all nodes; empty: each node's own address.
        pull_policy: when nodes fetch the image: `IfNotPresent`, `Always` or `Never`.
        pull_secrets: Secrets of the namespace with the registry's credentials.
        tolerated: keys of taints that boxes tolerate, such as that of nodes that are for boxes only.
        allow_root_of_nodes: whether boxes may run on nodes without user namespaces. There, root in a box, which users
            get by sudo, is root of the node: who gets out of the container has the node. Nodes that have them use them
            all the same.
        layer_bytes: how much a box may write outside its volumes; 0: no limit. Kubernetes evicts a box that exceeds it.
        grace_s: seconds that processes have to end.
    """

    cloud: str
    program: bytes
    catalog: Catalog = field(default_factory=Catalog)
    gpu_resource: str = "nvidia.com/gpu"
    type_label: str = f"{LABEL}gpu-type"
    address: str = ""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    tolerated: tuple[str, ...] = ("nvidia.com/gpu", f"{LABEL}dedicated")
    allow_root_of_nodes: bool = False
    layer_bytes: int = 0
    grace_s: int = 30
