"""One pass: observe, plan, decide, perform. This page explains how passes work; each step has its own file.

Control is level-triggered, as in a Kubernetes controller. A pass never depends on a message about what changed: it
lists everything that exists, compares it with the records, and takes the next step of each reservation. A wake-up only
makes the next pass come sooner. So a lost wake-up costs at most `pass_loop.IDLE_INTERVAL`, and a daemon that starts
after a crash needs no special recovery: its first pass is a pass like any other.

**The steps of a pass, in this order**

1. Judge the clock (`clock_check`), then collect what the tasks have done (`task_runner`), then read the records, then
   list nodes and boxes (`observation`). The order matters. Outcomes are collected before the records are read, so no
   record is older than an outcome. Records are read before boxes are listed: a box that a record names existed before
   the record said so, and if it is not in the list, it is gone. A box that no live record names is looked up by its
   reservation's id after the list, because its record was written before it was made.
2. Plan every pool whose picture has changed (`pool_plans`, `odc.scheduling`). A plan only proposes; nothing is reserved
   by it. The plan of a pool is one document, stored with the pool's version.
3. Decide (`decide`, with `advance` for placed reservations and `queueing` for queued ones). This is pure: from an
   observation and the plans it makes proposals, each a transaction with the tasks that should follow it.
4. Perform (`perform`): commit each proposal, and start its tasks only if the commit succeeded.
5. Start the maintenance tasks that are due: disk storage, old records, the host.

Each proposal is about one reservation, or about the queue of one pool, so a fault of one object cannot stop the others.

**Intent before effect.** The record says PREPARING, with node, GPUs and port, before a container is made; it says
ENDING before one is stopped; a snapshot is marked `deleting` before it is deleted. So every effect in the
outside world is named by a record, and the records tell what may exist. A task repeats its work from
the start, and each step does nothing if it is done already.

**After a crash** at any point, this is true and the next pass continues:

* before a commit: nothing has happened;
* after the commit, before its task has started: the record wants a task and none runs, so the pass starts it;
* in the middle of a task: the same, and the steps that are done do nothing;
* after a task, before its outcome is committed: outcomes are in memory only, so the task runs again and has the same
  outcome. The same happens when a pass fails after it has collected outcomes, for example because the store does not
  answer. A process that ends after each pass applies the outcomes before it ends (`reconcile_with_tasks`).

**Outcomes are matched by task and attempt**, because they arrive late. A reservation that has gone back to the queue
and was placed again has a new attempt with other boxes: an outcome of the old attempt says nothing about them.
`advance` ignores it. An outcome also counts only under the lease under which its task was started (`lease`): a process
that lost the lease and has it again would otherwise believe what it found out before another process acted.

**Two daemons at once** are correct, though wasteful. Each record, disk and pool has a version, and a commit succeeds
only if all versions that it was based on are still stored. The version of a pool covers what no single record does: two
writers that give the same GPU to two different reservations. Whatever changes which GPUs are taken or what is promised
is therefore `fenced`: it commits with the pool's version. Tasks are not covered by a commit, so they read the record
again before each effect, name everything after the attempt, and delete boxes by the backend's own id. The lease in
`pass_loop` only avoids the waste.

**Unknown is not absent.** If the cluster or a node does not answer, the observation has None, not an empty list,
and nothing is concluded: no box counts as missing, no GPU as free, no limit as exceeded. A box is deleted only if its
own record says that it should not exist. A box without a record is quarantined: it keeps its GPUs, and operators are
told.

**Time.** Whatever ends by the wall clock waits while the clock cannot be trusted (`frozen`). Limits are counted from
planned times, not from the moment when a pass noticed something: a late pass must not move a promise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter

from odc.control.clock_check import ClockCheck
from odc.control.context import ClusterStatus, Policy, Ports
from odc.control.decide import Decision, decide
from odc.control.disk_end import Cleaned
from odc.control.host_monitor import HostMonitor
from odc.control.lease import PassLease
from odc.control.observation import Observation, observe
from odc.control.outcomes import OutcomeCollector
from odc.control.outlooks import make_outlooks
from odc.control.perform import Performed, TaskStarter, perform
from odc.control.pool_plans import PlannedPool, Planner
from odc.control.quiet_reservations import QuietReservations
from odc.control.record_pruning import RecordPruner
from odc.control.status_records import StatusRecords
from odc.control.status_report import report_status
from odc.control.storage_maintenance import StorageMaintenance
from odc.control.sweeps import LEFTOVERS, STORAGE, Sweeps
from odc.control.task_runner import Runner
from odc.control.tasks import Tasks
from odc.domain.box import BoxSeen, BoxState
from odc.domain.errors import ProviderError
from odc.domain.problem import Problem
from odc.domain.problem_text import problem_text
from odc.domain.reservation import Reservation, State

log = logging.getLogger(__name__)

LEFTOVERS_INTERVAL = timedelta(minutes=10)
"""Time between two clean-ups of what attempts have left whose process died."""


@dataclass(frozen=True, slots=True)
class PassReport:
    """How a pass went.

    Attributes:
        committed: transactions written.
        lost: transactions dropped because another writer was first.
        due: when a reservation or a task needs the next pass, even if nothing wakes one: at once if this pass has
            written something; None if nothing is known to need one. What changes by itself, such as a box that stops,
            is only seen by passes from time to time.
    """

    committed: int
    lost: int
    due: datetime | None


class Reconciler:
    """Runs passes. What it keeps between them is an optimisation; the task runner has what the tasks have found out."""

    def __init__(
        self, ports: Ports, policy: Policy, status: StatusRecords, sweeps: Sweeps, runner: Runner, lease: PassLease
    ) -> None:
        self._ports = ports
        self._policy = policy
        self._status = status
        self._sweeps = sweeps
        self._runner = runner
        self._lease = lease
        self._starter = TaskStarter(Tasks(ports, policy, lease), runner, lease)
        self._collector = OutcomeCollector(runner, lease, ports.clock, policy.poll)
        self._planner = Planner(policy.limits)
        self._clock = ClockCheck(ports.leases, ports.clock)
        self._quiet = QuietReservations()
        self._seen: Observation | None = None
        self._was_short_of_space = False
        self._storage = StorageMaintenance(ports, policy, sweeps)
        self._pruner = RecordPruner(ports, policy, sweeps)
        self._host_monitor = HostMonitor(ports, sweeps)

    def reconcile_once(self) -> PassReport:
        """Run one pass.

        Raises:
            ProviderUnavailable: the store did not answer. Committed changes remain; the next pass reads them.
        """
        before = self._status.stored()
        epoch = self._lease.epoch
        seen = self._observe(before)
        plans = self._planner.plan_pools(seen)
        decision = decide(seen, plans, self._policy, self._quiet)
        # Before the commits: a client that reads a record of this pass must not find an older status.
        boxes = _boxes_to_probe(seen, before)
        outlooks = make_outlooks(seen, plans, before.outlooks, self._policy)
        if self._has_led_since(epoch):
            self._update_status(seen, replace(before, outlooks=outlooks), boxes)
        # By a clock that may have jumped ahead, the lease would be taken for years.
        if seen.boxes is not None and not seen.frozen and self._sweeps.take(LEFTOVERS, LEFTOVERS_INTERVAL, seen.now):
            self._remove_leftovers(seen, seen.boxes)
        committed, lost, changed = self._perform(decision, seen, epoch)
        self._start_maintenance(seen, boxes)
        if committed:
            # Wakes clients that wait for a change, and the next pass: a committed change may allow the next step at
            # once.
            self._ports.wake.notify(changed)
        due = [at for at in _due_times(seen, plans.values(), self._policy) if at > seen.now]
        pauses = (self._storage.due_in, self._collector.due_in())
        due += [seen.now + pause for pause in pauses if pause is not None]
        due += [seen.now] if committed else []
        return PassReport(committed=committed, lost=lost, due=min(due, default=None))

    def reconcile_with_tasks(self, budget: timedelta) -> PassReport:
        """Run one pass and its tasks, and apply their outcomes: for a process that ends afterwards.

        Whatever has an outcome is applied by a further round, which may start the next task, until nothing is left to
        do now or the budget is over. A task that is not through, or whose outcome was not applied, is started again by
        the next process.

        Args:
            budget: how long to go on; a task that runs longer is left.

        Raises:
            ProviderUnavailable: as `reconcile_once`.
        """
        end = self._ports.clock.since_boot() + budget
        report = self.reconcile_once()
        while (left := end - self._ports.clock.since_boot()) > timedelta(0) and self._runner.join(left):
            more = self.reconcile_once()
            report = PassReport(committed=report.committed + more.committed, lost=report.lost + more.lost, due=more.due)
        return report

    def note_failure(self, why: str) -> None:
        """Show that passes fail: queries keep the last status, with the reason as its only problem."""
        self._status.note_failure(why)

    def _observe(self, before: ClusterStatus) -> Observation:
        clock = self._clock.verdict()
        collected = self._collector.collect()
        self._host_monitor.take(self._status.host(), collected)
        self._storage.take(before.storage, collected)
        self._seen = observe(self._ports, clock, collected, self._host_monitor.report, self._seen)
        return self._seen

    def _update_status(self, seen: Observation, before: ClusterStatus, boxes: list[BoxSeen]) -> None:
        self._host_monitor.forget_others(boxes)
        host = (*self._record_space(), *self._host_monitor.problems())
        self._status.write(report_status(seen, before, self._storage.status, host), self._host_monitor.record)

    def _start_maintenance(self, seen: Observation, boxes: list[BoxSeen]) -> None:
        if any(isinstance(outcome.value, Cleaned) for outcome in seen.outcomes.values()):
            # A new snapshot: no need to wait for the next measurement.
            self._sweeps.ask(STORAGE)
        # Nothing is deleted for its age by a clock that may be wrong.
        trusted = None if seen.frozen else seen.now
        epoch = self._lease.epoch
        self._storage.start_if_due(self._runner, trusted, epoch)
        self._pruner.start_if_due(self._runner, (record.owner for record in seen.stored.reservations), trusted)
        self._host_monitor.start_if_due(self._runner, boxes, trusted, epoch)

    def _remove_leftovers(self, seen: Observation, boxes: tuple[BoxSeen, ...]) -> None:
        """Delete networks and files of attempts whose box is gone.

        A process that dies between the removal of a box and its clean-up leaves them, and no record asks for the
        clean-up any more if it has ended or is at a later attempt. Leftovers that cannot be deleted are left to the
        next time.
        """
        here = {(box.name.reservation_id, box.name.attempt) for box in boxes}
        try:
            remains = [place for place in self._ports.cluster.list_remains() if place not in here]
            for reservation_id, attempt in remains:
                # Records are read after the list, because each was written before anything was made for it.
                unknown = reservation_id in seen.stored.unreadable
                if not unknown and _is_over(self._ports.store.find_reservation(reservation_id), attempt):
                    self._ports.cluster.clean_up(reservation_id, attempt)
        except ProviderError as error:
            log.warning("could not clean up leftovers of an earlier run", extra={"reason": error.message})

    def _record_space(self) -> tuple[Problem, ...]:
        """Return the problem of space for the records; empty if there is none. It is logged when it begins, not at each
        pass.
        """
        problem = self._ports.space.room().problem
        if problem and not self._was_short_of_space:
            log.warning("little room for the records", extra={"reason": problem_text(problem)})
        self._was_short_of_space = bool(problem)
        return (problem,) if problem else ()

    def _perform(self, decision: Decision, seen: Observation, epoch: int) -> Performed:
        if not self._has_led_since(epoch):
            return Performed(0, 0, frozenset())
        return perform(decision, self._ports, self._starter, seen)

    def _has_led_since(self, epoch: int) -> bool:
        """Whether this process still has the lease, without a gap since that epoch.

        The pass may have taken so long that another process has taken over, and perhaps ended since. The outcomes of
        tasks that the pass has collected are from before that, and no version covers them.
        """
        return self._lease.keep() and self._lease.epoch == epoch


def _is_over(record: Reservation | None, attempt: int) -> bool:
    return record is None or attempt < record.attempt or record.state is State.ENDED


def _boxes_to_probe(seen: Observation, status: ClusterStatus) -> list[BoxSeen]:
    """The running boxes of active reservations. While the cluster does not answer, the last known ones: whether users
    reach their boxes does not depend on the cluster."""
    active = {place.uid for r in seen.all_placed if r.state is State.ACTIVE for place in r.places}
    boxes = seen.boxes if seen.boxes is not None else status.boxes
    return [box for box in boxes if box.uid in active and box.state is BoxState.RUNNING]


def _due_times(seen: Observation, plans: Iterable[PlannedPool], policy: Policy) -> Iterator[datetime]:
    """Yield when reservations need a pass, by their records and slots; also times that have passed."""
    yield from (fault.next_try for fault in filter(None, map(attrgetter("fault"), seen.stored.reservations)))
    for record in seen.all_placed:
        yield from _limits_of(record, policy)
    for planned in plans:
        if planned.earliest is not None and planned.earliest > seen.now:
            yield planned.earliest
        elif planned.earliest is not None:
            yield from (slot.start for slot in planned.slots.values())


def _limits_of(record: Reservation, policy: Policy) -> Iterator[datetime]:
    """Yield the times until which a placed reservation may stay as it is."""
    if record.state is State.ACTIVE and record.expires_at is not None:
        yield record.expires_at
    if record.state is State.ACTIVE and record.missing_since is not None:
        yield record.missing_since + policy.missing
