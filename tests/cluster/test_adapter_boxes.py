"""Boxes on the test cluster: what only Kubernetes has, besides the contract (tests/contract/test_cluster.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.cluster.conftest import SHELL_IMAGE
from tests.pods import PodCloud
from tests.waiting import eventually

from odc.domain.box import BoxMount, BoxSeen, BoxState
from odc.domain.errors import PlaceTaken, ProviderRefused, ProviderUnavailable

pytestmark = pytest.mark.kubernetes


def stranger(pods: PodCloud, name: str, gpus: int, node: str) -> str:
    """Another tenant's pod that holds GPUs; returns its path."""
    container: dict[str, Any] = {"name": "main", "image": SHELL_IMAGE, "command": ["sleep", "3600"]}
    container |= {"imagePullPolicy": "Never", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 0}
    pods.ask(pods.api.path("pods"), "POST", {"metadata": {"name": name}, "spec": {**spec, "containers": [container]}})
    path = pods.api.path("pods", name)
    eventually("it runs", lambda: pods.ask(path)["status"]["phase"] == "Running")
    return path


def held(pods: PodCloud, node: str) -> int:
    return next(one for one in pods.cluster.list_nodes() if one.name == node).held_units


def test_root_of_a_box_is_nobody_on_its_node_and_the_box_has_its_gpus_and_memory(pods: PodCloud) -> None:
    spec = pods.spec(units=2)
    box = pods.start(spec)
    done = pods.ssh(
        box, "sudo cat /proc/1/uid_map; ls /dev/simgpu* | wc -l; stat -f -c '%S %b' /dev/shm; ls /run/secrets"
    )
    mapping, gpus, shm = done.stdout.splitlines()[:3]
    inner, outer, count = map(int, mapping.split())
    assert (inner, count) == (0, 65536)
    assert outer >= 65536
    assert gpus == "2"
    size, blocks = map(int, shm.split())
    assert abs(size * blocks - spec.resources.shm_bytes) < 2**20
    assert "serviceaccount" not in done.stdout


def test_a_box_that_has_just_started_is_not_called_unreachable(pods: PodCloud) -> None:
    box = pods.start(pods.spec())

    def is_reachable() -> bool:
        report = pods.cluster.check_host([box])
        assert not report.unreachable
        return box.uid in report.reachable

    eventually("a probe has reached it", is_reachable)


def test_boxes_find_each_other_by_a_stable_name(pods: PodCloud) -> None:
    first, second = pods.spec(), pods.spec(node="node-2")
    boxes = [pods.start(spec) for spec in (first, second)]
    other = f"train-{second.name.reservation_id[:8]}-0.gpu-dev-headless"
    assert pods.ssh(boxes[1], "hostname -f").stdout.startswith(other)
    assert "SSH-2.0" in pods.ssh(boxes[0], f"bash -c 'exec 3<>/dev/tcp/{other}/22; head -1 <&3'").stdout


