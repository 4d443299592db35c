"""The status of the cluster after a pass, for queries: its nodes and boxes, and problems. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from odc.control.context import ClusterStatus, StorageStatus
from odc.control.decide import quarantined
from odc.control.observation import Observation
from odc.domain.commands import gpu_dev, odc
from odc.domain.names import short
from odc.domain.node import Node
from odc.domain.reservation import State
from odc.domain.user import User


def report_status(
    seen: Observation, before: ClusterStatus, storage: StorageStatus, host: tuple[str, ...]
) -> ClusterStatus:
    """Return the status of the cluster for queries.

    While the cluster does not answer, its last known nodes and boxes are kept, and a problem says that they are old.

    Args:
        seen: the observation of this pass.
        before: the status until now.
        storage: the newest measurement of the disk storage.
        host: problems of the host, as sentences.
    """
    problems = (*_problems(seen), *storage.problems, *_unreachable(seen), *host)
    if seen.nodes is None or seen.boxes is None:
        problems = (*problems, f"the cluster does not answer: {seen.fault}")
        return replace(before, problems=problems, frozen=seen.frozen, storage=storage)
    return ClusterStatus(
        at=seen.now,
        nodes=seen.nodes,
        boxes=seen.boxes,
        quarantined=quarantined(seen),
        problems=problems,
        frozen=seen.frozen,
        storage=storage,
    )


def _problems(seen: Observation) -> tuple[str, ...]:
    return (
        *((seen.clock_problem,) if seen.frozen else ()),
        *(f"reservation {key}: its record cannot be read: {why}" for key, why in seen.stored.unreadable.items()),
        *_without_expiry(seen),
        *(_held_uid(user) for user in seen.stored.held),
        *_without_node(seen),
        *_foreign_containers(seen),
        *_broken_gpus(seen),
    )


def _without_expiry(seen: Observation) -> Iterator[str]:
    """Active reservations that nothing ends. Only a damaged or restored record is like this."""
    for record in seen.stored.reservations:
        if record.state is State.ACTIVE and record.expires_at is None:
            end = gpu_dev(f"cancel {short(record.id)}")
            yield f"reservation {record.id}: it has no expiry time and will run until cancelled: " + end


def _without_node(seen: Observation) -> Iterator[str]:
    """Reservations on nodes that were taken out of the settings. Unlike a node that does not answer, such a node is not
    in a list that succeeded."""
    here = {node.name for node in seen.nodes or ()}
    for record in seen.stored.reservations:
        for place in record.places:
            if seen.nodes is not None and record.occupies and place.node not in here:
                yield f"reservation {record.id}: its node {place.node} is not in this cloud any more; it is left alone"


def _foreign_containers(seen: Observation) -> Iterator[str]:
    for node in seen.nodes or ():
        for name, gpus in _by_holder(node).items():
            count = f"{len(gpus)} GPUs of {node.name}"
            yield f"container {name}, which is not this cloud's, uses {count}; they are not lent"


def _unreachable(seen: Observation) -> Iterator[str]:
    for record in seen.stored.reservations:
        if record.unreachable:
            yield f"reservation {record.id}: its box cannot be reached: {record.unreachable}"


def _broken_gpus(seen: Observation) -> list[str]:
    """The GPUs that cannot be lent, each with its cause and the reservation whose box has it."""
    places = [(record, place) for record in seen.stored.reservations if record.occupies for place in record.places]
    holders = {gpu: record for record, place in places for gpu in place.gpus}
    problems = []
    for node in seen.nodes or ():
        for gpu, cause in sorted(node.unusable.items()):
            holder = f"; reservation {short(holders[gpu].id)} has it" if gpu in holders else ""
            problems.append(f"GPU {gpu} of {node.name} is not lent: {cause}{holder}")
    return problems


def _by_holder(node: Node) -> dict[str, list[str]]:
    """Return the GPUs of a node that other containers hold, by holder."""
    holders: dict[str, list[str]] = {}
    for gpu, name in sorted(node.held_by_others.items()):
        holders.setdefault(name, []).append(gpu)
    return holders


def _held_uid(user: User) -> str:
    uid, login = user.principal.removeprefix("unix:"), shlex.quote(user.claimed_by)
    return (
        f"uid {uid} was {user.name} and is {user.claimed_by} now, whose requests are refused. The same person: "
        + odc(f"user move {uid} {login}")
        + ". Another person: "
        + odc(f"user forget {uid}")
    )
