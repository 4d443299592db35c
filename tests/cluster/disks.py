"""Volumes and snapshots of a test cluster: a CSI driver of the tests, whose volumes are folders of the machine.

Every node sees the same folders, so that a volume of the class `odc-disks` can be used on each. A volume of the class
`odc-disks-local` is bound to the node of its first pod. Sizes are recorded and reported, but not enforced, and a
snapshot of a volume in use is a plain copy: it is not crash-consistent. `set_faults` injects faults of the driver.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.cluster import api, processes
from tests.cluster.layout import Layout, Node
from tests.cluster.programs import CSI
from tests.waiting import eventually

from odc.host import write_atomically

DRIVER = "disks.odc.test"
CLASS = "odc-disks"
"""Of volumes that every node can use, and of snapshots."""
LOCAL_CLASS = "odc-disks-local"
"""Of volumes that are bound to a node."""
TOPOLOGY = f"{DRIVER}/node"
"""The label with which nodes and volumes of the local class say where they are."""
PROGRAM = "csi-disks"
SIDECARS = {
    "provisioner": [
        "csi-provisioner",
        "--timeout=10s",
        "--retry-interval-start=200ms",
        "--retry-interval-max=2s",
        # A snapshot that was restored keeps a finalizer if it was changed at the same moment; by default for 5 minutes.
        "--snapshot-orphan-sweep-interval=2s",
    ],
    "snapshotter": ["csi-snapshotter", "--timeout=10s", "--retry-interval-start=200ms", "--retry-interval-max=2s"],
    "snapshot-controller": ["snapshot-controller", "--retry-interval-start=200ms", "--retry-interval-max=2s"],
}
PARTS = ("disks", *SIDECARS)


@dataclass(frozen=True)
class Fault:
    """What a method of the driver does instead of its work.

    Attributes:
        code: of its answer, as gRPC names it: `RESOURCE_EXHAUSTED`, `UNAVAILABLE`. `OK`: it does its work.
        message: of its answer.
        after_s: how long it takes before that; it ends at once when the fault is taken back.
    """

    code: str = "OK"
    message: str = "injected"
    after_s: float = 0.0


STUCK = Fault(after_s=1e6)
"""A method that does not return."""


def prepare(layout: Layout) -> None:
    """Make the folders of volumes and snapshots."""
    for name in ("volumes", "snapshots"):
        (_data(layout) / name).mkdir(parents=True)
    # Pods' processes reach a volume by its mount only.
    _data(layout).chmod(0o700)


def define(layout: Layout) -> None:
    """Create the kinds of snapshots, the classes and the driver in the API server, which must be ready."""
    for path in sorted((CSI.folder / "crd").glob("*.storage.k8s.io_*.yaml")):
        api.request(layout, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "POST", path.read_bytes())
    for where, body in _classes():
        eventually(f"{where} is served", lambda where=where, body=body: _created(layout, where, body))  # type: ignore[misc]


def _created(layout: Layout, path: str, body: object) -> bool:
    try:
        api.request(layout, path, "POST", body)
    except HTTPError as error:
        # A kind of ours is served a moment after it was defined.
        if error.code != 404:
            raise
        return False
    return True


def start(layout: Layout) -> None:
    """Start those of the driver's processes that do not run: its sidecars need the kinds that `define` creates."""
    socket = layout.state / "disks" / "csi.sock"
    if not processes.is_alive(layout, "disks"):
        processes.start(layout, "disks", [PROGRAM, *_options(layout), f"--socket={socket}"])
    for part, command in SIDECARS.items():
        if not processes.is_alive(layout, part):
            address = [] if part == "snapshot-controller" else [f"--csi-address={socket}"]
            processes.start(layout, part, [*command, *address, f"--kubeconfig={layout.kubeconfigs}/csi"])
    for node in layout.nodes:
        if not processes.is_alive(layout, f"disks-{node.number}"):
            start_on(node)


def start_on(node: Node) -> None:
    """Start the driver of a node, which registers itself with the kubelet, also when that has restarted."""
    for folder in ("plugins/odc-disks", "plugins_registry"):
        (node.folder / "lib" / "kubelet" / folder).mkdir(parents=True, exist_ok=True)
    kubelet = "/var/lib/kubelet"
    own = [f"--node={node.name}", f"--socket={kubelet}/plugins/odc-disks/csi.sock"]
    own += [f"--registrar={kubelet}/plugins_registry/odc-disks.sock"]
    layout = Layout(node.cluster)
    processes.start(layout, f"disks-{node.number}", [PROGRAM, *_options(layout), *own], node)


def stop(layout: Layout) -> None:
    """Kill the driver everywhere, and its sidecars, which end without it."""
    for part, command in SIDECARS.items():
        processes.stop(layout, part, command[0])
    for part in ("disks", *(f"disks-{node.number}" for node in layout.nodes)):
        processes.stop(layout, part, PROGRAM)


def is_ready(layout: Layout) -> bool:
    """Whether the kubelets have found the driver."""
    try:
        found = api.request(layout, "/apis/storage.k8s.io/v1/csinodes")["items"]
    except OSError:
        return False
    drivers = [{driver["name"] for driver in node["spec"].get("drivers") or ()} for node in found]
    return len(drivers) == len(layout.nodes) and all(DRIVER in names for names in drivers)


def set_faults(layout: Layout, faults: Mapping[str, Fault]) -> None:
    """Set the faults of the driver's methods, `CreateSnapshot` for instance; all others work. It knows at once."""
    found = {
        method: {"code": fault.code, "message": fault.message, "after_s": fault.after_s}
        for method, fault in faults.items()
    }
    write_atomically(layout.state / "disks" / "faults", json.dumps(found).encode(), 0o644)


def lose(layout: Layout, volume: str) -> None:
    """Delete the files of a volume behind the driver's back.

    Args:
        layout: of the cluster.
        volume: its handle, as its PersistentVolume has it.
    """
    shutil.rmtree(_data(layout) / "volumes" / volume)


def files(layout: Layout, volume: str) -> Path:
    """The folder with the files of a volume."""
    return _data(layout) / "volumes" / volume / "files"


def _data(layout: Layout) -> Path:
    return layout.state / "disks" / "data"


def _options(layout: Layout) -> list[str]:
    return [f"--name={DRIVER}", f"--data={_data(layout)}", f"--faults={layout.state}/disks/faults"]


def _classes() -> list[tuple[str, dict[str, Any]]]:
    """The path and body of each object, in the order of their creation."""
    local = {"volumeBindingMode": "WaitForFirstConsumer", "parameters": {"topology": "node"}}
    storage = {"provisioner": DRIVER, "mountOptions": ["nosuid", "nodev"]}
    driver = {"attachRequired": False, "volumeLifecycleModes": ["Persistent"]}
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    return [
        ("/apis/storage.k8s.io/v1/csidrivers", {"metadata": {"name": DRIVER}, "spec": driver}),
        (classes, {"metadata": {"name": CLASS}, **storage}),
        (classes, {"metadata": {"name": LOCAL_CLASS}, **storage, **local}),
        (
            "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses",
            # The server knows the kind of its own objects only.
            {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshotClass",
                "metadata": {"name": CLASS},
                "driver": DRIVER,
                "deletionPolicy": "Delete",
            },
        ),
    ]
