"""Step 4 of a pass: commit each proposal with compare-and-set, then start its tasks.

A task starts only after the record that wants it is committed, so that nothing exists in the outside world that no
record names. A conflict drops only that proposal: another writer has changed the same record, and the next pass decides
again from the stored state.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from odc.control.context import Ports
from odc.control.decide import Decision
from odc.control.lease import PassLease
from odc.control.observation import Observation
from odc.control.steps import Task, TaskName
from odc.control.task_runner import Call, Runner
from odc.control.tasks import Tasks
from odc.domain.errors import Conflict, InvariantError

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


class TaskStarter:
    """Starts the tasks of a pass, under the epoch that the lease has now."""

    def __init__(self, tasks: Tasks, runner: Runner, lease: PassLease) -> None:
        self._tasks = tasks
        self._runner = runner
        self._lease = lease

    def start(self, task: Task, seen: Observation) -> None:
        """Start the task, unless one of its key runs.

        Args:
            task: which; its record is committed.
            seen: nodes and boxes, as the pass observed them.
        """
        epoch = self._lease.epoch
        self._runner.start(task.key, task.identity(epoch), self._call(task, seen, epoch))

    def _call(self, task: Task, seen: Observation, epoch: int) -> Call:
        tasks, record, box = self._tasks, task.record, task.box
        nodes, boxes = seen.nodes or (), seen.boxes or ()
        if record is None:
            if box is None:
                raise InvariantError(f"task {task.name} is for nothing")
            return tasks.remove(box, epoch)
        match task.name:
            case TaskName.PREPARE | TaskName.RESTART:
                return tasks.prepare(record, nodes, epoch)
            case TaskName.REFRESH_FILES:
                return tasks.refresh_files(record, nodes, epoch)
            case TaskName.STOP:
                return tasks.stop(record, boxes, epoch)
            case TaskName.CLEAN:
                return tasks.clean(record, epoch)
            case TaskName.REMOVE:
                raise InvariantError(f"task {task.name} is for a box, not for {record.id}")


def perform(decision: Decision, ports: Ports, starter: TaskStarter, seen: Observation) -> Performed:
    """Commit each proposal and start its tasks.

    Args:
        decision: the proposals.
        ports: where they are written.
        starter: starts the tasks.
        seen: the observation that the decision was made from.

    Raises:
        ProviderUnavailable: the store did not answer; the next pass reads what was written.
    """
    committed = lost = 0
    changed: set[str] = set()
    lost_pools: set[str] = set()
    for proposal in decision.proposals:
        # Without a change, only a task is missing: one that was lost, is due for a retry, or removes a leftover.
        if proposal.change is not None:
            if lost_pools.intersection(proposal.change.pools):
                # It was to follow a transaction that was lost. Another writer's may have the version that it expects.
                lost += 1
                continue
            try:
                ports.store.commit(proposal.change)
            except Conflict as error:
                log.info("lost a race", extra={"reason": error.message})
                lost += 1
                lost_pools.update(proposal.change.pools)
                continue
            committed += 1
            changed.update(record.id for record in proposal.change.reservations)
            for event in proposal.change.events:
                told = {str(event.subject_kind): event.subject_id, "told": event.text, "when": event.when or ""}
                log.info(event.kind, extra=told)
        for task in proposal.tasks:
            starter.start(task, seen)
    return Performed(committed, lost, frozenset(changed))
