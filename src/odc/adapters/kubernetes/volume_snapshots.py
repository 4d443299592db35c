"""The snapshots of a cloud's disks, as VolumeSnapshots."""

from __future__ import annotations

from datetime import UTC, datetime

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.errors import AlreadyThere, Changed, NotThere
from odc.adapters.kubernetes.quantities import amount
from odc.adapters.kubernetes.volume_classes import VolumeClasses
from odc.adapters.kubernetes.volume_objects import (
    CLOUD,
    DISK,
    IN_USE,
    PATIENCE,
    REQUESTED,
    SNAPSHOT,
    SNAPSHOT_GROUP,
    VERIFIED,
    Claim,
    VolumeSnapshot,
    checked,
    snapshot_body,
    snapshot_name,
)
from odc.domain.disk import Snapshot
from odc.domain.errors import Hint, ProviderRefused, ProviderUnavailable


class VolumeSnapshots:
    """The VolumeSnapshots with this cloud's labels that were taken of its own claims. Others are never used.

    A snapshot is complete when the driver says that it is ready to use, and that was recorded as its verification: a
    volume can be made from it. The driver's word is all that Kubernetes offers; no file was read back.
    """

    def __init__(self, api: KubernetesApi, cloud: str, classes: VolumeClasses) -> None:
        """Store the arguments; the API server is not called yet."""
        self._api = api
        self._cloud = cloud
        self._classes = classes

    def find(self, disk_id: str, snapshot_id: str) -> VolumeSnapshot | None:
        """The snapshot, complete or not; None if there is none.

        Raises:
            ProviderRefused: one of this name was made by somebody else.
        """
        found = self._api.find(self._path(disk_id, snapshot_id), VolumeSnapshot)
        if found is not None and not found.is_of(self._cloud, disk_id):
            raise ProviderRefused(
                f"the VolumeSnapshot {found.metadata.name} was not made by this cloud", self._look(disk_id, snapshot_id)
            )
        return found

    def find_complete(self, disk_id: str, snapshot_id: str) -> VolumeSnapshot:
        """The complete snapshot.

        Raises:
            ProviderRefused: there is none.
        """
        found = self.find(disk_id, snapshot_id)
        if found is None or VERIFIED not in found.metadata.annotations or found.metadata.deleted_at is not None:
            raise ProviderRefused(f"disk {disk_id} has no snapshot {snapshot_id}")
        return found

    def request(self, claim: Claim, disk_id: str, snapshot_id: str) -> None:
        """Ask the driver for a snapshot of the disk's claim; see `finish`."""
        of_class = self._classes.for_snapshots(claim.spec.of_class).metadata.name
        body = snapshot_body(self._cloud, disk_id, snapshot_id, of_class, in_use=bool(claim.holder))
        try:
            self._api.create(self._path(), body, VolumeSnapshot)
        except AlreadyThere:
            return
        except NotThere as error:
            raise ProviderRefused("the cluster has no VolumeSnapshots: no snapshot controller is installed") from error

    def finish(self, found: VolumeSnapshot, disk_id: str, snapshot_id: str) -> Snapshot | None:
        """Return the snapshot once it is ready, and record when that was first seen.

        Raises:
            ProviderUnavailable: the driver has failed, and tries again.
        """
        if VERIFIED in found.metadata.annotations:
            return _snapshot(found)
        if not found.status.is_ready or found.status.taken_at is None:
            if found.status.error is not None:
                raise ProviderUnavailable(
                    f"snapshot {snapshot_id} of disk {disk_id} is not taken yet: {found.status.error.message}",
                    self._look(disk_id, snapshot_id),
                )
            return None
        body = {
            "metadata": {
                "uid": found.metadata.uid,
                "resourceVersion": found.metadata.version,
                "annotations": {VERIFIED: datetime.now(UTC).isoformat(timespec="milliseconds")},
            }
        }
        try:
            return _snapshot(self._api.patch(self._path(disk_id, snapshot_id), body, VolumeSnapshot))
        except (Changed, NotThere):
            return None

    def list_complete(self, disk_id: str = "") -> list[VolumeSnapshot]:
        """The complete snapshots of a disk, or of all, oldest first."""
        wanted = f"{CLOUD}={self._cloud}" + (f",{DISK}={checked(disk_id)}" if disk_id else "")
        try:
            found = self._api.list_all(self._path(), VolumeSnapshot, labelSelector=wanted)
        except NotThere:
            return []
        ours = [one for one in found if one.is_of(self._cloud, one.metadata.labels.get(DISK, ""))]
        complete = [one for one in ours if VERIFIED in one.metadata.annotations and one.metadata.deleted_at is None]
        return sorted(complete, key=_order)

    def list_of(self, disk_id: str) -> tuple[Snapshot, ...]:
        """The disk's complete snapshots, oldest first."""
        return tuple(map(_snapshot, self.list_complete(disk_id)))

    def delete(self, disk_id: str, snapshot_id: str, keep_last: bool) -> bool:
        """Delete a snapshot.

        Returns:
            Whether it is gone; False: not yet.
        """
        found = self._api.find(self._path(disk_id, snapshot_id), VolumeSnapshot)
        if found is None or not found.is_of(self._cloud, disk_id):
            return True
        asked = found.metadata.deleted_at
        if asked is not None:
            if datetime.now(UTC) - asked > PATIENCE:
                kept_by = ", ".join(found.metadata.finalizers) or "nothing"
                text = f"snapshot {snapshot_id} of disk {disk_id} is still being deleted; its finalizers: {kept_by}"
                raise ProviderUnavailable(text, self._look(disk_id, snapshot_id))
            return False
        if keep_last and VERIFIED in found.metadata.annotations:
            complete = self.list_complete(disk_id)
            if complete and complete[-1].metadata.name == found.metadata.name:
                raise ProviderRefused(f"snapshot {snapshot_id} is the last one of disk {disk_id}")
        try:
            self._api.delete(self._path(disk_id, snapshot_id), found.metadata.uid)
        except (Changed, NotThere):
            return False
        return self._api.find(self._path(disk_id, snapshot_id), VolumeSnapshot) is None

    def _path(self, disk_id: str = "", snapshot_id: str = "") -> str:
        whole = f"/apis/{SNAPSHOT_GROUP}/v1/namespaces/{self._api.namespace}/volumesnapshots"
        return f"{whole}/{snapshot_name(disk_id, snapshot_id)}" if disk_id and snapshot_id else whole

    def _look(self, disk_id: str, snapshot_id: str) -> Hint:
        command = f"kubectl --context {self._api.context} --namespace {self._api.namespace} describe volumesnapshot"
        return Hint("details", f"{command} {snapshot_name(disk_id, snapshot_id)}")


def size_of(found: VolumeSnapshot) -> int:
    """Bytes of a volume that is made from it."""
    return int(amount(found.status.size))


def _order(found: VolumeSnapshot) -> tuple[datetime, str]:
    """Oldest first. The driver's time has whole seconds; within one, the time of the request decides."""
    taken = found.status.taken_at or datetime.max.replace(tzinfo=UTC)
    return taken, found.metadata.annotations.get(REQUESTED, "")


def _snapshot(found: VolumeSnapshot) -> Snapshot:
    notes = found.metadata.annotations
    verified = datetime.fromisoformat(notes[VERIFIED])
    return Snapshot(
        id=found.metadata.labels.get(SNAPSHOT, ""),
        taken_at=found.status.taken_at or verified,
        verified_at=verified,
        used_bytes=size_of(found),
        crash_consistent=IN_USE in notes,
    )
