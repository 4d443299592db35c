"""Boxes on a cluster whose API server, kubelets and nodes fail, and that others change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace as changed
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace
from tests.boxes import end_box
from tests.cluster import faults
from tests.cluster.api_proxy import CUT, ApiProxy, Fault, api_proxy
from tests.cluster.test_adapter_boxes import stranger
from tests.pods import PodCloud
from tests.waiting import eventually

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.domain.box import BoxSeen, BoxSpec, BoxState, StartPhase, StartWait
from odc.domain.errors import BoxGone, ProviderRefused, ProviderUnavailable

pytestmark = pytest.mark.kubernetes
T = TypeVar("T")
CALLS = 11
"""So many a box needs at least that is made and ended without a start."""


@pytest.fixture
def proxy(pods: PodCloud, tmp_path: Path) -> Iterator[ApiProxy]:
    with api_proxy(pods.layout, tmp_path) as made:
        yield made


@pytest.fixture
def through(pods: PodCloud, proxy: ApiProxy) -> Iterator[KubernetesCluster]:
    """The cloud's cluster, by way of the proxy."""
    connection = KubernetesApi(proxy.kubeconfig, namespace=pods.namespace)
    yield KubernetesCluster(connection, pods.options)
    connection.close()


def insisted(call: Callable[[], T]) -> T:
    """What it returns once it does not fail any more; a refusal would end a reservation."""
    while True:
        try:
            return call()
        except ProviderUnavailable:
            continue


def wait_of(pods: PodCloud, spec: BoxSpec, box: BoxSeen) -> StartWait | None:
    return pods.cluster.start_box(spec.name, box.uid)


def drain(pods: PodCloud, box: BoxSeen) -> None:
    """What `kubectl drain` does to a pod."""
    path = pods.api.path("pods", box.container)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": box.container}}
    pods.ask(f"{path}/eviction", "POST", body)


def cordon(pods: PodCloud, node: str, on: bool) -> None:
    pods.ask(f"/api/v1/nodes/{node}", "PATCH", {"spec": {"unschedulable": on}})


@pytest.mark.parametrize(("status", "acted"), [(409, False), (429, False), (500, False), (500, True), (CUT, True)])
def test_a_fault_at_any_call_passes_and_leaves_one_box_and_then_nothing(
    pods: PodCloud, proxy: ApiProxy, through: KubernetesCluster, status: int, acted: bool
) -> None:
    def lives(spec: BoxSpec) -> None:
        box = insisted(lambda: through.create_box(spec))
        assert [one.uid for one in pods.cluster.list_boxes()] == [box.uid]
        insisted(lambda: through.write_files(spec.name, spec.files))
        eventually("it is gone", lambda: insisted(lambda: through.end_box(spec.name, box.uid, faults.AT_ONCE)))
        insisted(lambda: through.clean_up(spec.name.reservation_id, 1))
        assert (pods.cluster.list_boxes(), pods.cluster.list_remains()) == ((), ())

    assert hits_of_every_call(pods, proxy, status, acted, lives) >= CALLS


@pytest.mark.parametrize(("status", "acted"), [(409, False), (500, True)])
def test_a_fault_at_any_call_of_a_start_starts_the_box(
    pods: PodCloud, proxy: ApiProxy, through: KubernetesCluster, status: int, acted: bool
) -> None:
    def starts(spec: BoxSpec) -> None:
        box = pods.cluster.create_box(spec)
        insisted(lambda: through.start_box(spec.name, box.uid))
        eventually("it runs", lambda: pods.cluster.start_box(spec.name, box.uid) is None)

    assert hits_of_every_call(pods, proxy, status, acted, starts) == 3


def hits_of_every_call(
    pods: PodCloud, proxy: ApiProxy, status: int, acted: bool, work: Callable[[BoxSpec], None]
) -> int:
    """Do the work with a fault at its first call, its second, and so on; returns how many calls it has."""
    for number in itertools.count():
        proxy.fault = fault = Fault(status, skip=number, acted=acted)
        work(pods.spec())
        if not fault.hit:
            return number
    raise AssertionError


def test_a_box_on_a_silent_node_is_unreachable_and_goes_on_when_the_kubelet_is_back(pods: PodCloud) -> None:
    box = pods.start(pods.spec())
    pods.ssh(box, "echo kept >/tmp/file")
    with faults.kubelet_down(pods.node_of(box)):
        faults.wait_until_lost(pods.node_of(box))
        seen = pods.box(box.name)
        assert (seen.state, seen.message) == (BoxState.UNREACHABLE, "its node does not answer")
        assert not next(node for node in pods.cluster.list_nodes() if node.name == box.node).ready
        assert pods.ssh(box, "cat /tmp/file").stdout == "kept\n"
    eventually("it is reachable", lambda: pods.box(box.name).state is BoxState.RUNNING)
    assert pods.box(box.name).uid == box.uid
    assert pods.ssh(box, "cat /tmp/file").stdout == "kept\n"


