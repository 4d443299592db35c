"""The table `[kubernetes]` of the operator's settings. Which cluster it is, is said by `context` and `namespace`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from odc.operator.settings_rules import LABEL, PULL_POLICY, setting


class KubernetesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes, boxes and disks are found and made in a Kubernetes cluster."""

    gpu_resource: Annotated[
        str, setting("the GPUs of a node, as its device plugin calls them.", "amd.com/gpu", LABEL)
    ] = "nvidia.com/gpu"
    type_label: Annotated[
        str,
        setting(
            "label of a node that names its GPU type. A node without it has the type that the labels of NVIDIA's "
            "feature discovery say; one without GPUs is lent only with it.",
            "lab.example/gpu-type",
            LABEL,
        ),
    ] = "odc.dev/gpu-type"
    tolerated: Annotated[
        tuple[str, ...],
        setting("keys of the taints that boxes tolerate, such as that of nodes which are only for boxes.", ("gpu",)),
    ] = ("nvidia.com/gpu", "odc.dev/dedicated")
    allow_root_of_nodes: Annotated[
        bool,
        setting(
            "whether boxes may run on nodes without user namespaces, where root in a box, which users get by sudo, is "
            "root of the node.",
            True,
        ),
    ] = False
    storage_class: Annotated[
        str, setting("StorageClass of the users' disks; empty: the cluster's default.", "fast-ssd")
    ] = ""
    snapshot_class: Annotated[
        str,
        setting("VolumeSnapshotClass of their snapshots; empty: the default of the driver.", "fast-ssd-snapshots"),
    ] = ""
    pull_policy: Annotated[
        str, setting("when nodes fetch the image of boxes: IfNotPresent, Always or Never.", "Always", PULL_POLICY)
    ] = "IfNotPresent"
    pull_secrets: Annotated[
        tuple[str, ...],
        setting("Secrets of the namespace with the credentials of the image's registry.", ("registry-login",)),
    ] = ()
