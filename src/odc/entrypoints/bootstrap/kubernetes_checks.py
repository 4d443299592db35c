"""The checks of `odc doctor` for a cloud whose boxes run in a Kubernetes cluster. They change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial

from odc.adapters.kubernetes import facts
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.domain.errors import ProviderRefused
from odc.domain.finding import Finding
from odc.domain.node import Node
from odc.operator.backend import Check
from odc.operator.settings import Settings
from odc.ports.volumes import Volumes

CLOCK_S = 5
"""So far the clock of the API server may be from ours."""
_ENFORCED = "pod-security.kubernetes.io/enforce"


_ClusterCheck = Callable[[KubernetesApi], Iterator[Finding]]


def cluster_checks(
    settings: Settings,
    api: Callable[[], KubernetesApi],
    options: KubernetesOptions,
    volumes: Callable[[Settings, KubernetesApi], Volumes],
) -> dict[str, Check]:
    """Return subject to check, in the order in which they are shown.

    Args:
        settings: of the cloud.
        api: opens the API of its cluster.
        options: of its boxes.
        volumes: opens its volumes.
    """
    checks: dict[str, _ClusterCheck] = {
        "API server": _server,
        "namespace": _namespace,
        "rights": _rights,
        "nodes": partial(_nodes, options),
        "pods": partial(_user_namespaces, options),
        "disks": lambda api: _disks(volumes(settings, api)),
    }
    opened = {subject: partial(_opened, api, check) for subject, check in checks.items()}
    return {**opened, "image": partial(_image, settings)}


def _opened(api: Callable[[], KubernetesApi], check: _ClusterCheck) -> Iterator[Finding]:
    opened = api()
    try:
        yield from check(opened)
    finally:
        opened.close()


def _kubectl(api: KubernetesApi, words: str) -> str:
    return f"kubectl --context {api.context} {words}"


def _server(api: KubernetesApi) -> Iterator[Finding]:
    found = facts.server_facts(api)
    yield Finding("ok", "API server", f"{found.version} at {api.server}, as {found.user}")
    apart = abs((datetime.now(UTC) - found.now).total_seconds())
    if apart > CLOCK_S:
        text = f"its clock and this machine's are {apart:.0f} s apart"
        yield Finding("warn", "clock", text, "set both by NTP: timedatectl set-ntp true")


def check_namespace(api: KubernetesApi) -> Mapping[str, str]:
    """Return the labels of the namespace of the boxes.

    Raises:
        ProviderRefused: there is none, or our user may not see it.
        ProviderUnavailable: the API server does not answer.
    """
    labels = facts.namespace_labels(api)
    if labels is None:
        make = _kubectl(api, f"create namespace {api.namespace}")
        raise ProviderRefused(f"context {api.context} has no namespace {api.namespace}", ("make it", make))
    return labels


def _namespace(api: KubernetesApi) -> Iterator[Finding]:
    labels = check_namespace(api)
    if labels.get(_ENFORCED) == "restricted":
        text = f"{api.namespace} allows no pod whose first process is root, as that of a box is in its user namespace"
        allow = _kubectl(api, f"label --overwrite namespace {api.namespace} {_ENFORCED}=baseline")
        yield Finding("fail", "namespace", text, "run: " + allow)
    else:
        yield Finding("ok", "namespace", api.namespace)


def _rights(api: KubernetesApi) -> Iterator[Finding]:
    lacking = facts.missing_rights(api)
    for right in lacking:
        hint = "run: " + _kubectl(api, "apply -f deploy/kubernetes/rights.yaml")
        yield Finding("fail", "rights", f"our user may not {right}", hint)
    if not lacking:
        yield Finding("ok", "rights", "all that are needed")


def _nodes(options: KubernetesOptions, api: KubernetesApi) -> Iterator[Finding]:
    nodes = KubernetesCluster(api, options).list_nodes()
    taints = facts.tainted_nodes(api, options)
    if not nodes:
        text = "no node has a GPU type"
        hint = "name it: " + _kubectl(api, f"label node NODE {options.type_label}=h100")
        yield Finding("fail", "nodes", text, hint)
    for node in nodes:
        yield _node(node, *taints.get(node.name, ([], False)), options, api)


def _node(node: Node, away: list[str], reserved: bool, options: KubernetesOptions, api: KubernetesApi) -> Finding:
    what = f"{node.name}: {node.units} x {node.gpu_type}" + (" (SIMULATED)" if node.simulated else "")
    if not node.ready:
        return Finding("fail", "nodes", f"{what}, not ready", "see why: " + _kubectl(api, f"describe node {node.name}"))
    if away:
        hint = f"tolerated = [{', '.join(repr(key) for key in away)}] under [kubernetes] in the settings"
        return Finding("warn", "nodes", f"{what}; boxes do not tolerate its taint {away[0]}", hint)
    if node.full:
        return Finding("fail", "nodes", f"{what}: {node.full}", "see: " + _kubectl(api, f"describe node {node.name}"))
    if not node.address:
        return Finding("fail", "nodes", f"{what}; it has no address", 'address = "HOST" in the settings')
    if not reserved:
        text = f"{what} at {node.address}; other tenants may take it too, so a promise there may be broken"
        hint = "keep it for boxes: " + _kubectl(api, f"taint node {node.name} {options.tolerated[-1]}=:NoSchedule")
        return Finding("warn", "nodes", text, hint)
    return Finding("ok", "nodes", f"{what} at {node.address}")


def _user_namespaces(options: KubernetesOptions, api: KubernetesApi) -> Iterator[Finding]:
    lacking = ", ".join(sorted(facts.without_user_namespaces(api)))
    needed = "needed: Kubernetes 1.33, containerd 2 or CRI-O 1.25, Linux 6.3"
    if not lacking:
        yield Finding("ok", "pods", "every node has user namespaces: root in a box is not root on its node")
    elif options.allow_root_of_nodes:
        text = f"{lacking}: no user namespaces, so root in a box, which users get by sudo, is root of the node"
        yield Finding("warn", "pods", text, f"{needed}; then: allow_root_of_nodes = false in the settings")
    else:
        text = f"{lacking}: no user namespaces, without which no box starts: its root would be the node's"
        yield Finding("fail", "pods", text, needed)


def _image(settings: Settings) -> Iterator[Finding]:
    policy = settings.kubernetes.pull_policy
    registry = settings.image.partition("/")[0]
    if registry == "localhost" and policy != "Never":
        text = f"nodes cannot fetch {settings.image}: localhost is the node itself"
        yield Finding("fail", "image", text, 'name one that they can: image = "REGISTRY/NAME:TAG" in the settings')
    else:
        yield Finding("ok", "image", f"{settings.image}, pulled by nodes: {policy}")


def _disks(volumes: Volumes) -> Iterator[Finding]:
    yield Finding("ok", "disks", volumes.describe())
