"""Step 3 of a pass: what to write and what to do, from what was seen and planned. Pure.

Each reservation is decided on by itself, so that a fault stays with its object. What changes a pool's occupancy or
promises is one transaction with the pool's version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from odc.control.advance import advance
from odc.control.context import Policy
from odc.control.observation import Observation
from odc.control.queueing import FreeResources, advance_queue, queued_of
from odc.control.steps import Proposal, Step, Task, TaskName, combine
from odc.domain.box import BoxSeen
from odc.domain.reservation import Reservation, State
from odc.scheduling import Plan


@dataclass(frozen=True, slots=True)
class Decision:
    """Transactions with their tasks, in the order in which they are to be tried."""

    proposals: tuple[Proposal, ...]


def decide(seen: Observation, plans: Mapping[str, Plan], policy: Policy) -> Decision:
    """What to write and what to do.

    Args:
        seen: the observation.
        plans: by GPU type; empty if the cluster did not answer.
        policy: the operator's.
    """
    free: list[Proposal] = []
    fenced: dict[str, list[Step]] = {}
    for record in seen.stored.reservations:
        step = advance(record, seen, policy)
        if step is None:
            continue
        if step.fenced:
            fenced.setdefault(record.spec.gpu_type, []).append(step)
        else:
            free.append(combine([step], {}))
    things = FreeResources(seen, seen.stored.reservations, policy)
    for gpu_type, plan in plans.items():
        waiting = queued_of(seen.stored.reservations, gpu_type)
        fenced.setdefault(gpu_type, []).extend(advance_queue(waiting, plan, things, seen, policy))
    pools = [
        combine(steps, {gpu_type: seen.stored.pools.get(gpu_type, 0)}) for gpu_type, steps in fenced.items() if steps
    ]
    removals = [Task(TaskName.REMOVE, box=box) for box in leftovers(seen)]
    # One that has just failed waits for a later pass: its end has woken this one, which would go round and round.
    strays = [Proposal(change=None, tasks=(task,)) for task in removals if task.key not in seen.outcomes]
    return Decision(proposals=(*free, *pools, *strays))


def leftovers(seen: Observation) -> list[BoxSeen]:
    """Boxes that their own record says should not be there: it has ended, or is at a later attempt."""
    return [box for box in seen.boxes or () if _is_leftover(box, seen.records.get(box.name.reservation_id))]


def _is_leftover(box: BoxSeen, record: Reservation | None) -> bool:
    if record is None or box.name.attempt > record.attempt:
        return False
    if box.name.attempt < record.attempt:
        return True
    return record.state in (State.ENDED, State.QUEUED) or record.boxes_gone


def quarantined(seen: Observation) -> tuple[BoxSeen, ...]:
    """Boxes without a record, or of an attempt that the record does not know: an old backup was restored.

    A lost record is not a licence to delete: they count as occupied and are left alone.
    """
    return tuple(box for box in seen.boxes or () if _is_stray(box, seen.records.get(box.name.reservation_id)))


def _is_stray(box: BoxSeen, record: Reservation | None) -> bool:
    return record is None or box.name.attempt > record.attempt
