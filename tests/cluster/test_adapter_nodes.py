"""Nodes that take no boxes, and the limits of those that do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from urllib.error import HTTPError

import pytest
from msgspec.structs import replace
from tests.cluster import api
from tests.pods import GPU_TYPE, PodCloud
from tests.waiting import eventually

from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.domain.box import BoxState
from odc.domain.errors import BoxGone, PlaceTaken, ProviderRefused
from odc.domain.node import Node

pytestmark = pytest.mark.kubernetes
OVER = ("its node has ended it", "Evicted: ")
"""The kubelet gives the reason of an eviction to a pod only if it has not ended in order."""
PORTS_OF_A_SERVICE = 400


def node_called(cluster: KubernetesCluster, name: str) -> Node:
    return next(node for node in cluster.list_nodes() if node.name == name)


@contextmanager
def old_node(pods: PodCloud) -> Iterator[str]:
    """A node without a kubelet, whose runtime has no user namespaces."""
    name, path = "old", "/api/v1/nodes"
    pods.ask(path, "POST", {"metadata": {"name": name, "labels": {"odc.dev/gpu-type": GPU_TYPE}}})
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "10", "nvidia.com/gpu": "4"}
    status = {"capacity": amounts, "allocatable": amounts, "runtimeHandlers": [{"name": "", "features": {}}]}
    pods.ask(f"{path}/{name}/status", "PATCH", {"status": status})
    try:
        yield name
    finally:
        pods.ask(f"{path}/{name}", "DELETE")


def test_a_node_without_user_namespaces_takes_boxes_only_if_the_operator_allows_it(pods: PodCloud) -> None:
    allowing = KubernetesCluster(pods.api, changed(pods.options, allow_root_of_nodes=True))
    with old_node(pods) as name:
        spec = pods.spec(node=name)
        assert "no user namespaces" in node_called(pods.cluster, name).full
        with pytest.raises(ProviderRefused, match="root in a box is root of the node"):
            pods.cluster.create_box(spec)
        assert pods.cluster.list_boxes() == ()
        assert node_called(allowing, name).full == ""
        assert pods.pod(allowing.create_box(spec))["spec"].get("hostUsers", True)
        pods.forget_everything()
    ours = pods.spec()
    assert node_called(pods.cluster, ours.node).full == ""
    assert pods.pod(allowing.create_box(ours))["spec"]["hostUsers"] is False


def test_the_gpus_of_the_test_cluster_are_called_simulated(pods: PodCloud) -> None:
    assert all(node.simulated for node in pods.cluster.list_nodes())


@contextmanager
def all_ports_used(pods: PodCloud) -> Iterator[None]:
    made: list[str] = []
    try:
        size = PORTS_OF_A_SERVICE
        while size:
            name = f"many-{len(made)}"
            ports = [{"name": f"p{number}", "port": number} for number in range(1, size + 1)]
            body = {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": ports}}
            try:
                api.request(pods.layout, pods.api.path("services"), "POST", body)
                made.append(name)
            except HTTPError:
                size //= 2
        yield
    finally:
        for name in made:
            pods.ask(pods.api.path("services", name), "DELETE")


def test_nodes_are_full_while_all_node_ports_are_in_use(pods: PodCloud) -> None:
    spec = pods.spec()
    with all_ports_used(pods):
        with pytest.raises(PlaceTaken, match="service-node-port-range"):
            pods.cluster.create_box(spec)
        assert all("all node ports" in node.full for node in pods.cluster.list_nodes())
    pods.forget_everything()
    assert {node.full for node in pods.cluster.list_nodes()} == {""}
    assert pods.cluster.create_box(spec).ports


def test_a_box_that_writes_more_than_its_limit_is_evicted_with_the_reason_and_made_again(pods: PodCloud) -> None:
    limited = KubernetesCluster(pods.api, changed(pods.options, layer_bytes=50 * 2**20))
    spec = pods.spec()
    first = limited.create_box(spec)
    box = pods.start(spec)
    assert box.uid == first.uid
    pods.ssh(box, "head -c 100m /dev/urandom >/tmp/file")
    eventually("it is evicted", lambda: pods.box(spec.name).message.startswith(OVER), 120)
    assert pods.box(spec.name).state is BoxState.EXITED
    with pytest.raises(BoxGone, match="|".join(OVER)):
        pods.cluster.ssh_answers(box)
    again = limited.create_box(replace(spec, kept_ports=box.ports))
    assert "storage usage exceeds" in again.replaces
    assert pods.start(spec).uid == again.uid
