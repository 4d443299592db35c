"""The claims of a cloud's disks: finds, checks, makes and deletes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.errors import AlreadyThere, Changed, NotThere
from odc.adapters.kubernetes.volume_classes import VolumeClasses
from odc.adapters.kubernetes.volume_objects import (
    CLOUD,
    DELETING,
    PATIENCE,
    SELECTED_NODE,
    VOLUME,
    ZONE,
    Claim,
    Event,
    PersistentVolume,
    checked,
    claim_body,
    claim_name,
)
from odc.domain.errors import Hint, ProviderRefused, ProviderUnavailable
from odc.ports.volumes import Volume

_ZONE_KEY = "/zone"
"""How the keys of drivers and clouds for zones end: `topology.kubernetes.io/zone`."""


class VolumeClaims:
    """The PersistentVolumeClaims with this cloud's labels. Claims of others are refused by name and never listed."""

    def __init__(self, api: KubernetesApi, cloud: str, classes: VolumeClasses) -> None:
        """Store the arguments; the API server is not called yet."""
        self._api = api
        self._cloud = cloud
        self._classes = classes

    def find(self, disk_id: str) -> Claim | None:
        """The claim of the disk's name, whoever has made it; None if there is none."""
        return self._api.find(self._path(disk_id), Claim)

    def get(self, disk_id: str) -> Claim:
        """The disk's complete claim.

        Raises:
            ProviderRefused: it does not exist, is being deleted, or is not the one that was made for the disk.
        """
        claim = self.find(disk_id)
        if claim is None:
            raise ProviderRefused(f"the volume of disk {disk_id} does not exist")
        self.check_identity(claim, disk_id)
        if VOLUME not in claim.metadata.annotations:
            raise ProviderRefused(f"the volume of disk {disk_id} does not exist: it is not complete")
        if claim.metadata.deleted_at is not None or DELETING in claim.metadata.annotations:
            raise ProviderRefused(f"the volume of disk {disk_id} is being deleted", self._look(disk_id))
        return claim

    def list_complete(self) -> list[Claim]:
        """All complete claims of the cloud, by name."""
        found = self._api.list_all(self._path(), Claim, labelSelector=f"{CLOUD}={self._cloud}")
        return [claim for claim in found if claim.is_complete()]

    def check_identity(self, claim: Claim, disk_id: str) -> None:
        """Check that the claim was made for the disk, and still has the PersistentVolume that it was made with.

        Raises:
            ProviderRefused: somebody has made another claim of this name; it is left alone.
        """
        made_with = claim.metadata.annotations.get(VOLUME, claim.spec.volume)
        if not claim.is_of(self._cloud, disk_id) or made_with != claim.spec.volume:
            raise ProviderRefused(
                f"the claim {claim.metadata.name} is not the one of disk {disk_id}: its marker, the labels and the "
                "volume that it was made with, is missing or another one",
                self._look(disk_id),
            )
        if claim.status.phase == "Lost":
            raise ProviderRefused(
                f"the PersistentVolume {claim.spec.volume} of disk {disk_id} was deleted", self._look(disk_id)
            )

    def annotate(self, claim: Claim, annotations: Mapping[str, str | None]) -> bool:
        """Set annotations, or remove those that are None, unless the claim has changed since it was read.

        Returns:
            Whether they are set; False: it has changed or is gone.
        """
        body = {
            "metadata": {
                "uid": claim.metadata.uid,
                "resourceVersion": claim.metadata.version,
                "annotations": dict(annotations),
            }
        }
        try:
            self._api.patch(f"{self._path()}/{claim.metadata.name}", body, Claim)
        except (Changed, NotThere):
            return False
        return True

    def make(self, disk_id: str, size_bytes: int, node: str, snapshot: str) -> Volume | None:
        """Make the claim, or go on with one that is not complete.

        Args:
            disk_id: of the disk.
            size_bytes: of the volume.
            node: where it is needed first.
            snapshot: the VolumeSnapshot whose files it begins with; empty: it is empty.

        Returns:
            The volume, or None: not yet.
        """
        claim = self.find(disk_id)
        if claim is None:
            of_class = self._classes.for_volumes()
            first = node if of_class.binding == "WaitForFirstConsumer" else ""
            body = claim_body(self._cloud, disk_id, size_bytes, of_class.metadata.name, snapshot, first)
            with suppress(AlreadyThere):
                self._api.create(self._path(), body, Claim)
            return None
        self.check_identity(claim, disk_id)
        if claim.metadata.deleted_at is not None:
            self.check_deletion(claim, disk_id)
            return None
        if claim.is_complete():
            return Volume(is_new=False, zone=claim.metadata.annotations.get(ZONE, ""))
        if not claim.spec.volume:
            self._hurry(claim, disk_id, node)
            return None
        return self._complete(claim)

    def _complete(self, claim: Claim) -> Volume | None:
        volume = self._api.find(f"/api/v1/persistentvolumes/{claim.spec.volume}", PersistentVolume)
        if volume is None or claim.status.phase != "Bound":
            return None
        zone = self._zone_of(volume, claim.spec.of_class)
        if not self.annotate(claim, {VOLUME: claim.spec.volume, ZONE: zone}):
            return None
        return Volume(is_new=True, zone=zone)

    def _zone_of(self, volume: PersistentVolume, of_class: str) -> str:
        """The zone whose nodes can attach the volume; empty: all can.

        Raises:
            ProviderRefused: only some nodes can, which are not a zone: later boxes could not be placed.
        """
        if volume.spec.affinity is None:
            return ""
        terms = volume.spec.affinity.required.terms
        found = [rule for term in terms for rule in term.requirements if rule.key.endswith(_ZONE_KEY)]
        zones = {zone for rule in found for zone in rule.values}
        if len(zones) == 1:
            return zones.pop()
        keys = ", ".join(sorted({rule.key for term in terms for rule in term.requirements}))
        raise ProviderRefused(
            f"StorageClass {of_class} makes volumes that only some nodes can attach ({keys}); "
            "disks need a class whose volumes every node, or every node of one zone, can attach"
        )

    def _hurry(self, claim: Claim, disk_id: str, node: str) -> None:
        """Say why a claim still has no volume, and choose a node again if the driver has rejected the first one."""
        if self._waits_for_node(claim):
            self.annotate(claim, {SELECTED_NODE: node})
            return
        created = claim.metadata.created_at
        if created is None or datetime.now(UTC) - created < PATIENCE:
            return
        where = f"/api/v1/namespaces/{self._api.namespace}/events"
        wanted = f"involvedObject.uid={claim.metadata.uid},type=Warning"
        events = self._api.list_all(where, Event, fieldSelector=wanted)
        last = max(events, key=lambda event: event.last_at or created, default=Event(message="no driver answers"))
        raise ProviderUnavailable(f"the volume of disk {disk_id} is not made yet: {last.message}", self._look(disk_id))

    def _waits_for_node(self, claim: Claim) -> bool:
        if SELECTED_NODE in claim.metadata.annotations:
            return False
        return self._classes.get(claim.spec.of_class).binding == "WaitForFirstConsumer"

    def grow(self, claim: Claim, size_bytes: int) -> None:
        """Request a larger volume; the driver expands it later."""
        body = {
            "metadata": {"uid": claim.metadata.uid},
            "spec": {"resources": {"requests": {"storage": str(size_bytes)}}},
        }
        self._api.patch(f"{self._path()}/{claim.metadata.name}", body, Claim)

    def delete(self, disk_id: str) -> bool:
        """Delete the claim, and with it the volume, as its class says.

        Returns:
            Whether it is gone; False: not yet.
        """
        claim = self.find(disk_id)
        if claim is None:
            return True
        self.check_identity(claim, disk_id)
        if claim.metadata.deleted_at is not None:
            self.check_deletion(claim, disk_id)
            return False
        if claim.holder:
            raise ProviderUnavailable(f"disk {disk_id} is still attached to {claim.holder}")
        # Nobody attaches it from here on; a deletion has no precondition on the holder.
        if not self.annotate(claim, {DELETING: "true"}):
            return False
        try:
            self._api.delete(self._path(disk_id), claim.metadata.uid)
        except (Changed, NotThere):
            return False
        return self.find(disk_id) is None

    def check_deletion(self, claim: Claim, disk_id: str) -> None:
        """Check that the deletion of a claim does not take too long.

        Raises:
            ProviderUnavailable: it does; with what keeps the claim.
        """
        asked = claim.metadata.deleted_at
        if asked is not None and datetime.now(UTC) - asked > PATIENCE:
            kept_by = ", ".join(claim.metadata.finalizers) or "nothing"
            raise ProviderUnavailable(
                f"the claim {claim.metadata.name} of disk {disk_id} is still being deleted; its finalizers: {kept_by}",
                self._look(disk_id),
            )

    def _path(self, disk_id: str = "") -> str:
        return self._api.path("persistentvolumeclaims", claim_name(disk_id) if disk_id else "")

    def _look(self, disk_id: str) -> Hint:
        command = f"kubectl --context {self._api.context} --namespace {self._api.namespace} describe pvc"
        return Hint("details", f"{command} {claim_name(checked(disk_id))}")
