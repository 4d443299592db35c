"""The files of a snapshot, listed by a pod that mounts a copy of it.

The API server cannot read volumes, and running commands in boxes would be a right to everything in them. So a pod of
its own mounts a volume that is made from the snapshot, writes the listing to its log, and ends; the log is read, and
the pod deleted, and the volume with it. All state is in the API server: a call looks at the pod and does the next step.

The kubelet keeps the last 10 MiB of a log only. The pod writes less than that, compressed: a listing of more than about
a million files is cut.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from odc.adapters.kubernetes import manifests
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.errors import AlreadyThere, Changed, NotThere
from odc.adapters.kubernetes.objects import Condition, ContainerStatus, Named
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.adapters.kubernetes.volume_classes import VolumeClasses
from odc.adapters.kubernetes.volume_objects import CLOUD, SNAPSHOT_GROUP, VolumeMeta, VolumeSnapshot
from odc.domain.box import HOME
from odc.domain.errors import Hint, ProviderRefused, ProviderUnavailable
from odc.domain.file_listing import CUT, FileEntry

COMPONENT = "listing"
CANNOT_LIST = 69
"""The exit code of `odc-box listing` in an image that lacks a program for it."""
MOST_LOG_BYTES = 9_000_000
PATIENCE = timedelta(seconds=60)
"""How long a pod may wait for its node, volume and image before that is reported."""
LIMIT_S = 1800
"""How long it may read."""
_PIECE = 2**16
_END, _UNREADABLE = b"end", b"\xff"
_SEPARATOR = b"//"
_SWAPPED = bytes.maketrans(b"/\x01", b"\x01/")


class _Status(msgspec.Struct, rename={"containers": "containerStatuses"}):
    phase: str = ""
    reason: str = ""
    conditions: list[Condition] = []
    containers: list[ContainerStatus] = []


class _Pod(msgspec.Struct):
    metadata: VolumeMeta
    status: _Status = msgspec.field(default_factory=_Status)


class SnapshotListings:
    """Lists the files of a cloud's snapshots."""

    def __init__(self, api: KubernetesApi, options: KubernetesOptions, image: str, classes: VolumeClasses) -> None:
        """Store the arguments; the API server is not called yet.

        Args:
            api: with the namespace of the claims.
            options: of the cloud's boxes.
            image: of boxes; it has `find`, `sort`, `gzip` and `base64`.
            classes: of disks; the copies have that of new volumes.
        """
        self._api = api
        self._options = options
        self._image = image
        self._classes = classes

    def read(self, snapshot: VolumeSnapshot, size_bytes: int) -> Iterator[FileEntry] | None:
        """Return the entries of a complete snapshot, or None: not yet.

        Args:
            snapshot: whose files.
            size_bytes: of a volume that is made from it.

        Raises:
            ProviderUnavailable: the pod does not start, or has failed; another one is made by the next call.
            ProviderRefused: the image cannot list files.
        """
        pod = self._api.find(self._path("pods", snapshot), _Pod)
        if pod is None:
            self._make_pod(snapshot, size_bytes)
            return None
        if pod.metadata.labels.get(CLOUD) != self._options.cloud:
            raise ProviderRefused(f"pod {pod.metadata.name} is in the way: it is not of this cloud", self._look(pod))
        if pod.metadata.deleted_at is not None:
            self.forget(snapshot.metadata.name)
            return None
        if pod.status.phase == "Succeeded":
            return self._logged(snapshot)
        if pod.status.phase == "Failed":
            raise self._failed(pod, snapshot)
        self._check_progress(pod)
        return None

    def forget(self, snapshot_name: str) -> None:
        """Delete the pod of a snapshot, if there is one; its claim goes with it."""
        path = self._api.path("pods", _name(snapshot_name))
        pod = self._api.find(path, _Pod)
        if pod is None or pod.metadata.labels.get(CLOUD) != self._options.cloud:
            return
        grace_s = 1
        if pod.metadata.deleted_at is not None:
            if datetime.now(UTC) - pod.metadata.deleted_at < PATIENCE:
                return
            # Its node is lost. It only reads a copy, so it does no harm if it still runs there.
            grace_s = 0
        with suppress(NotThere, Changed):
            self._api.delete(path, pod.metadata.uid, grace_s)

    def _make_pod(self, snapshot: VolumeSnapshot, size_bytes: int) -> None:
        program = manifests.program(self._options)
        # As `create_box` does: the boxes of an earlier version have another one.
        with suppress(AlreadyThere):
            self._api.create(self._api.path("configmaps"), program, Named)
        name = _name(snapshot.metadata.name)
        of_class = self._classes.for_volumes().metadata.name
        copy = _copy(self._options, snapshot.metadata.name, of_class, size_bytes)
        body = _pod(self._options, name, self._image, str(program["metadata"]["name"]), copy)
        with suppress(AlreadyThere):
            self._api.create(self._api.path("pods"), body, _Pod)

    def _logged(self, snapshot: VolumeSnapshot) -> Iterator[FileEntry] | None:
        try:
            return self._whole(self._api.get_text(f"{self._path('pods', snapshot)}/log"), snapshot)
        except NotThere:
            # The pod was deleted meanwhile, or its node has deleted the log. It would be refused for good.
            self.forget(snapshot.metadata.name)
            return None

    def _whole(self, log: bytes, snapshot: VolumeSnapshot) -> Iterator[FileEntry]:
        try:
            yield from entries_of(log)
        except ProviderUnavailable:
            # It would be read again and again; another pod may do better.
            self.forget(snapshot.metadata.name)
            raise

    def _check_progress(self, pod: _Pod) -> None:
        created = pod.metadata.created_at
        if pod.status.phase == "Running" or created is None or datetime.now(UTC) - created < PATIENCE:
            return
        waiting = next((one.state.waiting for one in pod.status.containers if one.state.waiting is not None), None)
        scheduled = next((one for one in pod.status.conditions if one.type == "PodScheduled"), None)
        why = (waiting.message or waiting.reason) if waiting else scheduled.message if scheduled else ""
        raise ProviderUnavailable(
            f"the files of a snapshot are not listed yet: pod {pod.metadata.name} does not start: {why or 'unknown'}",
            self._look(pod),
        )

    def _failed(self, pod: _Pod, snapshot: VolumeSnapshot) -> ProviderRefused | ProviderUnavailable:
        """Return the error that says why the pod has failed; it is deleted, so that the next call makes another one."""
        ended = next((one.state.terminated for one in pod.status.containers if one.state.terminated is not None), None)
        self.forget(snapshot.metadata.name)
        if ended is not None and ended.exit_code == CANNOT_LIST:
            return ProviderRefused(f"image {self._image} cannot list files: it needs findutils, gzip and coreutils")
        why = f"ended with {ended.exit_code}" if ended is not None else pod.status.reason or "failed"
        return ProviderUnavailable(f"the files of a snapshot are not listed yet: pod {pod.metadata.name} {why}")

    def _path(self, kind: str, snapshot: VolumeSnapshot) -> str:
        return self._api.path(kind, _name(snapshot.metadata.name))

    def _look(self, pod: _Pod) -> Hint:
        command = f"kubectl --context {self._api.context} --namespace {self._api.namespace} describe pod"
        return Hint("details", f"{command} {pod.metadata.name}")


