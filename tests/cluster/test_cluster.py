"""The test cluster is a real one: nodes, user namespaces, NodePorts, DNS, logs, and faults that it survives."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from tests.cluster import api, lifecycle, node, processes
from tests.cluster.conftest import SHELL_IMAGE, Namespace
from tests.cluster.layout import Layout
from tests.waiting import eventually

pytestmark = pytest.mark.kubernetes


def pod(name: str, node_name: str, script: str, restart: str = "Never") -> dict[str, Any]:
    container = {"name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script]}
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "hostUsers": False,
            "nodeName": node_name,
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


def fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=2) as answer:
        return str(answer.read().decode())


def fetched(url: str) -> str:
    try:
        return fetch(url)
    except OSError:
        return ""


@pytest.fixture(scope="module")
def web(namespace: Namespace) -> int:
    """A web server on node-1 that shows its user namespace's mapping, and its NodePort."""
    script = "cat /proc/self/uid_map >/tmp/uid_map; exec httpd -f -p 8080 -h /tmp"
    namespace.create("pods", pod("web", "node-1", script, restart="Always"))
    ports = [{"port": 80, "targetPort": 8080}]
    service = {"metadata": {"name": "web"}, "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": ports}}
    made = namespace.create("services", service)
    namespace.wait_for_phase("web", "Running")
    return int(made["spec"]["ports"][0]["nodePort"])


def test_two_nodes_are_ready(cluster: Layout) -> None:
    assert api.ready_nodes(cluster) == {"node-1", "node-2"}


def test_a_pod_runs_in_a_user_namespace_and_answers_at_a_node_port_of_every_node(
    cluster: Layout, namespace: Namespace, web: int
) -> None:
    for each in cluster.nodes:
        url = f"http://{each.address}:{web}/uid_map"
        mapping = eventually(f"{url} answers", lambda url=url: fetched(url)).split()  # type: ignore[misc]
        assert mapping[0] == "0" and int(mapping[1]) >= 65536 and mapping[2] == "65536"


def test_a_pod_finds_services_and_the_api_server_by_name(namespace: Namespace, web: int) -> None:
    names = f"web web.{namespace.name}.svc.cluster.local"
    script = f"""
        nslookup kubernetes.default.svc.cluster.local || exit 1
        for name in {names}; do printf 'GET /uid_map HTTP/1.0\\r\\n\\r\\n' | nc $name 80 || exit 1; done
    """
    namespace.create("pods", pod("client", "node-2", script))
    namespace.wait_for_phase("client", "Succeeded")
    assert namespace.log("client").count(" 65536\n") == 2


def test_a_killed_node_becomes_not_ready_and_comes_back(cluster: Layout) -> None:
    lost = cluster.nodes[1]
    processes.stop(cluster, lost.part, "sleep")
    eventually("the node is NotReady", lambda: api.ready_nodes(cluster) == {"node-1"})
    lifecycle.start_node(lost)
    lifecycle.wait_until_ready(cluster)


def test_the_api_server_and_a_kubelet_can_be_stopped_and_started(cluster: Layout) -> None:
    processes.stop(cluster, "apiserver", "kube-apiserver")
    processes.stop(cluster, "kubelet-1", "kubelet")
    assert not api.is_ready(cluster)
    lifecycle.start_control_plane(cluster)
    node.start_kubelet(cluster.nodes[0])
    lifecycle.wait_until_ready(cluster)
