"""A box as Kubernetes' objects: a pod, its Secret and its Service, and what the boxes of a cloud share. Pure.

The rights of a box:

* It has a user namespace of its own (`hostUsers: false`): users of a box have sudo, and without that its root would be
  the node's root. Only where the operator allows that (`allow_root_of_nodes`), a node may do without.
* No capability beyond the runtime's default ones; none to make packets or devices by hand.
* No token of the API server.

A pod is made with a scheduling gate and pinned by its node's name in an affinity. With `nodeName` the scheduler would
not run, so the gate would do nothing, and the kubelet could refuse the pod because a GPU is not free.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from odc.adapters.kubernetes.options import LABEL, KubernetesOptions
from odc.domain.box import BOX_PORTS, HOME, SSH, BoxName, BoxSpec
from odc.domain.errors import InvariantError

GATE = f"{LABEL}start"
CLOUD, RESERVATION, ATTEMPT, RANK = (LABEL + name for name in ("cloud", "reservation", "attempt", "rank"))
GPU_TYPE, UNITS = f"{LABEL}box-gpu-type", f"{LABEL}box-units"
COMPONENT, BOX = f"{LABEL}component", "box"
NODE, ADDRESS, PORTS, FILES, REPLACES = (LABEL + name for name in ("node", "address", "ports", "files", "replaces"))
HEADLESS = "gpu-dev-headless"
CONTAINER = "box"
SHORT_ID = 8
MAX_LABEL = 63
STOP_EXTRA_S = 5
STARTUP_LIMIT_S = 3600
"""So long the kubelet lets a box be silent before it restarts it; the control plane gives up much earlier."""
_LAYER = "ephemeral-storage"
PROGRAM_PATH = "/usr/local/bin/odc-box"
PROGRAM_MOUNT = {"name": "program", "mountPath": PROGRAM_PATH, "subPath": "odc-box", "readOnly": True}
_NOT_ALLOWED = re.compile(r"[^a-z0-9]+")


class BoxObject(NamedTuple):
    """The pod to which an object of a box belongs.

    Attributes:
        name: of the box.
        pod: the name of its pod, Secret and Service.
        uid: of the pod.
    """

    name: BoxName
    pod: str
    uid: str


def pod_name(spec: BoxSpec) -> str:
    """Return the name of the box's pod, Secret and Service: the same each time, and no other attempt's."""
    name = spec.name
    return _named(spec, f"-{name.reservation_id[:SHORT_ID]}-{name.attempt}-{name.rank}")


def dns_name(spec: BoxSpec) -> str:
    """Return the host name of the box, unique in the namespace: the reservation's name, a part of its id, the rank."""
    return _named(spec, f"-{spec.name.reservation_id[:SHORT_ID]}-{spec.name.rank}")


def _named(spec: BoxSpec, ending: str) -> str:
    base = _NOT_ALLOWED.sub("-", spec.hostname.lower().removesuffix(f"-{spec.name.rank}")).strip("-")
    # The name of a Service begins with a letter.
    base = base if base[:1].isalpha() else f"box-{base}".rstrip("-")
    return base[: MAX_LABEL - len(ending)].rstrip("-") + ending


def selector(cloud: str, name: BoxName | None = None) -> str:
    """Return the label selector of a box, or of all boxes of a cloud."""
    wanted = {CLOUD: cloud} if name is None else identity(cloud, name)
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def identity(cloud: str, name: BoxName) -> dict[str, str]:
    """Return the labels that only one box has."""
    return {CLOUD: cloud, RESERVATION: name.reservation_id, ATTEMPT: str(name.attempt), RANK: str(name.rank)}


class PodPlace(NamedTuple):
    """What a pod depends on besides its box.

    Attributes:
        address: where users reach its ports.
        program: name of the ConfigMap with `odc-box`.
        user_namespace: whether it gets one.
        replaced: why the pod before it, of the same name, ended for good; empty if there was none.
    """

    address: str
    program: str
    user_namespace: bool = True
    replaced: str = ""


def pod(options: KubernetesOptions, spec: BoxSpec, place: PodPlace) -> dict[str, Any]:
    """Return the box's pod, gated.

    Args:
        options: of the cloud.
        spec: of the box.
        place: of the pod.
    """
    name = pod_name(spec)
    labels = {
        **identity(options.cloud, spec.name),
        GPU_TYPE: spec.gpu_type,
        UNITS: str(spec.units),
        COMPONENT: BOX,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {NODE: spec.node, ADDRESS: place.address, REPLACES: place.replaced},
        },
        "spec": {
            "hostUsers": not place.user_namespace,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "schedulingGates": [{"name": GATE}],
            "affinity": {"nodeAffinity": _on_node(spec.node)},
            "tolerations": _tolerations(options),
            "hostname": dns_name(spec),
            "subdomain": HEADLESS,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": options.grace_s + STOP_EXTRA_S,
            "imagePullSecrets": [{"name": secret} for secret in options.pull_secrets],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [_container(options, spec)],
            "volumes": _volumes(spec, name, place.program),
        },
    }


def _on_node(node: str) -> dict[str, Any]:
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [named]}}


def _tolerations(options: KubernetesOptions) -> list[dict[str, Any]]:
    # A node that is silent for a time keeps its boxes. With a limit they would be deleted as soon as it answers again.
    silent = [f"node.kubernetes.io/{word}" for word in ("not-ready", "unreachable")]
    lasting = [{"key": key, "operator": "Exists", "effect": "NoExecute"} for key in silent]
    return [*lasting, *({"key": key, "operator": "Exists"} for key in options.tolerated)]


