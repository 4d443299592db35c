"""Disks on Kubernetes: a disk's volume is a PersistentVolumeClaim, its snapshots are VolumeSnapshots of a CSI driver.

Everything is in the API server, and nothing in memory. The holder of a volume is an annotation of its claim, which is
written only if the claim has not changed meanwhile; the box's pod mounts it. The volume is `nosuid,nodev` if its
StorageClass has these mount options. The kubelet shows the owners of files in the range of each pod.
"""

from __future__ import annotations

import msgspec

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.options import LABEL, KubernetesOptions
from odc.adapters.kubernetes.quantities import amount
from odc.adapters.kubernetes.volume_claims import VolumeClaims
from odc.adapters.kubernetes.volume_classes import VolumeClasses
from odc.adapters.kubernetes.volume_listing import SnapshotListings
from odc.adapters.kubernetes.volume_objects import (
    CLOUD,
    DESCRIPTION,
    DISK,
    HOLDER,
    PodWithVolumes,
    Quota,
    checked,
    claim_name,
    snapshot_name,
)
from odc.adapters.kubernetes.volume_snapshots import VolumeSnapshots, size_of
from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.domain.file_listing import encode_listing
from odc.domain.storage import DiskUse, StorageUse
from odc.ports.blob_store import BlobStore
from odc.ports.volumes import Attachment, Source, Volume

UNLIMITED_BYTES = 2**60
"""The size of the storage where the namespace has no quota of it: a driver does not tell how much it could make."""
_QUOTA = "requests.storage"
_RESERVATION = f"{LABEL}reservation"
_OVER = frozenset(("Succeeded", "Failed"))
_TRIES = 5


