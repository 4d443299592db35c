"""A pod as a box: its state, what it waits for, and why it ended. Pure.

The kubelet restarts a container that has ended, at once the first time and after a growing delay later. A box is listed
as exited only between its end and its next start. A pod whose phase is Failed or Succeeded never runs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from odc.adapters.kubernetes.errors import IMAGE_TROUBLES, image_refusal, shortened
from odc.adapters.kubernetes.manifests import (
    ADDRESS,
    ATTEMPT,
    GPU_TYPE,
    NODE,
    PORTS,
    RANK,
    REPLACES,
    RESERVATION,
    UNITS,
)
from odc.adapters.kubernetes.objects import ContainerStatus, Pod, Terminated
from odc.domain.box import BoxName, BoxSeen, BoxState, MemoryKills, StartPhase, StartWait
from odc.domain.errors import BoxGone, PlaceTaken, ProviderRefused

OUT_OF_MEMORY = "OOMKilled"
_CRASHED = "CrashLoopBackOff"
_OVER = ("Failed", "Succeeded")
_NO_ROOM = ("UnexpectedAdmissionError", "OutOf", "NodeAffinity", "NodePorts")
"""Beginnings of the reasons of a kubelet that refuses a pod: its node has changed since the scheduler chose it."""
_STARTS_AGAIN = {0: "its first process ended", 137: "it was killed", 143: "it was told to stop"}
"""Exit codes of a box that was told to end, or killed; the next start is as good as the first."""
_OF_CLIENTS = "[preauth]"
"""In sshd's lines about clients that connect and leave; they do not say why a box ended."""


def box_name(pod: Pod) -> BoxName | None:
    """Return which box a pod is; None if its labels are not those of a box."""
    labels = pod.metadata.labels
    try:
        return BoxName(labels[RESERVATION], int(labels[ATTEMPT]), int(labels[RANK]))
    except (KeyError, ValueError):
        return None


def box_seen(pod: Pod, command: str, ready_nodes: Set[str] | None = None) -> BoxSeen | None:
    """Return the box; None if the pod's labels are not those of a box.

    Args:
        pod: of this cloud.
        command: how an operator deletes a pod, without the pod's name.
        ready_nodes: names of the nodes that answer; None: all do.
    """
    name = box_name(pod)
    units = pod.metadata.labels.get(UNITS, "")
    if name is None or not units.isdecimal():
        return None
    marks = pod.metadata.annotations
    node = pod.spec.node or marks.get(NODE, "")
    silent = ready_nodes is not None and node not in ready_nodes
    ended = None if silent else ending(pod)
    return BoxSeen(
        name=name,
        uid=pod.metadata.uid,
        container=pod.metadata.name,
        delete_command=f"{command} {pod.metadata.name}",
        node=node,
        gpu_type=pod.metadata.labels.get(GPU_TYPE, ""),
        units=int(units),
        state=BoxState.UNREACHABLE if silent else _state(pod),
        exit_code=ended.exit_code if ended else None,
        message="its node does not answer" if silent else _message(pod, ended),
        address=marks.get(ADDRESS, ""),
        ports=ports_of(marks),
        replaces=marks.get(REPLACES, ""),
        memory_kills=_memory_kills(pod),
    )


def ports_of(annotations: Mapping[str, str]) -> dict[str, int]:
    """Return the node ports that the annotations name."""
    pairs = (part.partition("=") for part in annotations.get(PORTS, "").split(","))
    return {name: int(port) for name, _, port in pairs if port.isdecimal()}


def ports_text(ports: Mapping[str, int]) -> str:
    """Return the value of the annotation that names these ports."""
    return ",".join(f"{name}={port}" for name, port in ports.items())


def is_over(pod: Pod) -> bool:
    """Whether the pod never runs again, as after an eviction."""
    return pod.status.phase in _OVER


def ending(pod: Pod) -> Terminated | None:
    """Return how the box has ended, if it does not run now; None if it runs or has not run yet."""
    status = _container(pod)
    if status is None:
        return None
    if status.state.terminated is not None:
        return status.state.terminated
    return status.last_state.terminated if _is_crashed(status) else None


def runs_never(pod: Pod) -> bool:
    """Whether it has ended in a way in which it ends again each time the kubelet starts it, such as without an sshd."""
    ended = ending(pod)
    return is_over(pod) or (
        ended is not None and ended.reason != OUT_OF_MEMORY and ended.exit_code not in _STARTS_AGAIN
    )


