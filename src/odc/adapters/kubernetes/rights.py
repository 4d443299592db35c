"""The rights that a cloud needs of the API server: exactly what its adapters call, and nothing else.

`deploy/kubernetes/rights.yaml` is made from them by `make docs`, and `odc doctor` asks for them one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Right(NamedTuple):
    """What may be done with the objects of a kind.

    Attributes:
        resource: plural of the kind.
        verbs: as in RBAC.
        group: API group; empty for the core group.
    """

    resource: str
    verbs: tuple[str, ...]
    group: str = ""


IN_NAMESPACE = (
    Right("pods", ("create", "delete", "get", "list", "patch")),
    Right("secrets", ("create", "delete", "deletecollection", "get", "list", "patch")),
    Right("services", ("create", "delete", "deletecollection", "get", "list")),
    Right("configmaps", ("create",)),
    Right("persistentvolumeclaims", ("create", "delete", "get", "list", "patch")),
    Right("volumesnapshots", ("create", "delete", "get", "list", "patch"), "snapshot.storage.k8s.io"),
    Right("resourcequotas", ("list",)),
    Right("events", ("list",)),
    Right("pods/log", ("get",)),
)
"""In the namespace of the boxes."""
IN_CLUSTER = (
    Right("nodes", ("get", "list")),
    Right("pods", ("list",)),
    Right("persistentvolumes", ("get",)),
    Right("storageclasses", ("get", "list"), "storage.k8s.io"),
    Right("volumesnapshotclasses", ("get", "list"), "snapshot.storage.k8s.io"),
    Right("namespaces", ("get",)),
)
"""Everywhere: what others hold on the nodes. Contents of Secrets and ConfigMaps of others are out of reach."""
PAGE = Path("deploy/kubernetes/rights.yaml")
NAME = "odc"
_HEAD = """# The namespace of the boxes, a service account for the ODC daemon, and exactly the rights that it uses.
# Made by `make docs`; do not edit. For another namespace: sed 's/gpu-dev/NAME/' rights.yaml | kubectl apply -f -
"""


def manifests(namespace: str = "gpu-dev") -> tuple[dict[str, Any], ...]:
    """Return the namespace, the service account, and its roles, as objects for `kubectl apply`.

    Args:
        namespace: of the boxes and of the service account. Cluster-wide objects are named after it, too: two clouds
            in two namespaces have their own.
    """
    inside = {"name": NAME, "namespace": namespace}
    cluster_wide = f"{NAME}-{namespace}"
    subjects = [{"kind": "ServiceAccount", **inside}]
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside},
        _rbac("Role", inside, {"rules": _rules(IN_NAMESPACE)}),
        _rbac("RoleBinding", inside, {"roleRef": _role("Role", NAME), "subjects": subjects}),
        _rbac("ClusterRole", {"name": cluster_wide}, {"rules": _rules(IN_CLUSTER)}),
        _rbac(
            "ClusterRoleBinding",
            {"name": cluster_wide},
            {"roleRef": _role("ClusterRole", cluster_wide), "subjects": subjects},
        ),
    )


def page() -> str:
    """Return the manifest as YAML."""
    return _HEAD + "".join(f"---\n{msgspec.yaml.encode(one).decode()}" for one in manifests())


def _rbac(kind: str, metadata: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, **body}


def _role(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _rules(rights: Iterable[Right]) -> list[dict[str, Any]]:
    return [{"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)} for right in rights]


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
