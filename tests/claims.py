"""The disks' storage on the test cluster: claims of its CSI driver, whose files are folders of this machine."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.cluster import api, disks
from tests.cluster.layout import Layout
from tests.image import IMAGE
from tests.pods import load_box_image
from tests.waiting import eventually

from odc.adapters.engine.image import box_files
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.adapters.kubernetes.volume_objects import CLOUD, DISK, claim_name
from odc.adapters.kubernetes.volumes import KubernetesVolumes
from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.ports.blob_store import BlobStore
from odc.ports.volumes import Volumes

DEV = 1000
_clouds = itertools.count()


class ClaimStorage:
    """A cloud's disks in a namespace; other clouds may be in the same one."""

    copies_in_use = True
    lists_files = True
    maps_owners = can_shrink = False

    def __init__(self, layout: Layout, namespace: str, of_class: str = disks.CLASS) -> None:
        self.layout = layout
        self.namespace = namespace
        self.cloud = f"cloud-{next(_clouds)}"
        self.blobs: BlobStore = MemoryBlobStore()
        self.api = KubernetesApi(layout.kubeconfig, None, namespace)
        self._class = of_class
        self.options = KubernetesOptions(self.cloud, (box_files() / "odc-box").read_bytes(), pull_policy="Never")
        # The boxes' program is in the namespace, as if a box had been made.
        KubernetesCluster(self.api, self.options).check_host(())
        self.claims = self.claims_of(of_class)
        self.volumes: Volumes = self.claims

    def claims_of(self, of_class: str, snapshot_class: str = disks.CLASS) -> KubernetesVolumes:
        """Disks of these classes."""
        return KubernetesVolumes(self.api, self.options, self.blobs, IMAGE, of_class, snapshot_class)

    def path(self, kind: str, name: str = "") -> str:
        group = "apis/snapshot.storage.k8s.io/v1" if kind == "volumesnapshots" else "api/v1"
        return f"/{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def claim(self, disk_id: str) -> Any:
        """The disk's claim."""
        return api.request(self.layout, self.path("persistentvolumeclaims", claim_name(disk_id)))

    def home(self, disk_id: str) -> Path:
        """The folder with the files of the volume."""
        return disks.files(self.layout, self.claim(disk_id)["spec"]["volumeName"])

    def write(self, disk_id: str, path: str, size: int) -> None:
        place = self.home(disk_id) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * size)

    def files(self, disk_id: str) -> dict[str, int]:
        home = self.home(disk_id)
        plain = [path for path in home.rglob("*") if path.is_file() and path.name != ".odc-disk"]
        return {str(path.relative_to(home)): path.stat().st_size for path in plain}

    def remove_marker(self, disk_id: str) -> None:
        (self.home(disk_id) / ".odc-disk").unlink(missing_ok=True)

    def forge_marker(self, disk_id: str, text: str) -> None:
        (self.home(disk_id) / ".odc-disk").write_text(text + "\n")

    def exchange(self, disk_id: str, marker: str) -> None:
        self.lose(disk_id)
        labels = {CLOUD: self.cloud, DISK: marker} if marker else {}
        self.add_claim(claim_name(disk_id), labels)

    def add_claim(self, name: str, labels: dict[str, str]) -> None:
        """Somebody makes a claim."""
        spec = {
            "storageClassName": disks.CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        }
        metadata = {"name": name, "labels": labels}
        api.request(self.layout, self.path("persistentvolumeclaims"), "POST", {"metadata": metadata, "spec": spec})
        where = self.path("persistentvolumeclaims", name)
        eventually(f"{name} is bound", lambda: api.request(self.layout, where)["status"]["phase"] == "Bound")

    def lose(self, disk_id: str) -> None:
        path = self.path("persistentvolumeclaims", claim_name(disk_id))
        api.request(self.layout, path, "DELETE")
        eventually("the claim is gone", lambda: not api.exists(self.layout, path))

    def id_base(self, disk_id: str, place: str) -> int:
        raise NotImplementedError("the kubelet maps owners, in the pod only")

    def impatient(self) -> Volumes:
        return self.claims_of(self._class)

    def in_use(self, disk_id: str, place: str) -> AbstractContextManager[object]:
        raise NotImplementedError("a range of ids is not chosen here")


@contextmanager
def new_namespace(layout: Layout) -> Iterator[str]:
    """The name of a new namespace, which is deleted with everything in it."""
    load_box_image(layout)
    name = f"disks-{uuid.uuid4().hex[:8]}"
    api.request(layout, "/api/v1/namespaces", "POST", {"metadata": {"name": name}})
    yield name
    api.request(layout, f"/api/v1/namespaces/{name}", "DELETE")
    eventually(f"namespace {name} is gone", lambda: not api.exists(layout, f"/api/v1/namespaces/{name}"))