def ending_words(ended: Terminated) -> str:
    """Return why a box ended, in the words of Kubernetes or of the box."""
    if ended.reason == OUT_OF_MEMORY:
        return "the kernel killed it because it was out of memory"
    lines = [line.strip() for line in ended.message.splitlines() if line.strip() and _OF_CLIENTS not in line]
    said = shortened(lines[-1]).removeprefix("odc-box: ") if lines else ""
    return said or _STARTS_AGAIN.get(ended.exit_code, f"it ended with code {ended.exit_code}")


def start_wait(pod: Pod) -> StartWait | None:
    """Return what a pod without a gate waits for; None if its box runs, or has run.

    Raises:
        PlaceTaken: other pods have taken the room on its node.
        ProviderRefused: its image can never be fetched.
        BoxGone: its pod never runs again.
    """
    if is_over(pod):
        if pod.status.reason.startswith(_NO_ROOM):
            raise PlaceTaken(f"its node has no room for it: {pod_words(pod)}")
        raise BoxGone(f"its pod cannot run again: {pod_words(pod)}")
    if not pod.spec.node:
        return _waits_for_node(pod)
    status = _container(pod)
    waiting = status.state.waiting if status else None
    if status is None or (waiting and waiting.reason != _CRASHED):
        return _waits_for_image(pod, *((waiting.reason, waiting.message) if waiting else ("", "")))
    return None


def _waits_for_node(pod: Pod) -> StartWait:
    scheduled = pod.condition("PodScheduled")
    if scheduled is None or scheduled.reason != "Unschedulable":
        return StartWait(StartPhase.NODE, "the scheduler has not looked at it yet")
    words = shortened(scheduled.message)
    node = pod.metadata.annotations.get(NODE, "its node")
    if "Insufficient" in words:
        raise PlaceTaken(f"{node} has no room for it, other pods have taken it: {words}")
    return StartWait(StartPhase.NODE, f"{node} cannot take it: {words}")


def _waits_for_image(pod: Pod, reason: str, words: str) -> StartWait:
    image = pod.spec.containers[0].image if pod.spec.containers else ""
    if refusal := image_refusal(image, reason, words):
        raise ProviderRefused(refusal)
    if reason in IMAGE_TROUBLES:
        told = shortened(words)
        return StartWait(StartPhase.IMAGE, f"{pod.spec.node} could not fetch {image} and tries again: {told}")
    if words:
        return StartWait(StartPhase.IMAGE, f"{pod.spec.node} could not make the container: {shortened(words)}")
    return StartWait(StartPhase.IMAGE, f"{pod.spec.node} fetches the image or makes the container")


def _container(pod: Pod) -> ContainerStatus | None:
    return pod.status.containers[0] if pod.status.containers else None


def _is_crashed(status: ContainerStatus) -> bool:
    waiting = status.state.waiting
    return waiting is not None and waiting.reason == _CRASHED


def _state(pod: Pod) -> BoxState:
    status = _container(pod)
    if is_over(pod) or ending(pod) is not None:
        return BoxState.EXITED
    return BoxState.RUNNING if status is not None and status.state.running is not None else BoxState.CREATED


def _message(pod: Pod, ended: Terminated | None) -> str:
    if is_over(pod):
        return pod_words(pod)
    if ended is not None:
        return ending_words(ended)
    return "it is being deleted" if pod.metadata.deleted_at else ""


def pod_words(pod: Pod) -> str:
    """Return why a pod never runs again, in the words of Kubernetes or of the box.

    A box ends in order when it is told to. So an evicted pod may have succeeded, and does not say that it was evicted.
    """
    words = [pod.status.reason, shortened(pod.status.message)]
    if not any(words) and pod.status.phase == "Succeeded":
        return "its node has ended it"
    ended = ending(pod)
    return ": ".join(word for word in words if word) or (ending_words(ended) if ended else pod.status.phase)


def _memory_kills(pod: Pod) -> MemoryKills:
    """What Kubernetes knows of kills: that the box's last end was one.

    A kill that the box survives is not seen here. On cgroup v2 there is none, unless the kubelet is set so
    (`singleProcessOOMKill`): the kernel kills the whole container. The count is that of the container which ended last,
    and stays the same when the next one runs.
    """
    status = _container(pod)
    if status is None:
        return MemoryKills(life="0", count=0)
    last = ending(pod) or status.last_state.terminated
    number = status.restart_count - (1 if ending(pod) is None and status.last_state.terminated else 0)
    if last is None or last.reason != OUT_OF_MEMORY:
        return MemoryKills(life=str(status.restart_count), count=0)
    return MemoryKills(life=str(number), count=1, last_at=last.finished_at)
