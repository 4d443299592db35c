"""Step 3 of a pass: decide which changes to write and which tasks to start, from the observation and the plans. Pure.

Each reservation is decided on separately. A change that affects neither occupied GPUs nor promises is a separate
transaction, so that a conflict affects only that one. Everything else of a pool commits with the pool's
version: those decisions depend on each other, because all of them were made for the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

from msgspec.structs import replace

from odc.control.context import Policy
from odc.control.observation import Observation
from odc.control.pool_plans import PlannedPool
from odc.control.queueing import FreeResources, advance_queue
from odc.control.quiet_reservations import QuietReservations
from odc.control.steps import Proposal, Step, Task, TaskName, combine
from odc.domain.box import BoxSeen
from odc.domain.pool_document import PoolDocument
from odc.domain.records import MAX_ITEMS
from odc.domain.reservation import Reservation, State


@dataclass(frozen=True, slots=True)
class Decision:
    """Transactions with their tasks, in the order in which they are tried.

    Independent ones come first: expiries and ends must not wait for anything that the queue does.
    """

    proposals: tuple[Proposal, ...]


def decide(seen: Observation, plans: Mapping[str, PlannedPool], policy: Policy, quiet: QuietReservations) -> Decision:
    """Return the changes to write and the tasks to start.

    Args:
        seen: the observation.
        plans: by GPU type; empty if the cluster did not answer.
        policy: the operator's.
        quiet: what this process remembers of active reservations; a new one makes the same decision.
    """
    free: list[Proposal] = []
    fenced: dict[str, list[Step]] = {}
    for record, step in quiet.steps(seen, policy):
        if step.fenced:
            fenced.setdefault(record.spec.gpu_type, []).append(step)
        else:
            free.append(combine([step], {}))
    # From the records as they were read: GPUs that this pass frees are given away by the next one, after the commit.
    # They are found out only if a slot has begun.
    resources = cache(partial(FreeResources, seen, policy))
    for gpu_type, plan in plans.items():
        fenced.setdefault(gpu_type, []).extend(advance_queue(gpu_type, plan, resources, seen, policy))
    pools = [
        proposal
        for gpu_type, steps in fenced.items()
        for proposal in _of_pool(gpu_type, steps, plans.get(gpu_type), seen.stored.pools.get(gpu_type, 0))
    ]
    removals = [Task(TaskName.REMOVE, box=box) for box in leftovers(seen)]
    # Not those whose removal has just failed: the end of that task has woken this pass, and the next failure would wake
    # the next one, without any pause in between.
    strays = [Proposal(change=None, tasks=(task,)) for task in removals if task.key not in seen.outcomes]
    return Decision(proposals=(*free, *pools, *strays))


def _of_pool(gpu_type: str, steps: list[Step], planned: PlannedPool | None, version: int) -> list[Proposal]:
    """Return the transactions of one pool, none larger than a store can take; the first one has the plan.

    Each is based on the version that the one before leaves. If one is lost, so are those after it: see `perform`.
    """
    document = _without_placed(planned, steps) if planned is not None else None
    parts: list[list[Step]] = [[]]
    room = MAX_ITEMS - 1
    for step in steps:
        items = step.change.items
        if items > room and parts[-1]:
            parts.append([])
            room = MAX_ITEMS - 1
        parts[-1].append(step)
        room -= items
    proposals = []
    for number, part in enumerate(parts):
        plans = {gpu_type: document} if document is not None and number == 0 else {}
        if part or plans:
            proposals.append(combine(part, {gpu_type: version + number}, plans))
    return proposals


def _without_placed(planned: PlannedPool, steps: list[Step]) -> PoolDocument | None:
    """Return the plan to store; None if it stays.

    A slot in which a reservation is placed is its own from now on. If it comes back to the queue, it has none there.
    """
    placed = {step.record.order for step in steps if step.record and step.record.state is State.PREPARING}
    placed &= planned.document.slots.keys()
    if not placed:
        return planned.document if planned.changed else None
    slots = {order: slot for order, slot in planned.document.slots.items() if order not in placed}
    # Not complete for its picture any more: the same queue could be there again.
    return replace(planned.document, picture="", slots=slots)


def leftovers(seen: Observation) -> list[BoxSeen]:
    """Return boxes to delete: their own record has ended, or is at a later attempt."""
    return [box for box in seen.boxes or () if _is_leftover(box, seen.records.get(box.name.reservation_id))]


def _is_leftover(box: BoxSeen, record: Reservation | None) -> bool:
    if record is None or box.name.attempt > record.attempt:
        return False  # See `Observation.quarantined`.
    if box.name.attempt < record.attempt:
        return True
    return record.state in (State.ENDED, State.QUEUED) or record.boxes_gone
