"""The test cluster's volumes and snapshots work in pods with user namespaces, and survive faults of their driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster import api, disks, node, processes
from tests.cluster.conftest import Namespace
from tests.cluster.disks import Fault
from tests.cluster.layout import Layout
from tests.cluster.test_cluster import pod
from tests.waiting import eventually

pytestmark = pytest.mark.kubernetes


@pytest.fixture(autouse=True)
def healthy(cluster: Layout) -> Iterator[None]:
    """A driver that works, before and after each test."""
    yield
    disks.set_faults(cluster, {})
    disks.start(cluster)


def claim(namespace: Namespace, name: str, source: dict[str, str] | None = None, of_class: str = disks.CLASS) -> None:
    spec: dict[str, Any] = {
        "storageClassName": of_class,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "64Mi"}},
    }
    if source is not None:
        spec["dataSource"] = source
    namespace.create("persistentvolumeclaims", {"metadata": {"name": name}, "spec": spec})


def is_bound(namespace: Namespace, name: str) -> bool:
    return bool(namespace.get("persistentvolumeclaims", name)["status"]["phase"] == "Bound")


def new_volume(namespace: Namespace, name: str, source: dict[str, str] | None = None) -> None:
    claim(namespace, name, source)
    eventually(f"{name} is bound", lambda: is_bound(namespace, name))


def snapshot(namespace: Namespace, name: str, volume: str) -> None:
    source = {"persistentVolumeClaimName": volume}
    body = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name}}
    spec = {"volumeSnapshotClassName": disks.CLASS, "source": source}
    namespace.create("volumesnapshots", body | {"spec": spec})


def wait_until_taken(namespace: Namespace, name: str) -> None:
    eventually(
        f"snapshot {name} is ready to use",
        lambda: namespace.get("volumesnapshots", name).get("status", {}).get("readyToUse"),
    )


def using(name: str, volume: str, script: str, node_name: str = "node-1") -> dict[str, Any]:
    """A pod with the volume at /disk."""
    made = pod(name, node_name, script)
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "disk", "mountPath": "/disk"}]
    made["spec"]["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": volume}}]
    return made


def run(namespace: Namespace, name: str, volume: str, script: str, node_name: str = "node-1") -> str:
    """What a pod prints that uses the volume; the pod is gone afterwards."""
    namespace.create("pods", using(name, volume, script, node_name))
    namespace.wait_for_phase(name, "Succeeded")
    printed = namespace.log(name)
    namespace.delete("pods", name)
    return printed


def events(namespace: Namespace, of: str) -> str:
    found = namespace.get("events", "")["items"]
    return "\n".join(event["message"] for event in found if event["involvedObject"]["name"] == of)


def test_a_pod_in_a_user_namespace_writes_a_volume_and_another_node_reads_its_snapshot(namespace: Namespace) -> None:
    new_volume(namespace, "first")
    script = (
        "echo kept >/disk/file && chown 1000:1000 /disk/file && grep ' /disk ' /proc/mounts && cat /proc/self/uid_map"
    )
    printed = run(namespace, "writer", "first", script)
    assert "nosuid,nodev" in printed
    assert printed.split()[-2] != "0", "it has no user namespace"
    snapshot(namespace, "taken", "first")
    wait_until_taken(namespace, "taken")
    run(namespace, "changer", "first", "echo changed >/disk/file")
    new_volume(namespace, "second", {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "taken"})
    new_volume(namespace, "third", {"kind": "PersistentVolumeClaim", "name": "first"})
    reading = "stat -c %u:%g /disk/file; cat /disk/file"
    assert run(namespace, "reader", "second", reading, "node-2") == "1000:1000\nkept\n"
    assert run(namespace, "reader-of-clone", "third", reading, "node-2") == "1000:1000\nchanged\n"


def test_a_local_volume_is_bound_to_the_node_of_its_first_pod(cluster: Layout, namespace: Namespace) -> None:
    claim(namespace, "local", of_class=disks.LOCAL_CLASS)
    first = using("chooses", "local", "true", "")
    first["spec"] |= {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}
    del first["spec"]["nodeName"]
    namespace.create("pods", first)
    namespace.wait_for_phase("chooses", "Succeeded")
    bound = namespace.get("persistentvolumeclaims", "local")["spec"]["volumeName"]
    volume = api.request(cluster, f"/api/v1/persistentvolumes/{bound}")
    [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": disks.TOPOLOGY, "operator": "In", "values": ["node-2"]}]


def test_a_driver_that_refuses_snapshots_takes_them_once_it_is_healthy(cluster: Layout, namespace: Namespace) -> None:
    new_volume(namespace, "refused")
    disks.set_faults(cluster, {"CreateSnapshot": Fault("RESOURCE_EXHAUSTED", "no space for snapshots")})
    snapshot(namespace, "refused", "refused")

    def error() -> str:
        status = namespace.get("volumesnapshots", "refused").get("status", {})
        assert not status.get("readyToUse")
        return str(status.get("error", {}).get("message", ""))

    assert "no space for snapshots" in eventually("the snapshot has the error", error)
    disks.set_faults(cluster, {})
    wait_until_taken(namespace, "refused")


def test_a_pod_waits_for_a_volume_that_cannot_be_mounted(cluster: Layout, namespace: Namespace) -> None:
    new_volume(namespace, "unmountable")
    disks.set_faults(cluster, {"NodePublishVolume": Fault("INTERNAL", "the disk is on fire")})
    namespace.create("pods", using("waits", "unmountable", "true"))
    eventually("the kubelet reports the fault", lambda: "the disk is on fire" in events(namespace, "waits"))
    assert namespace.get("pods", "waits")["status"]["phase"] == "Pending"
    disks.set_faults(cluster, {})
    namespace.wait_for_phase("waits", "Succeeded")


def test_a_call_that_is_stuck_ends_when_the_fault_does(cluster: Layout, namespace: Namespace) -> None:
    disks.set_faults(cluster, {"CreateVolume": disks.STUCK})
    claim(namespace, "stuck")
    eventually("the provisioner has begun", lambda: "provisioning volume" in events(namespace, "stuck"))
    assert not is_bound(namespace, "stuck")
    disks.set_faults(cluster, {})
    eventually("the volume is bound", lambda: is_bound(namespace, "stuck"))


def test_a_driver_that_was_killed_serves_again_after_its_start(cluster: Layout, namespace: Namespace) -> None:
    new_volume(namespace, "before")
    assert run(namespace, "writes", "before", "echo kept >/disk/file") == ""
    disks.stop(cluster)
    claim(namespace, "during")
    namespace.create("pods", using("reads", "before", "cat /disk/file"))
    snapshot(namespace, "during", "before")
    eventually("the kubelet misses the driver", lambda: "connection refused" in events(namespace, "reads"))
    assert not is_bound(namespace, "during")
    disks.start(cluster)
    namespace.wait_for_phase("reads", "Succeeded")
    assert namespace.log("reads") == "kept\n"
    wait_until_taken(namespace, "during")
    assert run(namespace, "uses", "during", "echo new >/disk/file; cat /disk/file") == "new\n"


def test_volumes_are_mounted_after_a_restart_of_the_kubelet(cluster: Layout, namespace: Namespace) -> None:
    new_volume(namespace, "kept")
    of = cluster.nodes[0]
    processes.stop(cluster, f"kubelet-{of.number}", "kubelet")
    node.start_kubelet(of)
    assert run(namespace, "again", "kept", "echo new >/disk/file; cat /disk/file") == "new\n"


def test_a_deleted_pod_leaves_no_mount_and_a_deleted_claim_no_files(cluster: Layout, namespace: Namespace) -> None:
    new_volume(namespace, "short")
    run(namespace, "short", "short", "echo x >/disk/file")
    volume = namespace.get("persistentvolumeclaims", "short")["spec"]["volumeName"]
    assert disks.files(cluster, volume).exists()
    # With a grace period of 0 the pod is gone before the kubelet has unmounted its volumes.
    eventually(
        "it is unmounted", lambda: volume not in processes.run_inside(cluster.nodes[0], "cat", "/proc/self/mountinfo")
    )
    namespace.delete("persistentvolumeclaims", "short")
    eventually("the driver has deleted the files", lambda: not disks.files(cluster, volume).parent.exists())
