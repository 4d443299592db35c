"""The kubelets of the test cluster hand out simulated GPUs."""

from __future__ import annotations

from contextlib import suppress

import pytest
from tests.cluster import api, gpus, node, processes
from tests.cluster.conftest import Namespace
from tests.cluster.layout import Layout, Node
from tests.cluster.test_cluster import pod
from tests.waiting import eventually

pytestmark = pytest.mark.kubernetes


def allocatable(layout: Layout, of: Node) -> int:
    status = api.request(layout, f"/api/v1/nodes/{of.name}")["status"]
    return int(status["allocatable"].get(gpus.RESOURCE, 0))


def sockets(of: Node) -> dict[str, int]:
    """The sockets of the kubelet and its plugins, and when each was made."""
    found = {}
    for path in (of.folder / "lib" / "kubelet" / "device-plugins").glob("*.sock"):
        with suppress(FileNotFoundError):
            found[path.name] = path.stat().st_ctime_ns
    return found


def test_a_pod_sees_the_gpus_that_it_was_given_and_no_others(cluster: Layout, namespace: Namespace) -> None:
    of = cluster.nodes[0]
    eventually("the node offers its GPUs", lambda: allocatable(cluster, of) == gpus.GPUS)
    opened = "for gpu in /dev/simgpu*; do : <$gpu && echo ${gpu#/dev/}; done"
    asking = pod("two", of.name, f"echo $NVIDIA_VISIBLE_DEVICES; cat /run/odc-gpus/*; {opened}")
    asking["spec"]["containers"][0]["resources"] = {"limits": {gpus.RESOURCE: "2"}}
    namespace.create("pods", asking)
    namespace.wait_for_phase("two", "Succeeded")
    first, *lines = namespace.log("two").splitlines()
    given = first.split(",")
    assert len(given) == 2
    assert set(given) <= set(gpus.ids(of))
    assert sorted(line for line in lines if line.startswith("GPU-")) == sorted(given)
    assert sorted(line for line in lines if line.startswith("simgpu")) == sorted(f"simgpu{gpu[-1]}" for gpu in given)


def test_a_failed_gpu_is_not_offered_until_it_is_healthy(cluster: Layout) -> None:
    of = cluster.nodes[0]
    gpus.set_health(of, gpus.ids(of)[:1])
    eventually("one GPU less is offered", lambda: allocatable(cluster, of) == gpus.GPUS - 1)
    gpus.set_health(of)
    eventually("all GPUs are offered", lambda: allocatable(cluster, of) == gpus.GPUS)


def test_a_restarted_kubelet_offers_the_gpus_again(cluster: Layout) -> None:
    of = cluster.nodes[0]
    processes.stop(cluster, f"kubelet-{of.number}", "kubelet")
    before = sockets(of)
    node.start_kubelet(of)
    # The kubelet deletes the plugin's socket when it starts.
    eventually(
        "all sockets are new", lambda: sockets(of).keys() == before.keys() and not sockets(of).items() & before.items()
    )
    eventually("all GPUs are offered", lambda: allocatable(cluster, of) == gpus.GPUS)