def test_what_belongs_to_a_box_goes_with_a_pod_that_is_deleted_by_hand(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.start(spec)
    assert pods.cluster.list_remains() == ((spec.name.reservation_id, 1),)
    pods.ask(pods.api.path("pods", box.container), "DELETE", {"gracePeriodSeconds": 1})
    eventually("nothing is left", lambda: not pods.cluster.list_remains())


def test_gpus_of_other_tenants_are_not_lent_and_a_box_that_they_forestall_is_placed_again(pods: PodCloud) -> None:
    spec = pods.spec(units=2)
    assert held(pods, spec.node) == 0
    path = stranger(pods, "greedy", 3, spec.node)
    try:
        assert held(pods, spec.node) == 3
        box = pods.cluster.create_box(spec)

        def refusal() -> str:
            try:
                assert pods.cluster.start_box(spec.name, box.uid) is not None
            except PlaceTaken as error:
                return error.message
            return ""

        assert "Insufficient nvidia.com/gpu" in eventually("the scheduler finds no room", refusal)
    finally:
        pods.ask(path, "DELETE", {"gracePeriodSeconds": 0})
    eventually("they are free", lambda: held(pods, spec.node) == 0)


def test_an_image_without_a_server_is_refused_with_the_words_of_the_box(pods: PodCloud) -> None:
    spec = pods.spec(image=SHELL_IMAGE)
    box = pods.cluster.create_box(spec)
    eventually("it has run", lambda: pods.cluster.start_box(spec.name, box.uid) is None)

    def refusal() -> str:
        try:
            assert not pods.cluster.ssh_answers(box)
        except ProviderRefused as error:
            return error.message
        return ""

    said = eventually("it is refused", refusal)
    assert said.startswith("the box ended with 79: the image has no sshd")
    listed = pods.box(spec.name)
    assert (listed.state, listed.exit_code) == (BoxState.EXITED, 79)


def test_an_evicted_box_is_made_again_with_the_same_name_and_ports(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.start(spec)
    status = {"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}
    pods.kill(box, "SIGKILL")
    pods.ask(pods.api.path("pods", box.container) + "/status", "PATCH", status)
    listed = pods.box(spec.name)
    assert (listed.state, listed.message) == (BoxState.EXITED, "Evicted: The node was low on resource: memory.")
    with pytest.raises(ProviderRefused, match="Evicted"):
        pods.cluster.start_box(spec.name, box.uid)

    def again() -> BoxSeen | None:
        try:
            return pods.cluster.create_box(replace(spec, kept_ports=box.ports))
        except ProviderUnavailable:
            return None

    other = eventually("it is made again", again)
    assert other.uid != box.uid
    assert (other.replaces, other.ports) == (listed.message, box.ports)
    assert pods.start(spec).uid == other.uid


def test_a_box_keeps_its_ports_while_the_service_of_the_former_one_is_still_there(pods: PodCloud) -> None:
    spec = pods.spec()
    box = pods.cluster.create_box(spec)
    pods.ask(pods.api.path("pods", box.container), "DELETE", {"propagationPolicy": "Orphan"})
    eventually("the former pod is gone", lambda: not pods.cluster.list_boxes())
    assert pods.ask(pods.api.path("services", box.container))
    other = pods.cluster.create_box(replace(spec, kept_ports=box.ports))
    assert other.uid != box.uid
    assert other.ports == box.ports


def test_a_home_is_a_claim_of_the_namespace(pods: PodCloud) -> None:
    folder = Path("/var/lib/odc-test-home")
    volume = {
        "metadata": {"name": pods.namespace},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"},
            "claimRef": {"namespace": pods.namespace, "name": "home"},
        },
    }
    claim = {
        "metadata": {"name": "home"},
        "spec": {
            "storageClassName": "",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": pods.namespace,
        },
    }
    pods.ask("/api/v1/persistentvolumes", "POST", volume)
    try:
        pods.ask(pods.api.path("persistentvolumeclaims"), "POST", claim)
        spec = pods.spec(mounts=(BoxMount(target="/home/dev", handle="home"),))
        box = pods.start(spec)
        assert pods.ssh(box, "echo kept >~/mine; sync").returncode == 0
        again = pods.start(pods.spec(mounts=spec.mounts))
        assert pods.ssh(again, "cat ~/mine").stdout == "kept\n"
        pods.forget_everything()
    finally:
        pods.ask(f"/api/v1/persistentvolumes/{pods.namespace}", "DELETE")


def test_a_box_knows_its_share_of_the_processors_and_of_the_memory(pods: PodCloud) -> None:
    spec = pods.spec()
    cpus, memory = spec.resources.cpus, spec.resources.limit.memory_bytes
    environment = f"ODC_CPUS={cpus}\nOMP_NUM_THREADS={cpus}\n"
    box = pods.start(replace(spec, files={**spec.files, "env": environment.encode()}))
    limits = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    lines = pods.ssh(box, f"nproc; nproc --all; cat {limits} 2>/dev/null").stdout.split()
    assert int(lines[0]) == cpus < int(lines[1])
    assert abs(int(lines[2]) - memory) < 4096