class KubernetesVolumes:
    """See `odc.ports.volumes`. A verified snapshot is one that its driver calls ready to use (`VolumeSnapshots`)."""

    def __init__(
        self,
        api: KubernetesApi,
        options: KubernetesOptions,
        blobs: BlobStore,
        image: str,
        storage_class: str,
        snapshot_class: str,
    ) -> None:
        """Store the arguments; the API server is not called yet.

        Args:
            api: with the namespace of the claims.
            options: of the cloud's boxes.
            blobs: where listings are written.
            image: of boxes; it lists the files of snapshots.
            storage_class: of new volumes; empty: the cluster's default.
            snapshot_class: of new snapshots, by the same driver; empty: the driver's default.
        """
        self._api = api
        self._cloud = options.cloud
        self._blobs = blobs
        self._classes = VolumeClasses(api, storage_class, snapshot_class)
        self._claims = VolumeClaims(api, options.cloud, self._classes)
        self._snapshots = VolumeSnapshots(api, options.cloud, self._classes)
        self._listings = SnapshotListings(api, options, image, self._classes)

    def describe(self) -> str:
        """Describe the storage: `StorageClass gp3, VolumeSnapshotClass gp3 (ebs.csi.aws.com)`.

        Raises:
            ProviderRefused: one of the classes is missing.
        """
        of_class = self._classes.for_volumes()
        name = of_class.metadata.name
        snapshot_class = self._classes.for_snapshots(name).metadata.name
        return f"StorageClass {name}, VolumeSnapshotClass {snapshot_class} ({of_class.provisioner})"

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder."""
        return {claim.metadata.labels[DISK]: claim.holder for claim in self._claims.list_complete() if claim.holder}

    def create(self, disk_id: str, size_bytes: int, node: str, source: Source | None = None) -> Volume | None:
        """Make the claim. With a class that waits for a consumer, the volume is made in the zone of the node."""
        snapshot = ""
        if source is not None and self._claims.find(disk_id) is None:
            found = self._snapshots.find_complete(source.disk_id, source.snapshot_id)
            snapshot, size_bytes = found.metadata.name, max(size_bytes, size_of(found))
        return self._claims.make(disk_id, size_bytes, node, snapshot)

    def label(self, label: VolumeLabel) -> None:
        """Write the label as an annotation of the claim."""
        text = msgspec.json.encode(label).decode()
        for _ in range(_TRIES):
            claim = self._claims.find(label.disk_id)
            if claim is None or not claim.is_of(self._cloud, label.disk_id) or not claim.is_complete():
                return
            if self._claims.annotate(claim, {DESCRIPTION: text}):
                return
        raise ProviderUnavailable(f"the claim of disk {label.disk_id} changes all the time")

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the label of each complete claim."""
        found = []
        for claim in self._claims.list_complete():
            disk_id = claim.metadata.labels[DISK]
            text = claim.metadata.annotations.get(DESCRIPTION)
            found.append(msgspec.json.decode(text, type=VolumeLabel) if text else VolumeLabel(disk_id=disk_id))
        return tuple(sorted(found, key=lambda label: label.disk_id))

    def attach(self, disk_id: str, holder: str, node: str, id_base: int = 0) -> Attachment | None:
        """Record the holder at the claim. The handle is the claim's name; the range of ids is the kubelet's choice."""
        for _ in range(_TRIES):
            claim = self._claims.get(disk_id)
            if claim.holder == checked(holder):
                return Attachment(handle=claim.metadata.name)
            if claim.holder:
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {claim.holder}")
            if self._claims.annotate(claim, {HOLDER: holder}):
                return Attachment(handle=claim.metadata.name)
        return None

    def detach(self, disk_id: str, holder: str) -> bool:
        """Remove the holder from the claim, once no pod of its reservation uses it."""
        for _ in range(_TRIES):
            claim = self._claims.find(disk_id)
            if claim is None or not claim.is_of(self._cloud, disk_id) or claim.holder != checked(holder):
                return True
            self._check_unused(disk_id, holder)
            if self._claims.annotate(claim, {HOLDER: None}):
                return True
        return False

    def _check_unused(self, disk_id: str, holder: str) -> None:
        wanted = f"{CLOUD}={self._cloud},{_RESERVATION}={holder.rpartition('-')[0]}"
        for pod in self._api.list_all(self._api.path("pods"), PodWithVolumes, labelSelector=wanted):
            claims = {volume.claim.name for volume in pod.spec.volumes if volume.claim is not None}
            if claim_name(disk_id) in claims and pod.status.phase not in _OVER:
                raise ProviderUnavailable(f"disk {disk_id} is still used by pod {pod.metadata.name}")

    def snapshot(self, disk_id: str, snapshot_id: str, in_use: bool = False) -> Snapshot | None:
        """Take a snapshot. The driver copies at one moment and may go on for hours until it is ready to use."""
        found = self._snapshots.find(disk_id, snapshot_id)
        if found is None:
            claim = self._claims.get(disk_id)
            if claim.holder and not in_use:
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {claim.holder}")
            self._snapshots.request(claim, disk_id, snapshot_id)
            return None
        return self._snapshots.finish(found, disk_id, snapshot_id)

    def write_listing(self, disk_id: str, snapshot_id: str, key: str) -> bool:
        """Write what a pod lists; see `volume_listing`."""
        found = self._snapshots.find_complete(disk_id, snapshot_id)
        if not self._blobs.exists(key):
            entries = self._listings.read(found, size_of(found))
            if entries is None:
                return False
            self._blobs.put(key, encode_listing(entries))
        self._listings.forget(found.metadata.name)
        return True

    def list_snapshots(self, disk_id: str) -> tuple[Snapshot, ...]:
        """The complete snapshots, oldest first."""
        return self._snapshots.list_of(disk_id)

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Let the volume grow. Kubernetes cannot make one smaller: it keeps its size then.

        Raises:
            ProviderRefused: the StorageClass does not allow it.
        """
        claim = self._claims.get(disk_id)
        if size_bytes <= claim.size_bytes:
            return
        of_class = self._classes.get(claim.spec.of_class)
        if not of_class.can_expand:
            raise ProviderRefused(
                f"volumes of StorageClass {of_class.metadata.name} cannot grow: it has no `allowVolumeExpansion: true`"
            )
        self._claims.grow(claim, size_bytes)

    def delete(self, disk_id: str) -> bool:
        """Delete the claim; its snapshots stay."""
        return self._claims.delete(disk_id)

    def delete_snapshot(self, disk_id: str, snapshot_id: str, keep_last: bool = True) -> bool:
        """Delete a VolumeSnapshot, and the pod that lists its files."""
        self._listings.forget(snapshot_name(disk_id, snapshot_id))
        return self._snapshots.delete(disk_id, snapshot_id, keep_last)

    def measure(self) -> StorageUse:
        """Return the requested sizes: what files take is known to their boxes only.

        The size of the storage is the namespace's quota of `requests.storage`, or unlimited. Without a quota, snapshots
        count with the size that a volume from them would have; incremental ones take less.
        """
        claims = self._claims.list_complete()
        disks = {claim.metadata.labels[DISK]: DiskUse(limit_bytes=claim.size_bytes) for claim in claims}
        total, used = self._quota()
        if total == UNLIMITED_BYTES:
            used = sum(claim.size_bytes for claim in claims) + sum(map(size_of, self._snapshots.list_complete()))
        return StorageUse(total_bytes=total, free_bytes=max(total - used, 0), disks=disks)

    def _quota(self) -> tuple[int, int]:
        """The smallest quota of storage, and what is used of it."""
        quotas = self._api.list_all(self._api.path("resourcequotas"), Quota)
        found = [
            (int(amount(quota.status.hard[_QUOTA])), int(amount(quota.status.used.get(_QUOTA, "0"))))
            for quota in quotas
            if _QUOTA in quota.status.hard
        ]
        return min(found, key=lambda pair: pair[0] - pair[1], default=(UNLIMITED_BYTES, 0))
