"""Claims and snapshots as Kubernetes has them: the fields that are read, and the bodies that are sent. Pure.

Source: k8s.io/api 1.34, `core/v1/types.go` and `storage/v1/types.go`; kubernetes-csi/external-snapshotter 8,
`client/apis/volumesnapshot/v1/types.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from odc.adapters.kubernetes.options import LABEL
from odc.adapters.kubernetes.quantities import amount
from odc.domain.errors import InvariantError

CLOUD, DISK, SNAPSHOT = (LABEL + name for name in ("cloud", "disk", "snapshot"))
"""Labels. No claim or snapshot without those of this cloud is ever used, changed or deleted."""
VOLUME, ZONE, HOLDER, DELETING, DESCRIPTION = (
    LABEL + name for name in ("volume", "zone", "holder", "deleting", "disk-label")
)
"""Annotations of a claim: its PersistentVolume and zone once it is complete, who has it, that it is being deleted, and
the disk's label."""
REQUESTED, VERIFIED, IN_USE = (LABEL + name for name in ("requested-at", "verified-at", "in-use"))
"""Annotations of a snapshot: when it was requested, when it was seen to be ready, and that its volume was attached."""
PATIENCE = timedelta(seconds=10)
"""How long the driver may work on a claim, and Kubernetes on its deletion, before a fault is reported."""
SELECTED_NODE = "volume.kubernetes.io/selected-node"
SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class VolumeMeta(
    msgspec.Struct,
    rename={"version": "resourceVersion", "created_at": "creationTimestamp", "deleted_at": "deletionTimestamp"},
):
    """Metadata of a claim or snapshot; `deleted_at` is set once its deletion was requested."""

    name: str
    uid: str = ""
    version: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    finalizers: list[str] = []
    created_at: datetime | None = None
    deleted_at: datetime | None = None


class Requests(msgspec.Struct):
    """The requested size."""

    requests: Mapping[str, str] = {}


class ClaimSpec(msgspec.Struct, rename={"volume": "volumeName", "of_class": "storageClassName"}):
    """What a claim asks for, and its PersistentVolume once it has one."""

    volume: str = ""
    of_class: str = ""
    resources: Requests = msgspec.field(default_factory=Requests)


class ClaimStatus(msgspec.Struct):
    """`Pending`, `Bound` or `Lost`."""

    phase: str = ""


class Claim(msgspec.Struct):
    """A PersistentVolumeClaim."""

    metadata: VolumeMeta
    spec: ClaimSpec = msgspec.field(default_factory=ClaimSpec)
    status: ClaimStatus = msgspec.field(default_factory=ClaimStatus)

    @property
    def size_bytes(self) -> int:
        """The requested size."""
        return int(amount(self.spec.resources.requests.get("storage", "0")))

    @property
    def holder(self) -> str:
        """Who has it; empty: nobody."""
        return self.metadata.annotations.get(HOLDER, "")

    def is_of(self, cloud: str, disk_id: str) -> bool:
        """Whether it was made for this disk of this cloud."""
        return self.metadata.labels.get(CLOUD) == cloud and self.metadata.labels.get(DISK) == disk_id

    def is_complete(self) -> bool:
        """Whether it is bound to the PersistentVolume that it was made with."""
        return bool(self.spec.volume) and self.metadata.annotations.get(VOLUME) == self.spec.volume


class SnapshotSource(msgspec.Struct, rename={"claim": "persistentVolumeClaimName"}):
    """The claim that a snapshot is taken of; empty for one that somebody has imported."""

    claim: str = ""


class SnapshotSpec(msgspec.Struct):
    """What a snapshot is taken of."""

    source: SnapshotSource = msgspec.field(default_factory=SnapshotSource)


class SnapshotError(msgspec.Struct):
    """Why it could not be taken yet."""

    message: str = ""


class SnapshotStatus(
    msgspec.Struct,
    rename={"is_ready": "readyToUse", "taken_at": "creationTime", "size": "restoreSize"},
):
    """What the driver says of a snapshot."""

    is_ready: bool = False
    taken_at: datetime | None = None
    size: str = "0"
    error: SnapshotError | None = None


class VolumeSnapshot(msgspec.Struct):
    """A VolumeSnapshot."""

    metadata: VolumeMeta
    spec: SnapshotSpec = msgspec.field(default_factory=SnapshotSpec)
    status: SnapshotStatus = msgspec.field(default_factory=SnapshotStatus)

    def is_of(self, cloud: str, disk_id: str) -> bool:
        """Whether it was taken of this disk of this cloud: also its source must be the disk's claim."""
        labels = self.metadata.labels
        is_ours = labels.get(CLOUD) == cloud and labels.get(DISK) == disk_id
        return is_ours and self.spec.source.claim == claim_name(disk_id)