def _container(options: KubernetesOptions, spec: BoxSpec) -> dict[str, Any]:
    mounts = [
        {"name": "files", "mountPath": "/run/odc", "readOnly": True},
        PROGRAM_MOUNT,
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        *(
            {"name": f"volume-{number}", "mountPath": mount.target, "readOnly": mount.read_only}
            for number, mount in enumerate(spec.mounts)
        ),
    ]
    if not _has_home(spec):
        mounts.append({"name": "home", "mountPath": HOME})
    # Accepting a connection is the proof: an image with only a shell cannot read what the server says.
    greets = {"tcpSocket": {"port": BOX_PORTS[SSH]}, "timeoutSeconds": 2}
    return {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": options.pull_policy,
        "command": [PROGRAM_PATH, "run"],
        "workingDir": "/",
        "env": [{"name": name, "value": value} for name, value in _environment(options, spec).items()],
        "ports": [{"name": name, "containerPort": port} for name, port in spec.ports.items()],
        "resources": _resources(options, spec),
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["AUDIT_WRITE"], "drop": ["NET_RAW", "MKNOD"]}},
        # The end of the log says why a box ended.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": {**greets, "periodSeconds": 1, "failureThreshold": STARTUP_LIMIT_S},
        "readinessProbe": {**greets, "periodSeconds": 20},
        "volumeMounts": mounts,
    }


def _environment(options: KubernetesOptions, spec: BoxSpec) -> dict[str, str]:
    """Return the settings of `odc-box`. Nothing but the box writes to a claim, so the box writes its marker too."""
    home = next((mount for mount in spec.mounts if mount.target == HOME), None)
    marker = {} if home is None else {"ODC_MARKER": "new" if home.is_new else "lost"}
    return {"ODC_GRACE": str(options.grace_s), **marker}


def _has_home(spec: BoxSpec) -> bool:
    return any(mount.target == HOME for mount in spec.mounts)


def _resources(options: KubernetesOptions, spec: BoxSpec) -> dict[str, dict[str, str]]:
    request, limit = spec.resources.request, spec.resources.limit
    gpus = {options.gpu_resource: str(spec.units)} if options.catalog.has_gpus(spec.gpu_type) else {}
    requests = {"cpu": f"{request.cpu_millis}m", "memory": str(request.memory_bytes), **gpus}
    limits = {"cpu": f"{limit.cpu_millis}m", "memory": str(limit.memory_bytes), **gpus}
    if options.layer_bytes:
        # Without a request of its own, the limit would be requested: a disk that boxes rarely fill would hold few.
        requests[_LAYER], limits[_LAYER] = "0", str(options.layer_bytes)
    return {"requests": requests, "limits": limits}


def _volumes(spec: BoxSpec, name: str, program: str) -> list[dict[str, Any]]:
    shm = {"medium": "Memory", "sizeLimit": str(spec.resources.shm_bytes)}
    volumes: list[dict[str, Any]] = [
        {"name": "files", "secret": {"secretName": name}},
        {"name": "program", "configMap": {"name": program, "defaultMode": 0o555}},
        {"name": "shm", "emptyDir": shm},
        *(
            {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": mount.handle}}
            for number, mount in enumerate(spec.mounts)
        ),
    ]
    if not _has_home(spec):
        # Kept when the kubelet restarts the container, which then has a new layer.
        volumes.append({"name": "home", "emptyDir": {}})
    return volumes


def secret(options: KubernetesOptions, box: BoxObject, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the Secret with the box's files; it is deleted with the pod."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _owned(options, box), "data": secret_data(files)}


def secret_data(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the data of a Secret that is mounted as these files."""
    nested = next((path for path in files if "/" in path), None)
    if nested is not None:
        raise InvariantError(f"a box reads no folders below /run/odc: {nested}")
    return {path: base64.b64encode(content).decode() for path, content in files.items()}


def digest(files: Mapping[str, bytes]) -> str:
    """Return a digest of the files, for the annotation by which the kubelet learns of a change at once."""
    state = hashlib.blake2b(digest_size=8)
    for path, content in sorted(files.items()):
        state.update(f"{path}\0{len(content)}\0".encode() + content)
    return state.hexdigest()


def service(
    options: KubernetesOptions, box: BoxObject, ports: Mapping[str, int], outer: Mapping[str, int]
) -> dict[str, Any]:
    """Return the Service with the box's node ports; it is deleted with the pod.

    Args:
        options: of the cloud.
        box: whose Service.
        ports: name to the port inside the box.
        outer: name to the node port; the API server chooses those that are not given.
    """
    published = [
        {"name": name, "port": port, "targetPort": port, **({"nodePort": outer[name]} if name in outer else {})}
        for name, port in ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _owned(options, box),
        "spec": {
            "type": "NodePort",
            "selector": identity(options.cloud, box.name),
            # Reachable as soon as the server listens, and also while a box is so busy that a probe fails.
            "publishNotReadyAddresses": True,
            # Only its own node answers, without another hop, and the box sees who connects. An address of all nodes
            # may lead to any of them.
            "externalTrafficPolicy": "Cluster" if options.address else "Local",
            "ports": published,
        },
    }


def _owned(options: KubernetesOptions, box: BoxObject) -> dict[str, Any]:
    return {
        "name": box.pod,
        "labels": identity(options.cloud, box.name),
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": box.pod, "uid": box.uid}],
    }


def program(options: KubernetesOptions) -> dict[str, Any]:
    """Return the ConfigMap with `odc-box`, named after its content, so that boxes keep the one that they began with."""
    version = hashlib.blake2b(options.program, digest_size=5).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"odc-box-{version}", "labels": {COMPONENT: "program"}},
        "immutable": True,
        "data": {"odc-box": options.program.decode()},
    }


def headless() -> dict[str, Any]:
    """Return the Service by which boxes find each other in DNS."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": HEADLESS},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {COMPONENT: BOX}},
    }
