"""One pass: observe, plan, decide, perform.

Level, not edge: every pass lists what is there; a message only wakes it.
"""

from __future__ import annotations

import logging
import shlex
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from odc.control.clock_check import ClockCheck, ClockVerdict
from odc.control.context import ClusterStatus, Policy, Ports, StatusCache, StorageStatus
from odc.control.decide import Decision, decide, quarantined
from odc.control.host_monitor import HostMonitor
from odc.control.observation import Observation, observe
from odc.control.perform import perform
from odc.control.pools import pool_state
from odc.control.record_pruning import RecordPruner
from odc.control.storage_maintenance import StorageMaintenance
from odc.control.task_runner import Runner
from odc.control.tasks import Cleaned, Tasks
from odc.domain.box import BoxSeen, BoxState
from odc.domain.errors import ProviderError
from odc.domain.names import short
from odc.domain.node import Node
from odc.domain.reservation import Reservation, State
from odc.domain.user import User
from odc.scheduling import Plan, plan_pool

log = logging.getLogger(__name__)

IDLE_INTERVAL = timedelta(seconds=5)
LEASE_DURATION = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class PassReport:
    """How a pass went.

    Attributes:
        committed: transactions written.
        lost: transactions dropped because another writer was first.
        next_due: when there is something to do at the latest, even if nothing wakes the next pass.
    """

    committed: int
    lost: int
    next_due: datetime


class Reconciler:
    """Runs passes; keeps what outlives one: the task runner, and the maintenance tasks next to the passes."""

    def __init__(self, ports: Ports, policy: Policy, status: StatusCache, runner: Runner) -> None:
        self._ports = ports
        self._policy = policy
        self._status = status
        self._runner = runner
        self._tasks = Tasks(ports, policy)
        self._clock = ClockCheck(ports.store, ports.clock)
        self._leftovers_removed = False
        self._was_short_of_space = False
        self._storage = StorageMaintenance(ports, policy)
        self._pruner = RecordPruner(ports, policy)
        self._host_monitor = HostMonitor(ports)

    def reconcile_once(self) -> PassReport:
        """One pass.

        Raises:
            ProviderUnavailable: the store did not answer; nothing is lost, the next pass looks again.
        """
        clock = self._clock.verdict()
        busy = self._runner.busy()
        outcomes = self._runner.collect()
        self._host_monitor.take(outcomes)
        seen = observe(self._ports, clock, outcomes, busy, self._host_monitor.report, self._host_monitor.taken_ports)
        plans = plan_pools(seen, self._policy)
        decision = decide(seen, plans, self._policy)
        host = (*self._record_space(), *self._host_monitor.problems())
        self._status.update(_cluster_status(seen, clock, self._status.current, self._storage.status, host))
        if seen.boxes is not None and not self._leftovers_removed:
            self._remove_leftovers(seen, seen.boxes)
        committed, lost = self._perform(decision, seen)
        wanted = self._status.take_storage_request()
        if wanted or any(isinstance(outcome.value, Cleaned) for outcome in seen.outcomes.values()):
            self._storage.wake()
        trusted = None if seen.frozen else seen.now
        self._storage.start_if_due(self._runner, trusted)
        self._pruner.start_if_due(self._runner, seen.stored.users, trusted)
        self._host_monitor.start_if_due(self._runner, _boxes_to_probe(seen, self._status.current))
        if committed:
            # Whoever watches a reservation hears of it now; and what was written may allow a next step at once.
            self._ports.wake.ring()
        return PassReport(
            committed=committed, lost=lost, next_due=min(_next_due(seen), seen.now + self._storage.due_in)
        )

    def note_failure(self, why: str) -> None:
        """The pass could not be done: what queries know stays, with the reason beside it."""
        self._status.update(replace(self._status.current, problems=(f"the cloud's passes fail: {why}",)))

    def _remove_leftovers(self, seen: Observation, boxes: tuple[BoxSeen, ...]) -> None:
        """Once in a process's life: take away what one that died between a box's end and its clean-up left behind.

        Their records do not ask for it any more: they have ended, or are at a later attempt. What cannot be taken
        away is said, and left to the next process.
        """
        self._leftovers_removed = True
        here = {(box.name.reservation_id, box.name.attempt) for box in boxes}
        try:
            remains = [place for place in self._ports.cluster.list_remains() if place not in here]
            for reservation_id, attempt in remains:
                # Read after the list: whatever was made had its record before.
                unknown = reservation_id in seen.stored.unreadable
                if not unknown and _is_over(self._ports.store.find_reservation(reservation_id), attempt):
                    self._ports.cluster.clean_up(reservation_id, attempt)
        except ProviderError as error:
            log.warning("remains of an earlier run stay", extra={"reason": error.message})

    def _record_space(self) -> tuple[str, ...]:
        """What is to be said of the room for the records; also logged when it begins."""
        problem = self._ports.store.room().problem
        if problem and not self._was_short_of_space:
            log.warning("little room for the records", extra={"reason": problem})
        self._was_short_of_space = bool(problem)
        return (problem,) if problem else ()

    def _perform(self, decision: Decision, seen: Observation) -> tuple[int, int]:
        return perform(decision, self._ports, self._tasks, self._runner, seen.nodes or (), seen.boxes or ())


def _is_over(record: Reservation | None, attempt: int) -> bool:
    return record is None or attempt < record.attempt or record.state is State.ENDED


def plan_pools(seen: Observation, policy: Policy) -> dict[str, Plan]:
    """Step 2: the plan of every pool that somebody waits for, by GPU type. Empty if the cluster did not answer."""
    if seen.nodes is None:
        return {}
    waiting = {r.spec.gpu_type for r in seen.stored.reservations if r.state is State.QUEUED}
    strays = quarantined(seen)
    return {
        gpu_type: plan_pool(pool_state(gpu_type, seen.stored, seen.nodes, strays, policy.limits, seen.now))
        for gpu_type in sorted(waiting)
    }


