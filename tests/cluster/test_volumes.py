"""Disks on Kubernetes: what its API server, its classes, its driver and other tenants do to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from tests.builders import an_id
from tests.claims import ClaimStorage, new_namespace
from tests.cluster import api, disks
from tests.cluster.disks import Fault
from tests.cluster.layout import Layout
from tests.image import IMAGE
from tests.storage import MIB, NODE, attached, listed, made, not_later, snapshot_ids, taken
from tests.waiting import eventually

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.volume_objects import CLOUD, DISK, Claim, claim_name, snapshot_body, snapshot_name
from odc.adapters.kubernetes.volumes import KubernetesVolumes
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.ports.volumes import Source

pytestmark = pytest.mark.kubernetes
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
SNAPSHOT_CLASSES = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses"


@pytest.fixture(scope="module")
def place(cluster: Layout) -> Iterator[str]:
    with new_namespace(cluster) as namespace:
        yield namespace


@pytest.fixture
def storage(cluster: Layout, place: str) -> Iterator[ClaimStorage]:
    found = ClaimStorage(cluster, place)
    yield found
    disks.set_faults(cluster, {})
    found.api.close()


def words(call: object) -> str:
    """Why the call is refused for now; empty: it is not."""
    try:
        call()  # type: ignore[operator]
    except ProviderUnavailable as error:
        return error.message
    return ""


@contextmanager
def an_object(layout: Layout, path: str, body: dict[str, Any]) -> Iterator[str]:
    """The name of a new object of the whole cluster, which is deleted afterwards."""
    name = body["metadata"]["name"]
    api.request(layout, path, "POST", body)
    try:
        yield name
    finally:
        api.request(layout, f"{path}/{name}", "DELETE")


@pytest.fixture
def default_class(cluster: Layout) -> Iterator[str]:
    """A StorageClass that is the cluster's default, since it is the newest."""
    metadata = {"name": an_id(), "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    body = {"metadata": metadata, "provisioner": disks.DRIVER}
    with an_object(cluster, STORAGE_CLASSES, body) as name:
        yield name


def a_snapshot_class(driver: str) -> dict[str, Any]:
    """The default VolumeSnapshotClass of a driver."""
    metadata = {"name": an_id(), "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}}
    kind = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "deletionPolicy": "Delete"}
    return {"metadata": metadata, "driver": driver, **kind}


def test_without_names_of_classes_the_defaults_are_used_and_described(
    storage: ClaimStorage, default_class: str
) -> None:
    volumes = storage.claims_of("", "")
    body = a_snapshot_class(disks.DRIVER)
    with an_object(storage.layout, SNAPSHOT_CLASSES, body) as snapshot_class:
        assert volumes.describe() == (
            f"StorageClass {default_class}, VolumeSnapshotClass {snapshot_class} ({disks.DRIVER})"
        )
        disk_id = an_id()
        made(volumes, disk_id, MIB)
        taken(volumes, disk_id, "r-1")
        assert storage.claim(disk_id)["spec"]["storageClassName"] == default_class
        where = storage.path("volumesnapshots", snapshot_name(disk_id, "r-1"))
        assert api.request(storage.layout, where)["spec"]["volumeSnapshotClassName"] == snapshot_class


def test_a_disk_keeps_its_class_when_the_default_changes(storage: ClaimStorage, default_class: str) -> None:
    disk_id = an_id()
    made(storage.volumes, disk_id, MIB)
    volumes = storage.claims_of("", disks.CLASS)
    with pytest.raises(ProviderRefused, match=f"StorageClass {disks.CLASS} cannot grow"):
        volumes.set_limit(disk_id, 2 * MIB)


def test_a_cluster_without_a_default_class_is_refused_with_what_to_type(storage: ClaimStorage) -> None:
    for one in api.request(storage.layout, STORAGE_CLASSES)["items"]:
        assert one["metadata"]["name"] in (disks.CLASS, disks.LOCAL_CLASS), "another test has left it"
    with pytest.raises(ProviderRefused, match=r'no default StorageClass.*storage_class = "NAME"') as caught:
        storage.claims_of("").describe()
    commands = [hint.command for hint in caught.value.hints]
    assert commands[-1].endswith("annotate storageclass NAME storageclass.kubernetes.io/is-default-class=true")


def test_a_driver_without_a_class_for_snapshots_is_refused_with_what_to_type(storage: ClaimStorage) -> None:
    with pytest.raises(ProviderRefused, match=f"{disks.DRIVER} has no default.*snapshot_class = ") as caught:
        storage.claims_of(disks.CLASS, "").describe()
    assert "annotate volumesnapshotclass NAME" in caught.value.hints[-1].command
    with pytest.raises(ProviderRefused, match="VolumeSnapshotClass absent does not exist"):
        storage.claims_of(disks.CLASS, "absent").describe()


def test_classes_of_two_drivers_and_two_defaults_for_snapshots_are_refused(storage: ClaimStorage) -> None:
    first, second, other = a_snapshot_class(disks.DRIVER), a_snapshot_class(disks.DRIVER), a_snapshot_class("other")
    with ExitStack() as stack:
        for body in (first, second, other):
            stack.enter_context(an_object(storage.layout, SNAPSHOT_CLASSES, body))
        with pytest.raises(ProviderRefused, match="several default VolumeSnapshotClasses"):
            storage.claims_of(disks.CLASS, "").describe()
        with pytest.raises(ProviderRefused, match=f"driver other, but the StorageClass {disks.CLASS}"):
            storage.claims_of(disks.CLASS, other["metadata"]["name"]).describe()


def test_a_class_that_does_not_exist_is_refused(storage: ClaimStorage) -> None:
    volumes = storage.claims_of("absent")
    disk_id = an_id()
    with pytest.raises(ProviderRefused, match="StorageClass absent does not exist"):
        volumes.create(disk_id, MIB, NODE)
    assert not api.exists(storage.layout, storage.path("persistentvolumeclaims", claim_name(disk_id)))


def test_a_class_whose_volumes_one_node_can_attach_is_refused_once_that_is_seen(storage: ClaimStorage) -> None:
    volumes = storage.claims_of(disks.LOCAL_CLASS)
    disk_id = an_id()
    with pytest.raises(ProviderRefused, match=disks.TOPOLOGY):
        not_later(lambda: volumes.create(disk_id, MIB, "node-2"))


def test_an_exhausted_quota_is_named_and_measured(storage: ClaimStorage, cluster: Layout) -> None:
    with new_namespace(cluster) as namespace:
        limited = ClaimStorage(cluster, namespace)
        spec = {"hard": {"requests.storage": "100Mi"}}
        path = limited.path("resourcequotas")
        api.request(cluster, path, "POST", {"metadata": {"name": "small"}, "spec": spec})
        eventually("the quota counts", lambda: api.request(cluster, f"{path}/small").get("status", {}).get("used"))
        made(limited.volumes, an_id(), 64 * MIB)
        with pytest.raises(ProviderUnavailable, match="quota"):
            made(limited.volumes, an_id(), 64 * MIB)
        use = limited.volumes.measure()
        assert (use.total_bytes, use.free_bytes) == (100 * MIB, 36 * MIB)
        limited.api.close()


def test_nothing_of_another_cloud_in_the_namespace_is_listed_or_touched(storage: ClaimStorage, place: str) -> None:
    other = ClaimStorage(storage.layout, place)
    disk_id = an_id()
    made(other.volumes, disk_id, MIB)
    attached(other.volumes, disk_id, "r-1")
    other.volumes.detach(disk_id, "r-1")
    taken(other.volumes, disk_id, "r-1")
    assert storage.volumes.list_labels() == ()
    assert snapshot_ids(storage.volumes, disk_id) == ()
    assert storage.volumes.delete_snapshot(disk_id, "r-1", keep_last=False)
    with pytest.raises(ProviderRefused, match="marker"):
        storage.volumes.delete(disk_id)
    with pytest.raises(ProviderRefused, match="not made by this cloud"):
        storage.volumes.create(an_id(), MIB, NODE, Source(disk_id=disk_id, snapshot_id="r-1"))
    assert snapshot_ids(other.volumes, disk_id) == ("r-1",)
    other.api.close()


def test_a_snapshot_of_a_strangers_claim_with_our_labels_is_never_used(storage: ClaimStorage) -> None:
    disk_id = an_id()
    made(storage.volumes, disk_id, MIB)
    storage.add_claim("strangers", {CLOUD: storage.cloud, DISK: disk_id})
    forged = snapshot_body(storage.cloud, disk_id, "r-1", disks.CLASS, in_use=False)
    forged["spec"]["source"]["persistentVolumeClaimName"] = "strangers"
    forged["metadata"]["annotations"]["odc.dev/verified-at"] = "2026-01-01T00:00:00+00:00"
    made_of = api.request(storage.layout, storage.path("volumesnapshots"), "POST", forged)["metadata"]["name"]
    where = storage.path("volumesnapshots", made_of)
    eventually("it is ready", lambda: api.request(storage.layout, where).get("status", {}).get("readyToUse"))
    assert snapshot_ids(storage.volumes, disk_id) == ()
    with pytest.raises(ProviderRefused, match="not made by this cloud"):
        storage.volumes.create(an_id(), MIB, NODE, Source(disk_id=disk_id, snapshot_id="r-1"))


def test_a_driver_that_refuses_a_snapshot_is_quoted_and_takes_it_later(storage: ClaimStorage) -> None:
    disk_id = an_id()
    made(storage.volumes, disk_id, MIB)
    disks.set_faults(storage.layout, {"CreateSnapshot": Fault("RESOURCE_EXHAUSTED", "no space for snapshots")})
    text = eventually("it is told", lambda: words(lambda: storage.volumes.snapshot(disk_id, "r-1")))
    assert "no space for snapshots" in text
    assert snapshot_ids(storage.volumes, disk_id) == ()
    disks.set_faults(storage.layout, {})

    def is_taken() -> bool:
        return not words(lambda: storage.volumes.snapshot(disk_id, "r-1")) and bool(
            snapshot_ids(storage.volumes, disk_id)
        )

    eventually("the snapshot is taken", is_taken)


def test_a_volume_that_the_driver_cannot_make_is_explained(storage: ClaimStorage) -> None:
    disk_id = an_id()
    disks.set_faults(storage.layout, {"CreateVolume": Fault("INTERNAL", "the rack is on fire")})
    text = eventually("it is told", lambda: words(lambda: storage.volumes.create(disk_id, MIB, NODE)))
    assert "the rack is on fire" in text


def test_a_claim_that_stays_in_deletion_is_explained(storage: ClaimStorage) -> None:
    disk_id = an_id()
    made(storage.volumes, disk_id, MIB)
    path = storage.path("persistentvolumeclaims", claim_name(disk_id))
    api.request(storage.layout, path, "PATCH", {"metadata": {"finalizers": ["odc.test/kept"]}})
    text = eventually("it is told", lambda: words(lambda: storage.volumes.delete(disk_id)))
    assert "odc.test/kept" in text
    with pytest.raises(ProviderRefused, match="being deleted"):
        attached(storage.volumes, disk_id, "r-1")
    api.request(storage.layout, path, "PATCH", {"metadata": {"finalizers": None}})
    assert not_later(lambda: storage.volumes.delete(disk_id))


def test_the_pod_of_a_listing_is_made_again_and_nothing_of_it_stays(storage: ClaimStorage, cluster: Layout) -> None:
    disk_id = an_id()
    made(storage.volumes, disk_id, MIB)
    storage.write(disk_id, "sub/file", 5)
    snapshot = taken(storage.volumes, disk_id, "r-1")
    assert not storage.volumes.write_listing(disk_id, snapshot.id, "l/1")
    path = f"{storage.path('pods')}?labelSelector=odc.dev/cloud={storage.cloud}"
    (pod,) = api.request(cluster, path)["items"]
    assert pod["spec"]["hostUsers"] is False
    api.request(cluster, storage.path("pods", pod["metadata"]["name"]), "DELETE", {"gracePeriodSeconds": 0})
    found = listed(storage.volumes, storage.blobs, disk_id, snapshot.id)
    assert [(one.path, one.kind, one.size) for one in found if one.kind == "f"] == [("sub/file", "f", 5)]
    claims = f"{storage.path('persistentvolumeclaims')}?labelSelector=odc.dev/component=listing"
    eventually("its pod and claim are gone", lambda: not api.request(cluster, path)["items"])
    eventually("its claim is gone", lambda: not api.request(cluster, claims)["items"])


class DeletesFirst(KubernetesApi):
    """Deletes a pod right before its log is read for the first time."""

    deleted = ""

    def get_text(self, path: str) -> bytes:
        if not self.deleted:
            self.deleted = path.removesuffix("/log")
            pod = self.find(self.deleted, Claim)
            assert pod is not None
            self.delete(self.deleted, pod.metadata.uid, 0)
        return super().get_text(path)


def test_a_pod_that_is_deleted_before_its_listing_is_read_is_made_again(storage: ClaimStorage, place: str) -> None:
    disk_id = an_id()
    made(storage.volumes, disk_id, MIB)
    snapshot = taken(storage.volumes, disk_id, "r-1")
    late = DeletesFirst(storage.layout.kubeconfig, None, place)
    volumes = KubernetesVolumes(late, storage.options, storage.blobs, IMAGE, disks.CLASS, disks.CLASS)
    listed(volumes, storage.blobs, disk_id, snapshot.id)
    assert late.deleted
    late.close()
