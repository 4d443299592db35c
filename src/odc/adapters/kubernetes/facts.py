"""What `odc doctor` asks of a cluster, beyond what boxes need. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.nodes import foreign_taints, has_user_namespaces
from odc.adapters.kubernetes.objects import KubernetesNode, Named
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.adapters.kubernetes.rights import IN_CLUSTER, IN_NAMESPACE, Right

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_OWN_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class _Version(msgspec.Struct, rename={"git": "gitVersion"}):
    git: str


class _UserInfo(msgspec.Struct):
    username: str = ""


class _OwnStatus(msgspec.Struct, rename={"user": "userInfo"}):
    user: _UserInfo


class _Dated(msgspec.Struct, rename={"created": "creationTimestamp"}):
    created: datetime


class _OwnReview(msgspec.Struct):
    metadata: _Dated
    status: _OwnStatus


class _Allowed(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Allowed


class ServerFacts(NamedTuple):
    """Facts about the API server.

    Attributes:
        version: such as `v1.34.4`.
        user: who we are to it.
        now: its clock, to the second.
    """

    version: str
    user: str
    now: datetime


def server_facts(api: KubernetesApi) -> ServerFacts:
    """Return the facts about the API server.

    Raises:
        ProviderError: it does not answer, or does not accept the credentials.
    """
    version = api.get("/version", _Version)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    own = api.create(_OWN_REVIEWS, body, _OwnReview)
    return ServerFacts(version.git, own.status.user.username, own.metadata.created)


def missing_rights(api: KubernetesApi) -> tuple[str, ...]:
    """Return the rights that our user lacks, one for each verb: `create pods in gpu-dev`."""
    return tuple(_missing(api, IN_NAMESPACE, api.namespace)) + tuple(_missing(api, IN_CLUSTER, ""))


def _missing(api: KubernetesApi, rights: tuple[Right, ...], namespace: str) -> Iterator[str]:
    for right in rights:
        for verb in right.verbs:
            asked = {"namespace": namespace, "verb": verb, "group": right.group, "resource": right.resource}
            body: Mapping[str, Any] = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            }
            if not api.create(_REVIEWS, body, _Review).status.allowed:
                yield f"{verb} {right.resource} " + (f"in {namespace}" if namespace else "in all namespaces")


def namespace_labels(api: KubernetesApi) -> Mapping[str, str] | None:
    """Return the labels of the namespace of the boxes; None if it does not exist."""
    found = api.find(f"/api/v1/namespaces/{api.namespace}", Named)
    return None if found is None else found.metadata.labels


def without_user_namespaces(api: KubernetesApi) -> frozenset[str]:
    """Return the nodes whose container runtime has no user namespaces, by its own account."""
    nodes = api.list_all("/api/v1/nodes", KubernetesNode)
    return frozenset(node.metadata.name for node in nodes if not has_user_namespaces(node))


def tainted_nodes(api: KubernetesApi, options: KubernetesOptions) -> dict[str, tuple[list[str], bool]]:
    """Return, for each node, the taints that keep boxes away, and whether a taint that boxes tolerate keeps others
    away.
    """
    nodes = api.list_all("/api/v1/nodes", KubernetesNode)
    return {
        node.metadata.name: (
            foreign_taints(node, options),
            any(taint.key in options.tolerated and taint.effect != "PreferNoSchedule" for taint in node.spec.taints),
        )
        for node in nodes
    }