def _boxes_to_probe(seen: Observation, status: ClusterStatus) -> list[BoxSeen]:
    """The running boxes of active reservations; those that were seen last while the cluster does not answer."""
    active = {place.uid for r in seen.stored.reservations if r.state is State.ACTIVE for place in r.places}
    boxes = seen.boxes if seen.boxes is not None else status.boxes
    return [box for box in boxes if box.uid in active and box.state is BoxState.RUNNING]


def _cluster_status(
    seen: Observation, clock: ClockVerdict, before: ClusterStatus, storage: StorageStatus, host: tuple[str, ...] = ()
) -> ClusterStatus:
    """What queries may know. While the cluster does not answer, its last picture stays, with the fault beside it."""
    problems = [clock.why] if clock.frozen else []
    problems += [f"reservation {key}: its record cannot be read: {why}" for key, why in seen.stored.unreadable.items()]
    problems += [
        f"reservation {record.id}: it has no end; it goes on until: gpu-dev cancel {short(record.id)}"
        for record in seen.stored.reservations
        if record.state is State.ACTIVE and record.expires_at is None
    ]
    problems += [_held_uid(user) for user in seen.stored.held]
    here = {node.name for node in seen.nodes or ()}
    problems += [
        f"reservation {record.id}: its node {place.node} is not in this cloud any more; it is left alone"
        for record in seen.stored.reservations
        for place in record.places
        if seen.nodes is not None and record.occupies and place.node not in here
    ]
    problems += [
        f"container {name}, which is not this cloud's, uses {len(gpus)} GPUs of {node.name}; they are not lent"
        for node in seen.nodes or ()
        for name, gpus in _by_holder(node).items()
    ]
    problems += _broken_gpus(seen)
    problems += storage.problems
    problems += [
        f"reservation {record.id}: its box cannot be reached: {record.unreachable}"
        for record in seen.stored.reservations
        if record.unreachable
    ]
    problems += host
    if seen.nodes is None or seen.boxes is None:
        problems.append(f"the cluster does not answer: {seen.fault}")
        return replace(before, problems=tuple(problems), frozen=clock.frozen, storage=storage)
    return ClusterStatus(
        at=seen.now,
        nodes=seen.nodes,
        boxes=seen.boxes,
        quarantined=quarantined(seen),
        problems=tuple(problems),
        frozen=clock.frozen,
        storage=storage,
    )


def _broken_gpus(seen: Observation) -> list[str]:
    """The GPUs that cannot be lent, each with its cause and the reservation whose box has it."""
    places = [(record, place) for record in seen.stored.reservations if record.occupies for place in record.places]
    holders = {gpu: record for record, place in places for gpu in place.gpus}
    told = []
    for node in seen.nodes or ():
        for gpu, cause in sorted(node.unusable.items()):
            holder = f"; reservation {short(holders[gpu].id)} has it" if gpu in holders else ""
            told.append(f"GPU {gpu} of {node.name} is not lent: {cause}{holder}")
    return told


def _by_holder(node: Node) -> dict[str, list[str]]:
    """The GPUs of a node that others hold, by holder."""
    holders: dict[str, list[str]] = {}
    for gpu, name in sorted(node.held_by_others.items()):
        holders.setdefault(name, []).append(gpu)
    return holders


def _held_uid(user: User) -> str:
    uid, login = user.principal.removeprefix("unix:"), shlex.quote(user.claimed_by)
    return (
        f"uid {uid} was {user.name} and is {user.claimed_by} now, whose requests are refused. The same person: "
        f"odc user move {uid} {login}. Another person: odc user forget {uid}"
    )


def _due_times(record: Reservation) -> tuple[datetime | None, ...]:
    """When this reservation needs a pass, as far as its record says."""
    return (
        record.fault.next_try if record.fault else None,
        record.slot.start if record.slot and record.state is State.QUEUED else None,
        record.expires_at if record.state is State.ACTIVE else None,
    )


def _next_due(seen: Observation) -> datetime:
    times = (due for record in seen.stored.reservations for due in _due_times(record))
    return min(
        (due for due in times if due is not None and seen.now < due < seen.now + IDLE_INTERVAL),
        default=seen.now + IDLE_INTERVAL,
    )


class PassLoop:
    """Runs passes in a thread: at once when rung, and when something is due."""

    def __init__(self, reconciler: Reconciler, ports: Ports, holder: str) -> None:
        self._reconciler = reconciler
        self._ports = ports
        self._holder = holder
        self._stop = threading.Event()

    def run(self) -> None:
        """Run passes until `stop`. A fault of the store or a lost lease costs a pause, nothing else."""
        while not self._stop.is_set():
            pause = self._one()
            if pause > timedelta(0):
                self._ports.wake.wait(pause)

    def stop(self) -> None:
        """End after the pass that runs now."""
        self._stop.set()
        self._ports.wake.ring()

    def _one(self) -> timedelta:
        """One pass if this process has the lease; how long to wait for the next."""
        try:
            now = self._ports.clock.now()
            if not self._ports.store.acquire_lease("passes", self._holder, now, LEASE_DURATION):
                return timedelta(seconds=1)
            report = self._reconciler.reconcile_once()
        except ProviderError as error:
            log.warning("pass failed", extra={"reason": error.message})
            self._reconciler.note_failure(error.message)
            return timedelta(seconds=1)
        return max(report.next_due - self._ports.clock.now(), timedelta(milliseconds=1))