class StorageClass(msgspec.Struct, rename={"binding": "volumeBindingMode", "can_expand": "allowVolumeExpansion"}):
    """A StorageClass."""

    metadata: VolumeMeta
    provisioner: str = ""
    binding: str = ""
    can_expand: bool = False


class SnapshotClass(msgspec.Struct):
    """A VolumeSnapshotClass."""

    metadata: VolumeMeta
    driver: str = ""


class Requirement(msgspec.Struct):
    """A condition on a node's label."""

    key: str
    values: list[str] = []


class Term(msgspec.Struct, rename={"requirements": "matchExpressions"}):
    """Conditions of which all must hold."""

    requirements: list[Requirement] = []


class Selector(msgspec.Struct, rename={"terms": "nodeSelectorTerms"}):
    """Terms of which one must hold."""

    terms: list[Term] = []


class Affinity(msgspec.Struct):
    """Which nodes can attach a volume."""

    required: Selector = msgspec.field(default_factory=Selector)


class PersistentVolumeSpec(msgspec.Struct, rename={"affinity": "nodeAffinity"}):
    """Which nodes can attach a volume; None: all."""

    affinity: Affinity | None = None


class PersistentVolume(msgspec.Struct):
    """A PersistentVolume."""

    spec: PersistentVolumeSpec


class Event(msgspec.Struct, rename={"last_at": "lastTimestamp"}):
    """An event of a claim."""

    message: str = ""
    last_at: datetime | None = None


class ClaimReference(msgspec.Struct, rename={"name": "claimName"}):
    """The claim that a pod uses."""

    name: str


class PodVolume(msgspec.Struct, rename={"claim": "persistentVolumeClaim"}):
    """A volume of a pod; None: it is not a claim's."""

    claim: ClaimReference | None = None


class VolumesOfPod(msgspec.Struct):
    """The volumes of a pod."""

    volumes: list[PodVolume] = []


class PodWithVolumes(msgspec.Struct):
    """A pod and the claims that it uses."""

    metadata: VolumeMeta
    spec: VolumesOfPod
    status: ClaimStatus = msgspec.field(default_factory=ClaimStatus)


class QuotaStatus(msgspec.Struct):
    """Limits of a namespace, and what is used of them."""

    hard: Mapping[str, str] = {}
    used: Mapping[str, str] = {}


class Quota(msgspec.Struct):
    """A ResourceQuota."""

    status: QuotaStatus = msgspec.field(default_factory=QuotaStatus)


def checked(name: str) -> str:
    """An id or a holder as a part of a name.

    Raises:
        InvariantError: it is neither; ids are made by ODC, never by users.
    """
    if not _ID.fullmatch(name):
        raise InvariantError(f"{name!r} is not an id")
    return name


def claim_name(disk_id: str) -> str:
    """Return the name of the disk's claim."""
    return f"disk-{checked(disk_id)}"


def snapshot_name(disk_id: str, snapshot_id: str) -> str:
    """Return the name of the VolumeSnapshot."""
    return f"{claim_name(disk_id)}-{checked(snapshot_id)}"


def claim_body(cloud: str, disk_id: str, size_bytes: int, of_class: str, snapshot: str, node: str) -> dict[str, Any]:
    """Return a new claim.

    Args:
        cloud: its name.
        disk_id: of the disk.
        size_bytes: of the volume.
        of_class: the StorageClass.
        snapshot: the VolumeSnapshot whose files it begins with; empty: it is empty.
        node: in whose zone it is made; empty: the driver chooses.
    """
    annotations = {SELECTED_NODE: node} if node else {}
    source = {"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": snapshot}
    return {
        "metadata": {
            "name": claim_name(disk_id),
            "labels": {CLOUD: cloud, DISK: disk_id},
            "annotations": annotations,
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": of_class,
            "resources": {"requests": {"storage": str(size_bytes)}},
            **({"dataSource": source} if snapshot else {}),
        },
    }


def snapshot_body(cloud: str, disk_id: str, snapshot_id: str, of_class: str, in_use: bool) -> dict[str, Any]:
    """Return a new VolumeSnapshot of the disk's claim.

    Args:
        cloud: its name.
        disk_id: of the disk.
        snapshot_id: of the snapshot.
        of_class: the VolumeSnapshotClass.
        in_use: the volume is attached.
    """
    annotations = {REQUESTED: datetime.now(UTC).isoformat(timespec="microseconds")}
    return {
        # The API server knows the kinds of its own groups only.
        "apiVersion": f"{SNAPSHOT_GROUP}/v1",
        "kind": "VolumeSnapshot",
        "metadata": {
            "name": snapshot_name(disk_id, snapshot_id),
            "labels": {CLOUD: cloud, DISK: disk_id, SNAPSHOT: snapshot_id},
            "annotations": annotations | ({IN_USE: "true"} if in_use else {}),
        },
        "spec": {
            "volumeSnapshotClassName": of_class,
            "source": {"persistentVolumeClaimName": claim_name(disk_id)},
        },
    }
