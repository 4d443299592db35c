"""A cloud whose boxes run on the test cluster, used by the same people with the same commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import api, disks
from tests.cluster.layout import Layout
from tests.e2e.cloud import Cloud, destroy, make_cloud
from tests.image import IMAGE
from tests.lane import lane_name
from tests.pods import load_box_image
from tests.waiting import eventually

from odc.adapters.kubernetes.rights import manifests

RBAC = "/apis/rbac.authorization.k8s.io/v1"
TYPES = ("h100", "t4")
"""The GPU type of each node."""


@dataclass
class ClusterCloud(Cloud):
    """A cloud in a namespace of its own; records and daemon are on this machine."""

    layout: Layout | None = None

    def boxes(self) -> list[dict[str, Any]]:
        """The pods of this cloud, as Podman lists containers."""
        pods = ((one["metadata"]["name"], one["status"].get("phase", "")) for one in self._list("pods"))
        return [{"Id": name, "Names": [name], "State": phase} for name, phase in pods]

    def box_log(self, container: str) -> str:
        """What the programs of a box have written."""
        assert self.layout is not None
        return str(api.request(self.layout, f"{self._path('pods')}/{container}/log"))

    def networks(self) -> list[str]:
        """The Services of its boxes."""
        return [str(one["metadata"]["name"]) for one in self._list("services")]

    def remove_boxes(self) -> None:
        """The namespace is deleted with all of them."""

    def links(self) -> list[str]:
        """None: pods have no bridge of their own."""
        return []

    def mounts(self) -> list[str]:
        """The claims that some reservation holds."""
        claims = self._list("persistentvolumeclaims")
        held = [claim for claim in claims if "odc.dev/holder" in claim["metadata"].get("annotations", {})]
        return [str(claim["metadata"]["name"]) for claim in held]

    def _list(self, kind: str) -> list[dict[str, Any]]:
        assert self.layout is not None
        found = api.request(self.layout, f"{self._path(kind)}?labelSelector=odc.dev/cloud={self.name}")
        return list(found["items"])

    def _path(self, kind: str) -> str:
        return f"/api/v1/namespaces/{self.name}/{kind}"


@contextmanager
def cluster_cloud(bin_folder: Path, layout: Layout, number: int = 3, **settings: Any) -> Iterator[ClusterCloud]:
    """A cloud on the test cluster that is up: an h100 node and a t4 node. It has the rights of the manifest only.

    Args:
        bin_folder: of the installed commands.
        layout: of the cluster, which runs.
        number: another one for each cloud of a lane that runs at the same time.
        settings: more of them.
    """
    load_box_image(layout)
    name = lane_name("e2e", number)
    # A label of its own: other tests of this cluster give its nodes other types.
    own = {"pull_policy": "Never", "type_label": f"odc.test/{name}"}
    own |= {"storage_class": disks.CLASS, "snapshot_class": disks.CLASS}
    for node, gpu_type in zip(layout.nodes, TYPES, strict=True):
        labels = {"metadata": {"labels": {own["type_label"]: gpu_type}}}
        api.request(layout, f"/api/v1/nodes/{node.name}", "PATCH", labels)
    _make_namespace(layout, name)
    _grant_rights(layout, name)
    plain = make_cloud(bin_folder, number=number, simulate="", namespace=name, kubernetes=own, image=IMAGE, **settings)
    made = ClusterCloud(
        bin=plain.bin,
        folder=plain.folder,
        config=plain.config,
        name=plain.name,
        settings=plain.settings,
        nodes=dict(zip(TYPES, (node.name for node in layout.nodes), strict=True)),
        largest=4,
        layout=layout,
    )
    try:
        made.odc("up", "--kubernetes", KUBECONFIG=str(_kubeconfig(layout, name, made.folder)))
        yield made
    finally:
        destroy(made)
        _delete_namespace(layout, name)
        for kind, one in _cluster_wide(name):
            api.request(layout, f"{RBAC}/{kind}/{one['metadata']['name']}", "DELETE")


def _grant_rights(layout: Layout, name: str) -> None:
    """Make the service account of the manifest, with exactly its rights."""
    for kind, one in _cluster_wide(name):
        if api.exists(layout, path := f"{RBAC}/{kind}/{one['metadata']['name']}"):
            api.request(layout, path, "DELETE")
        api.request(layout, f"{RBAC}/{kind}", "POST", one)
    places = {"ServiceAccount": "/api/v1", "Role": RBAC, "RoleBinding": RBAC}
    for one in manifests(name):
        if place := places.get(one["kind"]):
            api.request(layout, f"{place}/namespaces/{name}/{one['kind'].lower()}s", "POST", one)


def _cluster_wide(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The manifest's objects outside the namespace, each with the plural of its kind."""
    return [(f"{one['kind'].lower()}s", one) for one in manifests(name) if one["kind"].startswith("Cluster")]


def _kubeconfig(layout: Layout, name: str, folder: Path) -> Path:
    """Write a kubeconfig file of the service account."""
    account = f"/api/v1/namespaces/{name}/serviceaccounts/odc"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    token = api.request(layout, f"{account}/token", "POST", asked)["status"]["token"]
    text = json.loads(layout.kubeconfig.read_text())
    text["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(text))
    path.chmod(0o600)
    return path


def _make_namespace(layout: Layout, name: str) -> None:
    """Make the namespace; one that a killed run has left is deleted first."""
    _delete_namespace(layout, name)
    api.request(layout, "/api/v1/namespaces", "POST", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually("the namespace has its service account", lambda: api.exists(layout, account))


def _delete_namespace(layout: Layout, name: str) -> None:
    path = f"/api/v1/namespaces/{name}"
    if api.exists(layout, path):
        api.request(layout, path, "DELETE")
        eventually(f"namespace {name} is gone", lambda: not api.exists(layout, path))
