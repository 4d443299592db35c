"""What a pod says of its box: pods as the API server has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from odc.adapters.kubernetes.box_state import box_seen, runs_never, start_wait
from odc.adapters.kubernetes.objects import Pod
from odc.domain.box import BoxName, BoxSeen, BoxState, MemoryKills, StartPhase
from odc.domain.errors import PlaceTaken, ProviderRefused

LABELS = {
    "odc.dev/cloud": "lab",
    "odc.dev/reservation": "abc",
    "odc.dev/attempt": "2",
    "odc.dev/rank": "1",
    "odc.dev/box-gpu-type": "t4",
    "odc.dev/box-units": "3",
}
MARKS = {"odc.dev/node": "node-1", "odc.dev/address": "10.0.0.1", "odc.dev/ports": "ssh=30001,jupyter=30002"}
RUNNING = {"running": {"startedAt": "2026-11-27T08:00:00Z"}}
OUT_OF_MEMORY = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-27T09:00:00Z"}}
CRASHED = {"waiting": {"reason": "CrashLoopBackOff"}}


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message}}


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def a_pod(
    state: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    restarts: int = 0,
    labels: dict[str, str] | None = None,
    node: str = "node-1",
    **status: Any,
) -> Pod:
    """A pod whose container is in this state; without one, no kubelet has seen it yet."""
    container = {"name": "box", "state": state, "lastState": last or {}, "restartCount": restarts}
    known = {"containerStatuses": [container]} if state else {}
    body = {
        "metadata": {"name": "train-abc-2-1", "uid": "u1", "labels": labels or LABELS, "annotations": MARKS},
        "spec": {"nodeName": node, "containers": [{"name": "box", "image": "lab/box:1"}]},
        "status": {"phase": "Running", **known, **status},
    }
    return msgspec.convert(body, Pod)


def unschedulable(message: str) -> Pod:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return a_pod(node="", phase="Pending", conditions=[condition])


def seen(pod: Pod, ready: frozenset[str] = frozenset(("node-1",))) -> BoxSeen:
    box = box_seen(pod, "kubectl delete pod", ready)
    assert box is not None
    return box


def test_a_running_pod_is_a_box_with_what_it_got() -> None:
    assert seen(a_pod(RUNNING)) == BoxSeen(
        name=BoxName("abc", 2, 1),
        uid="u1",
        container="train-abc-2-1",
        delete_command="kubectl delete pod train-abc-2-1",
        node="node-1",
        gpu_type="t4",
        units=3,
        state=BoxState.RUNNING,
        address="10.0.0.1",
        ports={"ssh": 30001, "jupyter": 30002},
        memory_kills=MemoryKills(life="0", count=0),
    )


@pytest.mark.parametrize("wrong", [{"odc.dev/rank": "first"}, {"odc.dev/box-units": ""}])
def test_a_pod_with_other_labels_is_not_a_box(wrong: dict[str, str]) -> None:
    assert box_seen(a_pod(RUNNING, labels=LABELS | wrong), "kubectl delete pod") is None


@pytest.mark.parametrize(
    ("pod", "state", "code", "message"),
    [
        (a_pod(node=""), BoxState.CREATED, None, ""),
        (a_pod(waits("ContainerCreating")), BoxState.CREATED, None, ""),
        (a_pod(RUNNING, last=ended(1)), BoxState.RUNNING, None, ""),
        (a_pod(ended(0)), BoxState.EXITED, 0, "its first process ended"),
        (a_pod(ended(78, "starts\nodc-box: the disk is not there\n")), BoxState.EXITED, 78, "the disk is not there"),
        (a_pod(ended(5, "why\nConnection closed [preauth]\n")), BoxState.EXITED, 5, "why"),
        (a_pod(CRASHED, last=ended(79, "odc-box: no sshd")), BoxState.EXITED, 79, "no sshd"),
        (a_pod(OUT_OF_MEMORY), BoxState.EXITED, 137, "the kernel killed it because it was out of memory"),
        (
            a_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            BoxState.EXITED,
            None,
            "Evicted: The node was low on resource: memory.",
        ),
    ],
)
def test_the_state_of_a_box_and_why_it_ended(pod: Pod, state: BoxState, code: int | None, message: str) -> None:
    box = seen(pod)
    assert (box.state, box.exit_code, box.message) == (state, code, message)


def test_a_box_on_a_silent_node_is_unreachable_whatever_its_pod_says() -> None:
    box = seen(a_pod(ended(0)), ready=frozenset())
    assert (box.state, box.exit_code, box.message) == (BoxState.UNREACHABLE, None, "its node does not answer")


def test_an_end_for_lack_of_memory_is_the_same_kill_before_and_after_the_restart() -> None:
    kill = MemoryKills(life="4", count=1, last_at=datetime(2026, 11, 27, 9, tzinfo=UTC))
    ends = a_pod(OUT_OF_MEMORY, restarts=4), a_pod(CRASHED, last=OUT_OF_MEMORY, restarts=4)
    again = a_pod(RUNNING, last=OUT_OF_MEMORY, restarts=5)
    assert [seen(pod).memory_kills for pod in (*ends, again)] == [kill] * 3
    second = seen(a_pod(OUT_OF_MEMORY, last=OUT_OF_MEMORY, restarts=5)).memory_kills
    assert second is not None
    assert (second.life, second.count) == ("5", 1)


@pytest.mark.parametrize(
    ("pod", "phase", "words"),
    [
        (a_pod(node="", phase="Pending"), StartPhase.NODE, "scheduler"),
        (unschedulable("0/2 nodes are available: 1 node(s) had untolerated taint"), StartPhase.NODE, "untolerated"),
        (a_pod(phase="Pending"), StartPhase.IMAGE, "fetches the image"),
        (a_pod(waits("ErrImagePull", "dial tcp: connection refused")), StartPhase.IMAGE, "could not fetch lab/box:1"),
        (a_pod(waits("CreateContainerError", "no space left")), StartPhase.IMAGE, "no space left"),
    ],
)
def test_what_a_started_box_waits_for(pod: Pod, phase: StartPhase, words: str) -> None:
    wait = start_wait(pod)
    assert wait is not None
    assert wait.phase is phase
    assert words in wait.detail


@pytest.mark.parametrize("pod", [a_pod(RUNNING), a_pod(ended(0)), a_pod(CRASHED, last=ended(79))])
def test_a_box_that_has_run_waits_for_nothing(pod: Pod) -> None:
    assert start_wait(pod) is None


@pytest.mark.parametrize(
    ("pod", "error", "words"),
    [
        (a_pod(waits("ErrImagePull", "lab/box:1: not found")), ProviderRefused, "image not known: lab/box:1"),
        (a_pod(waits("ErrImageNeverPull", "")), ProviderRefused, "image not known"),
        (a_pod(waits("InvalidImageName", "bad")), ProviderRefused, "image not known"),
        (a_pod(phase="Failed", reason="Evicted"), ProviderRefused, "cannot run again: Evicted"),
        (a_pod(phase="Failed", reason="UnexpectedAdmissionError"), PlaceTaken, "no room"),
        (a_pod(phase="Failed", reason="OutOfcpu"), PlaceTaken, "no room"),
        (unschedulable("0/2 nodes are available: 1 Insufficient nvidia.com/gpu"), PlaceTaken, "other pods"),
    ],
)
def test_a_box_that_cannot_start_says_why(pod: Pod, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        start_wait(pod)


@pytest.mark.parametrize(
    ("pod", "never"),
    [
        (a_pod(ended(79)), True),
        (a_pod(CRASHED, last=ended(128, "no such file")), True),
        (a_pod(phase="Failed", reason="Evicted"), True),
        (a_pod(ended(0)), False),
        (a_pod(CRASHED, last=OUT_OF_MEMORY), False),
        (a_pod(RUNNING, last=ended(79)), False),
    ],
)
def test_which_ends_come_again_at_each_start(pod: Pod, never: bool) -> None:
    assert runs_never(pod) is never


def test_a_pod_that_ended_in_order_because_its_node_told_it_to_says_so() -> None:
    box = seen(a_pod(ended(0), phase="Succeeded"))
    assert (box.state, box.message) == (BoxState.EXITED, "its node has ended it")
