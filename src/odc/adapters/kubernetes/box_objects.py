"""What belongs to the pod of a box: its Secret and its Service. Made with the box, and made again if they are deleted.

Users know the ports of a running box. So a Service is made again with the same ones. If something else has them by now,
it gets others, and the pod's annotation names them: the next list of boxes shows them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from odc.adapters.kubernetes import manifests
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.box_state import ports_of, ports_text
from odc.adapters.kubernetes.errors import ALL_PORTS_USED, AlreadyThere, Changed, NotThere
from odc.adapters.kubernetes.manifests import BoxObject
from odc.adapters.kubernetes.objects import ListeningPod, Named, Pod, Service
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.domain.box import BoxSeen
from odc.domain.errors import PlaceTaken, ProviderUnavailable
from odc.domain.problem import Problem, ProblemKind

FULL_S = 60.0
"""How long all node ports are taken for used after a Service got none."""
Owned = TypeVar("Owned", Named, Service)


class BoxObjects:
    """The Secrets and Services of a cloud's boxes."""

    def __init__(self, api: KubernetesApi, options: KubernetesOptions) -> None:
        """Store the arguments."""
        self._api = api
        self._options = options
        self._full_until = 0.0

    @property
    def without_ports(self) -> str:
        """Why no box can be made now: all node ports are in use; empty if that is not so, or not known.

        No call tells how many are free. So it is known from a Service that got none, for a time: then the next one
        tries.
        """
        return ALL_PORTS_USED if time.monotonic() < self._full_until else ""

    def forget_full(self) -> None:
        """Boxes have ended: there may be ports."""
        self._full_until = 0.0

    def make_secret(self, box: BoxObject, files: Mapping[str, bytes]) -> None:
        """Make the Secret, unless it is there."""
        self._make("secrets", manifests.secret(self._options, box, files), box.uid, Named)

    def make_service(
        self, box: BoxObject, ports: Mapping[str, int], outer: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Make the Service, unless it is there.

        Args:
            box: whose.
            ports: name to the port inside the box.
            outer: name to the node port that it had; another one is taken if that is in use.

        Returns:
            Name to node port.

        Raises:
            PlaceTaken: no node port is free.
        """
        body = manifests.service(self._options, box, ports, outer or {})
        try:
            made = self._make("services", body, box.uid, Service)
        except PlaceTaken as error:
            if outer:
                return self.make_service(box, ports)
            if error.message == ALL_PORTS_USED:
                self._full_until = time.monotonic() + FULL_S
            raise
        return made.ports()

    def write_ports(self, box: BoxObject, ports: Mapping[str, int], **marks: str) -> Pod:
        """Write the node ports on the pod, with other annotations."""
        body = {"metadata": {"uid": box.uid, "annotations": {manifests.PORTS: ports_text(ports), **marks}}}
        return self._api.patch(self._api.path("pods", box.pod), body, Pod)

    def _make(self, kind: str, body: Mapping[str, Any], uid: str, answer: type[Owned]) -> Owned:
        """Create an object that belongs to the pod of this uid, unless it is there.

        One that belongs to an earlier pod of this name is deleted: Kubernetes has not come to it yet. The API server
        checks node ports before names, so that those of an earlier Service are reported as taken.
        """
        path = self._api.path(kind, body["metadata"]["name"])
        try:
            return self._api.create(self._api.path(kind), body, answer)
        except (AlreadyThere, PlaceTaken) as error:
            found = self._api.find(path, answer)
            if found is None and isinstance(error, AlreadyThere):
                raise ProviderUnavailable(f"the former {kind} of {body['metadata']['name']} went just now") from error
            if found is not None and any(owner.uid == uid for owner in found.metadata.owners):
                return found
            if found is not None and found.metadata.labels.get(manifests.CLOUD) != self._options.cloud:
                raise
            return self._make_after(found, kind, body, answer)

    def _make_after(self, former: Owned | None, kind: str, body: Mapping[str, Any], answer: type[Owned]) -> Owned:
        """Create an object after one of its name that is there, or went just now."""
        if former is not None:
            with suppress(NotThere, Changed):
                self._api.delete(self._api.path(kind, former.metadata.name), former.metadata.uid)
        try:
            return self._api.create(self._api.path(kind), body, answer)
        except PlaceTaken as error:
            if former is None:
                raise
            # Kubernetes deletes it at the same time, and has not released the ports yet.
            raise ProviderUnavailable(f"the node ports of {former.metadata.name} are still in use") from error

    def restore_services(self, boxes: Sequence[BoxSeen]) -> list[Problem]:
        """Make the Services again that were deleted or changed.

        Args:
            boxes: that run.

        Returns:
            What was restored.

        Cost:
            One list, and three calls for each Service that is made again.
        """
        found = self._api.list_all(self._api.path("services"), Service, labelSelector=self._of_boxes())
        ports = {service.metadata.name: service.ports() for service in found}
        changed = [box for box in boxes if ports.get(box.container) != dict(box.ports)]
        return [problem for box in changed if (problem := self._restore_service(box)) is not None]

    def _restore_service(self, box: BoxSeen) -> Problem | None:
        owner = BoxObject(box.name, box.container, box.uid)
        path = self._api.path("pods", box.container)
        pod, inside = self._api.find(path, Pod), self._api.find(path, ListeningPod)
        if pod is None or inside is None or pod.metadata.uid != box.uid or pod.metadata.deleted_at:
            return None
        before = ports_of(pod.metadata.annotations)
        ports = self.make_service(owner, inside.ports(), before)
        if ports != before:
            with suppress(NotThere, Changed):
                self.write_ports(owner, ports)
        moved = "" if ports == before else f", with other node ports: {ports_text(ports)}"
        return _restored(box, f"its Service{moved}")

    def lost_secrets(self, boxes: Sequence[BoxSeen]) -> list[BoxSeen]:
        """Return those of these boxes whose Secret was deleted. Only the control plane has its content."""
        found = self._api.list_metadata(self._api.path("secrets"), Named, labelSelector=self._of_boxes())
        names = {secret.metadata.name for secret in found}
        return [box for box in boxes if box.container not in names]

    def _of_boxes(self) -> str:
        return f"{manifests.selector(self._options.cloud)},{manifests.RANK}"


def _restored(box: BoxSeen, what: str) -> Problem:
    return Problem(kind=ProblemKind.BOX_OBJECT_RESTORED, box=str(box.name), container=box.container, detail=what)
