"""The cluster on Kubernetes: boxes as pods. See `manifests` for what a box is, and `box_state` for what a pod says.

The API server is the only thing that is asked, and nothing is kept in memory that a later process needs. A list of
boxes is one call for each 500 of them; making a box is six calls and starting it three, of some milliseconds each.
The right to run commands in pods is not needed.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from odc.adapters.kubernetes import manifests
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.box_objects import BoxObjects
from odc.adapters.kubernetes.box_state import (
    box_name,
    box_seen,
    ending,
    ending_words,
    is_over,
    pod_words,
    ports_of,
    runs_never,
    start_wait,
)
from odc.adapters.kubernetes.errors import AlreadyThere, Changed, NotThere, shortened
from odc.adapters.kubernetes.manifests import BoxObject, PodPlace
from odc.adapters.kubernetes.nodes import (
    NO_USER_NAMESPACES,
    address_of,
    has_user_namespaces,
    is_ready,
    node_of,
    requests_by_node,
)
from odc.adapters.kubernetes.objects import Event, KubernetesNode, Named, Pod, RequestingPod, Service
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.domain.box import SSH, BoxName, BoxSeen, BoxSpec, BoxState, StartWait
from odc.domain.errors import BoxGone, PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.host import HostReport
from odc.domain.node import Node
from odc.domain.problem import Problem

SHARED_CHECK_S = 60.0
"""How long the objects that all boxes share are taken for present."""
OBJECTS_CHECK_S = 30.0
"""The pause between two checks of the Secrets and Services of boxes."""
NODES_FRESH_S = 2.0
"""A pass lists the nodes right before the boxes."""
_STARTED = (BoxState.CREATED, BoxState.RUNNING)
GREETING_LIMIT_S = 0.2
ASK_BOXES_S = 1.0
"""How long one check of the host asks boxes itself, whose probes fail."""
LEAST_GRACE_S = 1
"""With 0 the API server forgets the pod at once, while its processes may still run."""


class KubernetesCluster:
    """See `odc.ports.cluster`. Labels mark this cloud's objects; no others are changed."""

    def __init__(self, api: KubernetesApi, options: KubernetesOptions) -> None:
        """Store the arguments; the API server is not called yet."""
        self._api = api
        self._options = options
        self._objects = BoxObjects(api, options)
        self._shared_until = self._objects_until = 0.0
        self._ready: tuple[float, frozenset[str]] = (-math.inf, frozenset())
        self._delete_command = f"kubectl --context {api.context} --namespace {api.namespace} delete pod"

    def list_nodes(self) -> tuple[Node, ...]:
        """Return the nodes that have a GPU type, each with what other tenants' pods hold on it."""
        known = self._known_nodes()
        others = self._api.list_all(
            "/api/v1/pods",
            RequestingPod,
            labelSelector=f"{manifests.CLOUD}!={self._options.cloud}",
            fieldSelector="status.phase!=Succeeded,status.phase!=Failed",
        )
        held = requests_by_node(others)
        nodes = [node_of(node, held.get(node.metadata.name, {}), self._options) for node in known]
        full = self._objects.without_ports
        lent = (replace(node, full=node.full or full) if full else node for node in nodes if node is not None)
        return tuple(sorted(lent, key=lambda node: node.name))

    def _known_nodes(self) -> list[KubernetesNode]:
        known = self._api.list_all("/api/v1/nodes", KubernetesNode)
        self._ready = time.monotonic(), frozenset(node.metadata.name for node in known if is_ready(node))
        return known

    def list_boxes(self) -> tuple[BoxSeen, ...]:
        """Return every box of this cloud, by name."""
        pods = self._api.list_all(self._api.path("pods"), Pod, labelSelector=manifests.selector(self._options.cloud))
        return tuple(sorted(self._boxes_of(pods), key=lambda box: box.name))

    def _boxes_of(self, pods: list[Pod]) -> Iterator[BoxSeen]:
        if time.monotonic() - self._ready[0] > NODES_FRESH_S:
            self._known_nodes()
        for pod in pods:
            if (box := box_seen(pod, self._delete_command, self._ready[1])) is not None:
                yield box

    def list_remains(self) -> tuple[tuple[str, int], ...]:
        """Return reservation and attempt of every Secret and Service of a box."""
        found = set()
        for kind in ("secrets", "services"):
            objects = self._api.list_metadata(
                self._api.path(kind), Named, labelSelector=f"{manifests.selector(self._options.cloud)},{manifests.RANK}"
            )
            for labels in (one.metadata.labels for one in objects):
                key, number = labels.get(manifests.RESERVATION, ""), labels.get(manifests.ATTEMPT, "")
                if key and number.isdecimal():
                    found.add((key, int(number)))
        return tuple(sorted(found))

    def create_box(self, spec: BoxSpec) -> BoxSeen:
        """Make the box's pod, gated, then its Secret and its Service, which belong to the pod."""
        self._make_shared()
        pod = self._find(spec.name)
        replaced = ""
        if pod is not None and is_over(pod):
            # Evicted, or refused by the kubelet: this pod never runs again, another one may.
            self._delete(pod, LEAST_GRACE_S)
            replaced, pod = self._why_over(pod), None
        if pod is not None and pod.metadata.deleted_at:
            raise ProviderUnavailable(f"box {spec.name} is being deleted by someone else; it is made again afterwards")
        if pod is None:
            pod = self._make_pod(spec, replaced)
        if not ports_of(pod.metadata.annotations):
            pod = self._complete(pod, spec)
        seen = box_seen(pod, self._delete_command)
        if seen is None or seen.name != spec.name:
            raise ProviderRefused(f"pod {pod.metadata.name} is in the way: it is not box {spec.name}")
        return seen

    def _why_over(self, pod: Pod) -> str:
        """Why the pod never runs again. The kubelet tells of some evictions by an event only."""
        if pod.status.reason:
            return pod_words(pod)
        selector = f"involvedObject.uid={pod.metadata.uid},reason=Evicted"
        found = self._api.list_all(self._api.path("events"), Event, fieldSelector=selector)
        return f"Evicted: {shortened(found[-1].message)}" if found else pod_words(pod)

    def _make_shared(self) -> None:
        if time.monotonic() < self._shared_until:
            return
        for kind, body in (
            ("configmaps", manifests.program(self._options)),
            ("services", manifests.headless()),
        ):
            with suppress(AlreadyThere):
                self._api.create(self._api.path(kind), body, Named)
        self._shared_until = time.monotonic() + SHARED_CHECK_S

    def _make_pod(self, spec: BoxSpec, replaced: str) -> Pod:
        node = self._api.find(f"/api/v1/nodes/{spec.node}", KubernetesNode)
        if node is None:
            raise ProviderRefused(f"there is no node {spec.node}")
        own = has_user_namespaces(node)
        if not own and not self._options.allow_root_of_nodes:
            raise ProviderRefused(f"{spec.node} takes no boxes: {NO_USER_NAMESPACES}")
        program = str(manifests.program(self._options)["metadata"]["name"])
        body = manifests.pod(self._options, spec, PodPlace(address_of(node, self._options), program, own, replaced))
        try:
            return self._api.create(self._api.path("pods"), body, Pod)
        except AlreadyThere as error:
            # Made by another process since it was looked for, or a pod that is not ours.
            found = self._api.find(self._api.path("pods", manifests.pod_name(spec)), Pod)
            if found is None or found.metadata.deleted_at:
                raise ProviderUnavailable(f"the former pod of box {spec.name} is still being deleted") from error
            if found.metadata.labels.get(manifests.CLOUD) != self._options.cloud:
                raise
            return found

    def _complete(self, pod: Pod, spec: BoxSpec) -> Pod:
        """Make what belongs to the pod, and write its ports on it."""
        owner = BoxObject(spec.name, pod.metadata.name, pod.metadata.uid)
        self._objects.make_secret(owner, spec.files)
        ports = self._objects.make_service(owner, spec.ports, spec.kept_ports)
        return self._objects.write_ports(owner, ports, **{manifests.FILES: manifests.digest(spec.files)})

    def start_box(self, name: BoxName, uid: str) -> StartWait | None:
        """Remove the gate of the pod of this uid; the scheduler, the kubelet and the runtime do the rest."""
        pod = self._find(name)
        if pod is None or pod.metadata.uid != uid:
            raise BoxGone(f"box {name} ({uid[:12]}) is not there")
        if pod.spec.gates:
            self._check_service(pod)
            body = {"metadata": {"uid": uid}, "spec": {"schedulingGates": []}}
            try:
                pod = self._api.patch(self._api.path("pods", pod.metadata.name), body, Pod)
            except NotThere as error:
                raise BoxGone(f"box {name} ({uid[:12]}) is not there any more") from error
        return start_wait(pod)

    def _check_service(self, pod: Pod) -> None:
        """Check that the box still has its ports.

        Raises:
            PlaceTaken: someone deleted its Service; its ports may belong to another one by now.
        """
        service = self._api.find(self._api.path("services", pod.metadata.name), Service)
        ports = {} if service is None else service.ports()
        if ports != ports_of(pod.metadata.annotations):
            raise PlaceTaken("its Service was deleted or changed, and its node ports with it")

    def ssh_answers(self, box: BoxSeen) -> bool:
        """Whether the SSH server answers at its node port, or has answered the kubelet's probe, which runs once in a
        second: node ports may not be reachable from here.
        """
        pod = self._api.find(self._api.path("pods", box.container), Pod)
        if pod is None or pod.metadata.uid != box.uid:
            raise BoxGone(f"box {box.name} is not there any more")
        if is_over(pod):
            raise BoxGone(f"the box ended: {pod_words(pod)}")
        ended = ending(pod)
        if ended is not None and runs_never(pod):
            raise ProviderRefused(f"the box ended with {ended.exit_code}: {ending_words(ended)}")
        ready = pod.condition("Ready")
        return (ready is not None and ready.status == "True") or _greets(box.address, box.ports.get(SSH, 0))

    def write_files(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        """Replace files in the box's Secret, and change an annotation of its pod: the kubelet then applies it at once
        and not in a minute.
        """
        pod = self._find(name)
        if pod is None:
            return
        try:
            self._api.patch(self._api.path("secrets", pod.metadata.name), {"data": manifests.secret_data(files)}, Named)
        except NotThere:
            # Someone deleted it. The kubelet has kept the files in the box.
            self._objects.make_secret(BoxObject(name, pod.metadata.name, pod.metadata.uid), files)
        with suppress(NotThere):
            marks = {manifests.FILES: manifests.digest(files)}
            self._api.patch(self._api.path("pods", pod.metadata.name), {"metadata": {"annotations": marks}}, Named)

    def end_box(self, name: BoxName, uid: str, grace: timedelta) -> bool:
        """Request the deletion of the pod. It is listed until the kubelet has ended its processes."""
        pod = self._find(name)
        if pod is None or pod.metadata.uid != uid:
            return True
        seconds = max(math.ceil(grace.total_seconds()), LEAST_GRACE_S)
        asked = pod.metadata.grace_s if pod.metadata.deleted_at else None
        if asked is None or seconds < asked:
            self._delete(pod, seconds)
        return False

    def _delete(self, pod: Pod, grace_s: int) -> None:
        with suppress(NotThere, Changed):
            self._api.delete(self._api.path("pods", pod.metadata.name), pod.metadata.uid, grace_s)

    def clean_up(self, reservation_id: str, attempt: int) -> None:
        """Delete the Secrets and Services of the attempts up to this one."""
        self._objects.forget_full()
        numbers = ",".join(map(str, range(attempt + 1)))
        mine = f"{manifests.CLOUD}={self._options.cloud},{manifests.RESERVATION}={reservation_id}"
        for kind in ("secrets", "services"):
            self._api.delete_all(self._api.path(kind), f"{mine},{manifests.ATTEMPT} in ({numbers})")

    def check_host(self, boxes: Sequence[BoxSeen]) -> HostReport:
        """Find the boxes whose SSH server no probe reaches, and restore what someone deleted: the objects that all
        boxes share, and Services. A Secret is only named: its content comes from the control plane.
        """
        self._shared_until = 0.0
        self._make_shared()
        pods = self._api.list_all(self._api.path("pods"), Pod, labelSelector=manifests.selector(self._options.cloud))
        ready = {pod.metadata.uid for pod in pods if (found := pod.condition("Ready")) and found.status == "True"}
        # The kubelet's word is up to some seconds old, and right after a start it has none yet.
        asked_until = time.monotonic() + ASK_BOXES_S
        ready |= {
            box.uid
            for box in boxes
            if box.uid not in ready and time.monotonic() < asked_until and _greets(box.address, box.ports.get(SSH, 0))
        }
        lost = {box.uid: "no probe reaches its SSH server" for box in boxes if box.uid not in ready}
        repaired: tuple[Problem, ...] = ()
        files_lost: frozenset[str] = frozenset()
        if time.monotonic() >= self._objects_until:
            running = [box for box in self._boxes_of(pods) if box.state in _STARTED and box.ports]
            repaired = tuple(self._objects.restore_services(running))
            files_lost = frozenset(box.uid for box in self._objects.lost_secrets(running))
            # What was lost is looked for again at once, until nothing is.
            self._objects_until = 0.0 if repaired or files_lost else time.monotonic() + OBJECTS_CHECK_S
        return HostReport(
            reachable=frozenset(box.uid for box in boxes if box.uid in ready),
            unreachable=lost,
            repaired=repaired,
            files_lost=files_lost,
        )

    def _find(self, name: BoxName) -> Pod | None:
        """Return the pod of the box; None if there is none."""
        found = self._api.list_all(
            self._api.path("pods"), Pod, labelSelector=manifests.selector(self._options.cloud, name)
        )
        return next((pod for pod in found if box_name(pod) == name), None)


def _greets(address: str, port: int) -> bool:
    """Whether an SSH server answers there."""
    try:
        with socket.create_connection((address, port), timeout=GREETING_LIMIT_S) as connection:
            connection.settimeout(GREETING_LIMIT_S)
            return connection.recv(8).startswith(b"SSH-")
    except OSError:
        return False
