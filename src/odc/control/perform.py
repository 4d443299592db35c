"""Step 4 of a pass: commit each proposal with compare-and-set, then start its tasks.

A task starts only after the record that wants it is committed, so that nothing exists in the outside world that no
record names. A conflict drops only that proposal: another writer has changed the same record, and the next pass decides
again from the stored state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from odc.control.context import Ports
from odc.control.decide import Decision
from odc.control.steps import Task, TaskName
from odc.control.task_runner import Runner
from odc.control.tasks import Tasks
from odc.domain.box import BoxSeen
from odc.domain.errors import Conflict, InvariantError
from odc.domain.node import Node

log = logging.getLogger(__name__)


class Performed(NamedTuple):
    """What a pass has written.

    Attributes:
        committed: number of transactions.
        lost: number of transactions dropped because another writer was first.
        changed: ids of the reservations that were written.
    """

    committed: int
    lost: int
    changed: frozenset[str]


def perform(
    decision: Decision,
    ports: Ports,
    tasks: Tasks,
    runner: Runner,
    nodes: tuple[Node, ...],
    boxes: tuple[BoxSeen, ...],
) -> Performed:
    """Commit each proposal and start its tasks.

    Args:
        decision: the proposals.
        ports: where they are written.
        tasks: the functions of tasks.
        runner: runs them.
        nodes: as the pass observed them.
        boxes: as the pass observed them.

    Raises:
        ProviderUnavailable: the store did not answer; the next pass reads what was written.
    """
    committed = lost = 0
    changed: set[str] = set()
    for proposal in decision.proposals:
        # Without a change, only a task is missing: one that was lost, is due for a retry, or removes a leftover.
        if proposal.change is not None:
            try:
                ports.store.commit(proposal.change)
            except Conflict as error:
                log.info("lost a race", extra={"reason": error.message})
                lost += 1
                continue
            committed += 1
            changed.update(record.id for record in proposal.change.reservations)
            for event in proposal.change.events:
                told = {"reservation": event.reservation_id, "told": event.text, "when": event.when or ""}
                log.info(event.kind, extra=told)
        for task in proposal.tasks:
            runner.start(task.key, task.identity, _call(task, tasks, nodes, boxes))
    return Performed(committed, lost, frozenset(changed))


def _call(task: Task, tasks: Tasks, nodes: tuple[Node, ...], boxes: tuple[BoxSeen, ...]) -> Callable[[], object]:
    record, box = task.record, task.box
    if record is None:
        if box is None:
            raise InvariantError(f"task {task.name} is for nothing")
        return lambda: tasks.remove(box)
    match task.name:
        case TaskName.PREPARE | TaskName.RESTART:
            return lambda: tasks.prepare(record, nodes)
        case TaskName.REFRESH_FILES:
            return lambda: tasks.refresh_files(record, nodes)
        case TaskName.STOP:
            return lambda: tasks.stop(record, boxes)
        case TaskName.CLEAN:
            return lambda: tasks.clean(record)
        case TaskName.REMOVE:
            raise InvariantError(f"task {task.name} is for a box, not for {record.id}")
