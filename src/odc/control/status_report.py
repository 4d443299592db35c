"""The status of the cluster after a pass, for queries: its nodes and boxes, and problems. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from odc.control.context import ClusterStatus, StorageStatus
from odc.control.observation import Observation
from odc.domain.box import BoxSeen
from odc.domain.node import Node
from odc.domain.problem import Problem, ProblemKind
from odc.domain.reservation import Reservation, State
from odc.domain.user import User, uid_of


def report_status(
    seen: Observation, before: ClusterStatus, storage: StorageStatus, host: tuple[Problem, ...]
) -> ClusterStatus:
    """Return the status of the cluster for queries.

    While the cluster does not answer, its last known nodes and boxes are kept, and a problem says that they are old.

    Args:
        seen: the observation of this pass.
        before: the status until now, with the outlooks of this pass.
        storage: the newest measurement of the disk storage.
        host: problems of the host and of the records.
    """
    problems = (*_problems(seen), *storage.problems, *_unreachable(seen), *host)
    if seen.nodes is None or seen.boxes is None:
        silent = Problem(kind=ProblemKind.CLUSTER_SILENT, detail=seen.fault)
        return replace(before, problems=(*problems, silent), frozen=seen.frozen, storage=storage)
    return ClusterStatus(
        at=seen.now,
        nodes=seen.nodes,
        boxes=seen.boxes,
        quarantined=seen.quarantined,
        problems=problems,
        frozen=seen.frozen,
        storage=storage,
        outlooks=before.outlooks,
    )


def _problems(seen: Observation) -> tuple[Problem, ...]:
    unreadable = seen.stored.unreadable.items()
    return (
        *((seen.clock_problem,) if seen.clock_problem else ()),
        *(Problem(kind=ProblemKind.RECORD_UNREADABLE, reservation=key, detail=why) for key, why in unreadable),
        *_without_expiry(seen),
        *(_held_uid(user) for user in seen.stored.held),
        *_without_node(seen),
        *(_quarantined(box, seen) for box in seen.quarantined),
        *_foreign_containers(seen),
        *_broken_gpus(seen),
    )


def _about(kind: ProblemKind, record: Reservation, node: str = "", detail: str = "") -> Problem:
    return Problem(kind=kind, reservation=record.id, name=record.name, user=record.user, node=node, detail=detail)


def _without_expiry(seen: Observation) -> Iterator[Problem]:
    """Active reservations that nothing ends. Only a damaged or restored record is like this."""
    for record in seen.all_placed:
        if record.state is State.ACTIVE and record.expires_at is None:
            yield _about(ProblemKind.NO_EXPIRY, record)


def _without_node(seen: Observation) -> Iterator[Problem]:
    """Reservations on nodes that were taken out of the settings. Unlike a node that does not answer, such a node is not
    in a list that succeeded."""
    here = {node.name for node in seen.nodes or ()}
    for record in seen.all_placed:
        for place in record.places:
            if seen.nodes is not None and record.occupies and place.node not in here:
                yield _about(ProblemKind.NODE_GONE, record, place.node)


def _quarantined(box: BoxSeen, seen: Observation) -> Problem:
    record = seen.records.get(box.name.reservation_id)
    return Problem(
        kind=ProblemKind.BOX_QUARANTINED,
        reservation=box.name.reservation_id,
        name=record.name if record else "",
        user=record.user if record else "",
        box=str(box.name),
        container=box.container,
        command=box.delete_command,
        node=box.node,
        count=box.units,
        gpu_type=box.gpu_type,
    )


def _foreign_containers(seen: Observation) -> Iterator[Problem]:
    for node in seen.nodes or ():
        for name, gpus in _by_holder(node).items():
            yield Problem(kind=ProblemKind.FOREIGN_CONTAINER, container=name, node=node.name, count=len(gpus))
        if node.held_units:
            yield Problem(kind=ProblemKind.FOREIGN_CONTAINER, node=node.name, count=node.held_units)


def _unreachable(seen: Observation) -> Iterator[Problem]:
    for record in seen.all_placed:
        if record.unreachable:
            yield _about(ProblemKind.BOX_UNREACHABLE, record, detail=record.unreachable)


def _broken_gpus(seen: Observation) -> Iterator[Problem]:
    """The GPUs that cannot be lent, each with its cause and the reservation whose box has it."""
    broken = [node for node in seen.nodes or () if node.unusable]
    if not broken:
        return
    places = [(record, place) for record in seen.all_placed if record.occupies for place in record.places]
    holders = {gpu: record for record, place in places for gpu in place.gpus}
    for node in broken:
        for gpu, cause in sorted(node.unusable.items()):
            holder = holders.get(gpu)
            yield Problem(
                kind=ProblemKind.GPU_UNUSABLE,
                reservation=holder.id if holder else "",
                name=holder.name if holder else "",
                user=holder.user if holder else "",
                node=node.name,
                gpu=gpu,
                detail=cause,
            )


def _by_holder(node: Node) -> dict[str, list[str]]:
    """Return the GPUs of a node that other containers hold, by holder."""
    holders: dict[str, list[str]] = {}
    for gpu, name in sorted(node.held_by_others.items()):
        holders.setdefault(name, []).append(gpu)
    return holders


def _held_uid(user: User) -> Problem:
    return Problem(kind=ProblemKind.LOGIN_CHANGED, uid=uid_of(user.principal), user=user.name, login=user.claimed_by)
