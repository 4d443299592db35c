"""Step 3 of a pass: decide which changes to write and which tasks to start, from the observation and the plans. Pure.

Each reservation is decided on separately. A change that affects neither occupied GPUs nor promises is a separate
transaction, so that a conflict affects only that one. Everything else of a pool is one transaction with the pool's
version: those decisions depend on each other, because all of them were made for the same plan.
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
    """Transactions with their tasks, in the order in which they are tried.

    Independent ones come first: expiries and ends must not wait for anything that the queue does.
    """

    proposals: tuple[Proposal, ...]


def decide(seen: Observation, plans: Mapping[str, Plan], policy: Policy) -> Decision:
    """Return the changes to write and the tasks to start.

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
    # From the records as they were read: GPUs that this pass frees are given away by the next one, after the commit.
    resources = FreeResources(seen, seen.stored.reservations, policy)
    for gpu_type, plan in plans.items():
        waiting = queued_of(seen.stored.reservations, gpu_type)
        fenced.setdefault(gpu_type, []).extend(advance_queue(waiting, plan, resources, seen, policy))
    pools = [
        combine(steps, {gpu_type: seen.stored.pools.get(gpu_type, 0)}) for gpu_type, steps in fenced.items() if steps
    ]
    removals = [Task(TaskName.REMOVE, box=box) for box in leftovers(seen)]
    # Not those whose removal has just failed: the end of that task has woken this pass, and the next failure would wake
    # the next one, without any pause in between.
    strays = [Proposal(change=None, tasks=(task,)) for task in removals if task.key not in seen.outcomes]
    return Decision(proposals=(*free, *pools, *strays))


def leftovers(seen: Observation) -> list[BoxSeen]:
    """Return boxes to delete: their own record has ended, or is at a later attempt."""
    return [box for box in seen.boxes or () if _is_leftover(box, seen.records.get(box.name.reservation_id))]


def _is_leftover(box: BoxSeen, record: Reservation | None) -> bool:
    if record is None or box.name.attempt > record.attempt:
        return False  # See `quarantined`.
    if box.name.attempt < record.attempt:
        return True
    return record.state in (State.ENDED, State.QUEUED) or record.boxes_gone


def quarantined(seen: Observation) -> tuple[BoxSeen, ...]:
    """Return boxes without a record, or of a later attempt than the record has, as after a restore from an older
    backup.

    Such a box may be in use, so it is not deleted. It keeps its GPUs, and is reported to operators.
    """
    return tuple(box for box in seen.boxes or () if _is_stray(box, seen.records.get(box.name.reservation_id)))


def _is_stray(box: BoxSeen, record: Reservation | None) -> bool:
    return record is None or box.name.attempt > record.attempt
