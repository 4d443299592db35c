"""One pass: observe, plan, decide, perform.

Level, not edge: every pass lists what is there; a message only wakes it.
"""

from __future__ import annotations

import logging
import shlex
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from odc.control.actions import Actions, Cleaned
from odc.control.clock_check import ClockCheck, ClockVerdict
from odc.control.context import Look, Policy, Ports, Sight, StorageLook
from odc.control.decide import Decision, decide, quarantined
from odc.control.host_watch import HostWatch
from odc.control.housekeeping import Housekeeper
from odc.control.observation import Observation, observe
from odc.control.perform import perform
from odc.control.pools import pool_state
from odc.control.pruning import Pruner
from odc.control.runner import Runner
from odc.domain.box import BoxSeen, BoxState
from odc.domain.errors import ProviderError
from odc.domain.names import short
from odc.domain.node import Node
from odc.domain.reservation import Reservation, State
from odc.domain.user import User
from odc.scheduling import Plan, plan_pool

log = logging.getLogger(__name__)

IDLE = timedelta(seconds=5)
LEASE = timedelta(seconds=15)


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
    """What stays between passes: the ports, the runner, and the last look."""

    def __init__(self, ports: Ports, policy: Policy, sight: Sight, runner: Runner) -> None:
        self._ports = ports
        self._policy = policy
        self._sight = sight
        self._runner = runner
        self._actions = Actions(ports, policy)
        self._clock = ClockCheck(ports.store, ports.clock)
        self._swept = False
        self._short = False
        self._keeper = Housekeeper(ports, policy)
        self._pruner = Pruner(ports, policy)
        self._host = HostWatch(ports)

    def reconcile_once(self) -> PassReport:
        """One pass.

        Raises:
            ProviderUnavailable: the store did not answer; nothing is lost, the next pass looks again.
        """
        clock = self._clock.verdict()
        busy = self._runner.busy()
        outcomes = self._runner.collect()
        self._host.take(outcomes)
        seen = observe(self._ports, clock, outcomes, busy, self._host.report, self._host.taken_ports)
        plans = plan_pools(seen, self._policy)
        decision = decide(seen, plans, self._policy)
        host = (*self._room(), *self._host.problems())
        self._sight.show(_look(seen, clock, self._sight.look, self._keeper.look, host))
        if seen.boxes is not None and not self._swept:
            self._sweep(seen, seen.boxes)
        committed, lost = self._perform(decision, seen)
        wanted = self._sight.is_storage_wanted()
        if wanted or any(isinstance(outcome.value, Cleaned) for outcome in seen.outcomes.values()):
            self._keeper.wake()
        trusted = None if seen.frozen else seen.now
        self._keeper.start_if_due(self._runner, trusted)
        self._pruner.start_if_due(self._runner, seen.stored.users, trusted)
        self._host.start_if_due(self._runner, _entered(seen, self._sight.look))
        if committed:
            # Whoever watches a reservation hears of it now; and what was written may allow a next step at once.
            self._ports.wake.ring()
        return PassReport(committed=committed, lost=lost, next_due=min(_next_due(seen), seen.now + self._keeper.due_in))

    def note_failure(self, why: str) -> None:
        """The pass could not be done: what queries know stays, with the reason beside it."""
        self._sight.show(replace(self._sight.look, problems=(f"the cloud's passes fail: {why}",)))

    def _sweep(self, seen: Observation, boxes: tuple[BoxSeen, ...]) -> None:
        """Once in a process's life: take away what one that died between a box's end and its clean-up left behind.

        Their records do not ask for it any more: they have ended, or are at a later attempt. What cannot be taken
        away is said, and left to the next process.
        """
        self._swept = True
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

    def _room(self) -> tuple[str, ...]:
        """What is to be said of the room for the records; also logged when it begins."""
        problem = self._ports.store.room().problem
        if problem and not self._short:
            log.warning("little room for the records", extra={"reason": problem})
        self._short = bool(problem)
        return (problem,) if problem else ()

    def _perform(self, decision: Decision, seen: Observation) -> tuple[int, int]:
        return perform(decision, self._ports, self._actions, self._runner, seen.nodes or (), seen.boxes or ())


def _is_over(record: Reservation | None, attempt: int) -> bool:
    return record is None or attempt < record.attempt or record.state is State.ENDED


def plan_pools(seen: Observation, policy: Policy) -> dict[str, Plan]:
    """Step 2: the plan of every pool that somebody waits for, by GPU type. Empty if the cluster did not answer."""
    if seen.nodes is None:
        return {}
    waiting = {r.spec.gpu_type for r in seen.stored.reservations if r.state is State.QUEUED}
    strays = quarantined(seen)
    return {
        gpu_type: plan_pool(
            pool_state(
                gpu_type,
                seen.stored.reservations,
                seen.nodes,
                strays,
                seen.stored.disks,
                policy.limits,
                seen.now,
            )
        )
        for gpu_type in sorted(waiting)
    }


def _entered(seen: Observation, look: Look) -> list[BoxSeen]:
    """The running boxes of active reservations; those that were seen last while the cluster does not answer."""
    active = {place.uid for r in seen.stored.reservations if r.state is State.ACTIVE for place in r.places}
    boxes = seen.boxes if seen.boxes is not None else look.boxes
    return [box for box in boxes if box.uid in active and box.state is BoxState.RUNNING]


def _look(
    seen: Observation, clock: ClockVerdict, before: Look, storage: StorageLook, host: tuple[str, ...] = ()
) -> Look:
    """What queries may know. While the cluster does not answer, its last picture stays, with the fault beside it."""
    problems = [clock.why] if clock.frozen else []
    problems += [f"reservation {key}: its record cannot be read: {why}" for key, why in seen.stored.unreadable.items()]
    problems += [
        f"reservation {record.id}: it has no end; it goes on until: gpu-dev cancel {short(record.id)}"
        for record in seen.stored.reservations
        if record.state is State.ACTIVE and record.expires_at is None
    ]
    problems += [_held(user) for user in seen.stored.held]
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
    return Look(
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


def _held(user: User) -> str:
    uid, login = user.principal.removeprefix("unix:"), shlex.quote(user.claimed_by)
    return (
        f"uid {uid} was {user.name} and is {user.claimed_by} now, whose requests are refused. The same person: "
        f"odc user move {uid} {login}. Another person: odc user forget {uid}"
    )


def _due(record: Reservation) -> tuple[datetime | None, ...]:
    """When this reservation needs a pass, as far as its record says."""
    return (
        record.fault.next_try if record.fault else None,
        record.slot.start if record.slot and record.state is State.QUEUED else None,
        record.expires_at if record.state is State.ACTIVE else None,
    )


def _next_due(seen: Observation) -> datetime:
    times = (due for record in seen.stored.reservations for due in _due(record))
    return min((due for due in times if due is not None and seen.now < due < seen.now + IDLE), default=seen.now + IDLE)


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
            if not self._ports.store.acquire_lease("passes", self._holder, now, LEASE):
                return timedelta(seconds=1)
            report = self._reconciler.reconcile_once()
        except ProviderError as error:
            log.warning("pass failed", extra={"reason": error.message})
            self._reconciler.note_failure(error.message)
            return timedelta(seconds=1)
        return max(report.next_due - self._ports.clock.now(), timedelta(milliseconds=1))