def test_a_box_starts_again_by_itself_after_its_node_has(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.start(spec)
    with faults.node_down(pods.node_of(box)):
        faults.wait_until_lost(pods.node_of(box))
    eventually("SSH is back", lambda: pods.ssh(box, "true").returncode == 0)
    now = pods.box(box.name)
    assert (now.uid, now.state, now.ports) == (box.uid, BoxState.RUNNING, box.ports)


def test_the_boxes_of_a_node_that_was_deleted_are_not_listed_as_running(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.start(spec)
    of = pods.node_of(box)
    with faults.kubelet_down(of):
        labels = pods.ask(f"/api/v1/nodes/{of.name}")["metadata"]["labels"]
        pods.ask(f"/api/v1/nodes/{of.name}", "DELETE")
        assert of.name not in [node.name for node in pods.cluster.list_nodes()]
        assert all(one.state is BoxState.UNREACHABLE for one in pods.cluster.list_boxes())
        with pytest.raises(ProviderRefused, match=f"there is no node {of.name}"):
            pods.cluster.create_box(pods.spec(node=of.name))
    # The kubelet registers again.
    pods.ask(f"/api/v1/nodes/{of.name}", "PATCH", {"metadata": {"labels": labels}})


def test_a_drained_box_is_made_again_once_its_node_takes_pods(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.start(spec)
    cordon(pods, box.node, True)
    try:
        drain(pods, box)
        # Until the pod is gone, nothing is refused: a refusal would end the reservation.
        other = insisted(lambda: pods.cluster.create_box(replace(spec, kept_ports=box.ports)))
        assert (other.uid != box.uid, other.ports) == (True, box.ports)

        def told() -> str:
            wait = wait_of(pods, spec, other)
            return wait.detail if wait is not None and wait.phase is StartPhase.NODE else ""

        eventually("it waits for its node", lambda: "unschedulable" in told())
    finally:
        cordon(pods, box.node, False)
    eventually("it runs", lambda: wait_of(pods, spec, other) is None)
    eventually("SSH answers", lambda: pods.ssh(box, "true").returncode == 0)


def test_a_box_that_someone_deletes_while_it_starts_is_gone_and_not_refused_for_good(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.cluster.create_box(spec)
    pods.ask(pods.api.path("pods", box.container), "DELETE", {"gracePeriodSeconds": 0})
    with pytest.raises(BoxGone):
        pods.cluster.start_box(spec.name, box.uid)
    with pytest.raises(BoxGone):
        pods.cluster.ssh_answers(box)
    assert pods.start(spec).uid != box.uid


def test_a_quota_that_is_used_up_is_waited_for(pods: PodCloud) -> None:
    quotas = pods.api.path("resourcequotas")
    pods.ask(quotas, "POST", {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}})
    spec = pods.spec()

    def refusal() -> str:
        try:
            pods.cluster.create_box(spec)
        except ProviderUnavailable as error:
            return error.message
        end_box(pods.cluster, spec.name, pods.box(spec.name).uid)
        return ""

    try:
        said = eventually("the quota counts", refusal)
        assert said.startswith("the namespace's quota is used up: ")
        assert "limited: pods=0" in said
    finally:
        pods.ask(f"{quotas}/full", "DELETE")
    eventually("there is room", lambda: not refusal())


def test_a_box_that_was_out_of_memory_can_be_used_again_and_keeps_its_files(pods: PodCloud) -> None:
    spec = pods.spec()
    limit = replace(spec.resources.limit, memory_bytes=200 * 2**20)
    small = replace(spec.resources, limit=limit, request=limit, shm_bytes=2**20)
    box = pods.start(replace(spec, resources=small))
    pods.ssh(box, "echo kept >~/file")
    assert pods.ssh(box, "head -c 400m /dev/zero | tail").returncode != 0
    eventually("SSH is back", lambda: pods.ssh(box, "true").returncode == 0)
    assert pods.ssh(box, "cat ~/file").stdout == "kept\n"


def test_two_clouds_in_one_namespace_and_other_tenants_do_not_touch_each_other(pods: PodCloud) -> None:
    other = KubernetesCluster(pods.api, changed(pods.options, cloud=f"{pods.options.cloud}-b"))
    tenant = stranger(pods, "tenant", 1, "node-2")
    mine, theirs = pods.spec(), pods.spec()
    box, foreign = pods.cluster.create_box(mine), other.create_box(theirs)
    try:
        assert [one.uid for one in pods.cluster.list_boxes()] == [box.uid]
        assert [one.uid for one in other.list_boxes()] == [foreign.uid]
        assert other.end_box(mine.name, box.uid, faults.AT_ONCE)
        other.clean_up(mine.name.reservation_id, 1)
        other.write_files(mine.name, {"name": b"stolen\n"})
        assert other.check_host([box]).repaired == ()
        assert pods.cluster.list_remains() == ((mine.name.reservation_id, 1),)
        assert pods.start(mine).uid == box.uid
        assert pods.ssh(box, "cat /run/odc/name").stdout == "train\n"
    finally:
        end_box(other, theirs.name, foreign.uid)
        other.clean_up(theirs.name.reservation_id, 1)
    pods.forget_everything()
    assert pods.ask(tenant)["status"]["phase"] == "Running"
    pods.ask(tenant, "DELETE", {"gracePeriodSeconds": 0})