def _name(snapshot_name: str) -> str:
    """Return the name of the pod and the claim of a snapshot, whose own name may be too long for a pod."""
    return f"odc-listing-{hashlib.blake2b(snapshot_name.encode(), digest_size=10).hexdigest()}"


def _copy(options: KubernetesOptions, snapshot: str, of_class: str, size_bytes: int) -> dict[str, Any]:
    """Return the claim of the pod's volume, which Kubernetes makes and deletes with the pod."""
    return {
        "metadata": {"labels": {CLOUD: options.cloud, manifests.COMPONENT: COMPONENT}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": of_class,
            "resources": {"requests": {"storage": str(size_bytes)}},
            "dataSource": {"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": snapshot},
        },
    }


def _pod(options: KubernetesOptions, name: str, image: str, program: str, copy: dict[str, Any]) -> dict[str, Any]:
    """Return the pod. It has the rights of a box, and no port."""
    limits = {"cpu": "1", "memory": "512Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {CLOUD: options.cloud, manifests.COMPONENT: COMPONENT}},
        "spec": {
            "hostUsers": False,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIMIT_S,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"key": key, "operator": "Exists"} for key in options.tolerated],
            "imagePullSecrets": [{"name": secret} for secret in options.pull_secrets],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "listing",
                    "image": image,
                    "imagePullPolicy": options.pull_policy,
                    "command": [manifests.PROGRAM_PATH, "listing", str(MOST_LOG_BYTES)],
                    "workingDir": "/",
                    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": limits},
                    "securityContext": {"runAsUser": 0, "capabilities": {"drop": ["NET_RAW", "MKNOD"]}},
                    "volumeMounts": [
                        {
                            "name": "program",
                            "mountPath": manifests.PROGRAM_PATH,
                            "subPath": "odc-box",
                            "readOnly": True,
                        },
                        {"name": "home", "mountPath": HOME, "readOnly": True},
                    ],
                }
            ],
            "volumes": [
                {"name": "program", "configMap": {"name": program, "defaultMode": 0o555}},
                {"name": "home", "ephemeral": {"volumeClaimTemplate": copy}},
            ],
        },
    }


def entries_of(log: bytes, most_bytes: int = MOST_LOG_BYTES) -> Iterator[FileEntry]:
    """Yield the entries of a log that `odc-box listing` has written; `CUT` at the end of one that is not whole.

    Args:
        log: whole, or as long as it may be.
        most_bytes: how long that is.

    Raises:
        ProviderUnavailable: it is damaged.
    """
    whole = len(log) < most_bytes
    try:
        compressed = base64.b64decode(b"".join(log.split()) if whole else _whole_groups(log))
        rest, incomplete = b"", False
        for text in _decompressed(compressed):
            *records, rest = (rest + text).split(b"\0")
            for record in records:
                if record == _END:
                    if incomplete:
                        yield CUT
                    return
                if record == _UNREADABLE:
                    incomplete = True
                else:
                    yield _entry(record)
    except (ValueError, zlib.error) as error:
        raise ProviderUnavailable(f"the listing of a snapshot was damaged on its way: {error}") from error
    if whole:
        raise ProviderUnavailable("the listing of a snapshot has no end")
    yield CUT


def _whole_groups(log: bytes) -> bytes:
    text = b"".join(log.split())
    return text[: len(text) // 4 * 4]


def _decompressed(data: bytes) -> Iterator[bytes]:
    """Yield the text in pieces: one that compresses well may be far larger than memory."""
    stream = zlib.decompressobj(31)
    left = data
    while left and not stream.eof:
        yield stream.decompress(left, _PIECE)
        left = stream.unconsumed_tail


def _entry(record: bytes) -> FileEntry:
    """Return the entry of a record: path, two separators, kind, size and time.

    The listing is sorted with `/` as the lowest byte, so that a folder comes right before its contents; the byte 1 had
    its place meanwhile.
    """
    path, _, facts = record.translate(_SWAPPED).rpartition(_SEPARATOR)
    kind, size, mtime = facts.split(b" ")
    known = kind.decode() if kind in (b"f", b"d", b"l") else "o"
    return FileEntry(path=path.decode(errors="replace"), kind=known, size=int(size), mtime=int(float(mtime)))
