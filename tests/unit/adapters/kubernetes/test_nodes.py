"""Kubernetes' nodes as ODC lends them, and what other tenants hold."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from odc.adapters.kubernetes.nodes import node_of, requests_by_node
from odc.adapters.kubernetes.objects import KubernetesNode, RequestingPod
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.adapters.kubernetes.quantities import amount, millis
from odc.domain.node import Node

GPU = "nvidia.com/gpu"
OPTIONS = KubernetesOptions(cloud="lab", program=b"")
ROOM = {"cpu": "8", "memory": "64Gi", GPU: "4"}


def a_node(options: KubernetesOptions = OPTIONS, held: dict[str, str] | None = None, **changes: Any) -> Node | None:
    """The node of this description, on which others hold so much."""
    body: dict[str, Any] = {
        "metadata": {"name": "n1", "labels": changes.pop("labels", {"odc.dev/gpu-type": "h100"})},
        "spec": changes.pop("spec", {}),
        "status": {
            "capacity": ROOM,
            "allocatable": ROOM,
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"architecture": "amd64"},
            "runtimeHandlers": [{"name": "", "features": {"userNamespaces": True}}],
            **changes,
        },
    }
    requests = {name: amount(text) for name, text in (held or {}).items()}
    return node_of(msgspec.convert(body, KubernetesNode), requests, options)


def lent(**changes: Any) -> Node:
    node = a_node(**changes)
    assert node is not None
    return node


def a_pod(*requests: dict[str, str], first: list[dict[str, Any]] | None = None, node: str = "n1") -> RequestingPod:
    containers = [{"resources": {"requests": wanted}} for wanted in requests]
    return msgspec.convert(
        {"spec": {"nodeName": node, "containers": containers, "initContainers": first or []}}, RequestingPod
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4", "4"),
        ("500m", "0.5"),
        ("2Ki", "2048"),
        ("1.5Gi", "1610612736"),
        ("3k", "3000"),
        ("1e3", "1000"),
        ("x", "0"),
    ],
)
def test_amounts_are_read_as_kubernetes_writes_them(text: str, number: str) -> None:
    assert amount(text) == Decimal(number)


def test_cpu_is_counted_in_thousandths() -> None:
    assert (millis("2"), millis("1930m"), millis("")) == (2000, 1930, 0)


def test_a_node_has_the_type_of_its_label_and_the_units_that_it_offers() -> None:
    node = lent(allocatable={"cpu": "7", "memory": "60Gi", GPU: "3"})
    assert (node.gpu_type, node.units, node.gpus, node.arch) == ("h100", 3, (), "amd64")
    assert (node.capacity.cpu_millis, node.allocatable.cpu_millis) == (8000, 7000)
    assert node.allocatable.memory_bytes == 60 * 2**30
    assert (node.ready, node.cordoned, node.held_units, node.full) == (True, False, 0, "")


def test_a_type_follows_from_the_product_that_feature_discovery_labels() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
    assert lent(labels=labels).gpu_type == "a100"


def test_a_node_without_gpus_is_lent_only_if_its_label_says_so() -> None:
    bare = {"cpu": "8", "memory": "64Gi"}
    assert a_node(labels={}, capacity=bare, allocatable=bare) is None
    assert a_node(capacity=bare, allocatable=bare) is None
    node = lent(labels={"odc.dev/gpu-type": "cpu-x86"}, capacity=bare, allocatable=bare)
    assert (node.gpu_type, node.units) == ("cpu-x86", 4)


def test_a_node_whose_device_plugin_is_away_keeps_its_units_and_takes_nothing() -> None:
    node = lent(allocatable=ROOM | {GPU: "0"})
    assert node.units == 4
    assert "device plugin" in node.full


@pytest.mark.parametrize(
    ("held", "units"),
    [
        ({}, 0),
        ({GPU: "3"}, 3),
        ({GPU: "9"}, 4),
        # A share is 1800m of 8 CPUs: as much as is left after 800m fits four times, but not after 900m.
        ({"cpu": "800m"}, 0),
        ({"cpu": "900m"}, 1),
        ({"memory": "64Gi"}, 4),
        ({GPU: "1", "cpu": "4"}, 2),
    ],
)
def test_units_that_others_hold_are_their_gpus_or_the_shares_that_no_longer_fit(
    held: dict[str, str], units: int
) -> None:
    assert lent(held=held).held_units == units


def test_requests_are_summed_as_the_scheduler_does() -> None:
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    early = {"resources": {"requests": {"cpu": "500m", "memory": "8Gi"}}}
    pods = [
        a_pod({"cpu": "1", GPU: "1"}, {"cpu": "250m", "memory": "1Gi"}, first=[sidecar, early]),
        a_pod({GPU: "2"}),
        a_pod({GPU: "4"}, node=""),
        a_pod({GPU: "1"}, node="n2"),
    ]
    assert requests_by_node(pods) == {
        "n1": {"cpu": Decimal("2.25"), "memory": Decimal(8 * 2**30), GPU: Decimal(3)},
        "n2": {GPU: Decimal(1)},
    }


def test_a_cordon_and_a_taint_of_someone_else_keep_boxes_away_but_not_one_for_boxes() -> None:
    assert lent(spec={"unschedulable": True}).cordoned
    assert lent(spec={"taints": [{"key": "team", "effect": "NoSchedule"}]}).cordoned
    for key, effect in (("nvidia.com/gpu", "NoSchedule"), ("team", "PreferNoSchedule")):
        assert not lent(spec={"taints": [{"key": key, "effect": effect}]}).cordoned


def test_a_silent_node_is_not_ready_and_not_cordoned() -> None:
    silent = [{"type": "Ready", "status": "Unknown"}]
    node = lent(conditions=silent, spec={"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]})
    assert (node.ready, node.cordoned) == (False, False)


def test_users_reach_a_node_at_its_outer_address_or_at_the_operators() -> None:
    both = [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "1.2.3.4"}]
    assert lent(addresses=both).address == "1.2.3.4"
    assert lent().address == "10.0.0.1"
    fixed = KubernetesOptions(cloud="lab", program=b"", address="boxes.example.org")
    assert lent(options=fixed, addresses=both).address == "boxes.example.org"


OTHER_RUNTIME = {"name": "kata", "features": {"userNamespaces": True}}


@pytest.mark.parametrize("handlers", [[], [{"name": "", "features": {}}], [OTHER_RUNTIME]])
def test_a_node_without_user_namespaces_takes_no_boxes_unless_the_operator_allows_it(handlers: list[Any]) -> None:
    assert lent().full == ""
    assert "allow_root_of_nodes" in lent(runtimeHandlers=handlers).full
    allowed = KubernetesOptions(cloud="lab", program=b"", allow_root_of_nodes=True)
    assert lent(options=allowed, runtimeHandlers=handlers).full == ""


@pytest.mark.parametrize(("value", "simulated"), [("true", True), ("false", False)])
def test_a_label_says_that_the_gpus_of_a_node_are_simulated(value: str, simulated: bool) -> None:
    assert not lent().simulated
    assert lent(labels={"odc.dev/gpu-type": "h100", "odc.dev/simulated": value}).simulated is simulated
