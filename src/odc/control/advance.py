"""The next step of one placed reservation: PREPARING, ACTIVE or ENDING. Pure.

Rules: what did not answer decides nothing; a passing fault is retried with growing delay until the phase's limit; a
lasting one ends the reservation with its reason; ENDING never gives up, because data is never thrown away.
"""

from __future__ import annotations

from msgspec.structs import replace

from odc.control.box_files import box_config_digest
from odc.control.context import Policy
from odc.control.memory_kills import note_kills
from odc.control.observation import Observation
from odc.control.steps import Step, Task, TaskName
from odc.control.task_runner import Outcome
from odc.control.tasks import Cleaned, Ready
from odc.domain import lifecycle
from odc.domain.box import BoxState
from odc.domain.disk import Disk
from odc.domain.errors import PlaceTaken, ProviderRefused
from odc.domain.event_kind import EventKind
from odc.domain.reservation import EndReason, Reservation, State
from odc.domain.status import EndCause

MAX_UNCOUNTED_ATTEMPTS = 100
"""A reservation whose ports are taken so often is not tried for ever."""


def advance(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """The reservation's next step, or None if there is nothing to do now."""
    match record.state:
        case State.PREPARING:
            return _preparing(record, seen, policy)
        case State.ACTIVE:
            return _active(record, seen, policy)
        case State.ENDING:
            return _ending(record, seen)
        case _:
            return None


def _outcome(record: Reservation, seen: Observation, *names: TaskName) -> Outcome | None:
    """What came of this attempt's task, if it is one of these names. One that was superseded is of another name: the
    record has moved on."""
    outcome = seen.outcomes.get(record.id)
    return outcome if outcome and outcome.task in {(str(name), record.attempt) for name in names} else None


def _may_try(record: Reservation, seen: Observation) -> bool:
    """Whether a task may be started: none runs, the delay after a fault is over, and the cluster answers."""
    waits = lifecycle.is_backing_off(record, seen.now)
    return record.id not in seen.busy and not waits and seen.nodes is not None


def _preparing(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    outcome = _outcome(record, seen, TaskName.PREPARE)
    if outcome is not None and isinstance(outcome.value, Ready):
        return _become_active(record, outcome.value, seen)
    if outcome is not None and isinstance(outcome.error, ProviderRefused):
        return _end(record, seen, EndReason.FAILED, EndCause.REFUSED, outcome.error.message)
    failed = outcome is not None and outcome.error is not None
    elsewhere = outcome is not None and isinstance(outcome.error, PlaceTaken)
    # After an outage of the cluster or of the daemon it is over its limit and has not been tried since: one more try.
    hopeless = _over_prepare_limit(record, seen, policy) and (failed or record.id in seen.busy)
    if hopeless or elsewhere:
        return _give_up(record, outcome, seen, policy)
    if outcome is not None and outcome.error is not None:
        return _note_fault(record, outcome.error.message, seen)
    if _may_try(record, seen):
        return Step(tasks=[Task(TaskName.PREPARE, record)])
    return None


def _become_active(record: Reservation, ready: Ready, seen: Observation) -> Step:
    active = lifecycle.apply(record, lifecycle.BoxesReady(at=seen.now, places=ready.places))
    active = replace(active, phases=(*record.phases, *ready.phases))
    step = Step(record=active, tasks=[Task(TaskName.REFRESH_FILES, active)])
    disk = seen.stored.disks.get(record.disk_id) if record.disk_id else None
    if disk is not None and not disk.made:
        step.disk = replace(disk, made=True)
    waited = (seen.now - record.created_at).total_seconds()
    step.add_event(
        record, seen.now, EventKind.READY, f"SSH answers, {waited:.1f} s after the request; ends", active.expires_at
    )
    return step


def _over_prepare_limit(record: Reservation, seen: Observation, policy: Policy) -> bool:
    """Whether the promise's part of the slot is over; it counts from the slot's start, however late the pass was."""
    begun = record.slot.start if record.slot else record.placed_at
    if seen.frozen or begun is None or seen.nodes is None or seen.host.blocked:
        return False
    return seen.now > begun + policy.limits.prepare


def _give_up(record: Reservation, outcome: Outcome | None, seen: Observation, policy: Policy) -> Step:
    """The attempt is over its limit, or cannot work where it is: the queue again, or the end after the last one."""
    fault = outcome.error.message if outcome and outcome.error else record.fault.message if record.fault else ""
    cause = EndCause.PLACE_TAKEN if outcome and isinstance(outcome.error, PlaceTaken) else EndCause.NOT_READY
    detail = fault or "the box did not come up"
    if _over_prepare_limit(record, seen, policy):
        detail = f"not ready within {int(policy.limits.prepare.total_seconds())} s: {detail}"
    if (
        outcome
        and isinstance(outcome.error, PlaceTaken)
        and outcome.error.ports
        and record.uncounted < MAX_UNCOUNTED_ATTEMPTS
    ):
        # Nothing was tried: the next attempt gets a port that nobody has.
        return _end(replace(record, uncounted=record.uncounted + 1), seen, None, cause, detail)
    tries = record.attempt - record.uncounted
    if tries >= policy.limits.attempts:
        return _end(record, seen, EndReason.FAILED, cause, f"{detail} (attempt {tries}, the last)")
    return _end(record, seen, None, cause, detail)


def _end(record: Reservation, seen: Observation, why: EndReason | None, cause: EndCause, detail: str = "") -> Step:
    ending = lifecycle.apply(record, lifecycle.EndRequested(at=seen.now, why=why, cause=cause, detail=detail))
    step = Step(record=ending)
    if record.id not in seen.busy:
        step.tasks.append(Task(TaskName.STOP, ending))
    word = str(why) if why else "goes back to the queue"
    step.add_event(record, seen.now, EventKind.ENDING, f"{word}: {detail}" if detail else word)
    return step


def _note_fault(record: Reservation, message: str, seen: Observation, disk: Disk | None = None) -> Step:
    faulty = lifecycle.with_fault(record, message, seen.now)
    step = Step(record=faulty, disk=disk)
    if record.fault is None or record.fault.message != message:
        step.add_event(record, seen.now, EventKind.FAULT, f"{message}; trying again")
    return step


def _active(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    if record.expires_at is not None and not seen.frozen and seen.now >= record.expires_at:
        return _end(record, seen, EndReason.EXPIRED, EndCause.EXPIRED)
    outcome = _outcome(record, seen, TaskName.RESTART)
    if outcome is not None and isinstance(outcome.error, ProviderRefused):
        detail = f"its box stopped and cannot start again: {outcome.error.message}"
        return _end(record, seen, EndReason.FAILED, EndCause.RESTART_REFUSED, detail)
    if outcome is not None and outcome.error is not None:
        return _note_fault(record, outcome.error.message, seen)
    if outcome is not None:
        step = Step(record=replace(record, fault=None, unreachable=""))
        step.add_event(record, seen.now, EventKind.RESTARTED, "its box had stopped and was started again")
        return step
    return _config_applied(record, seen) or _note_reachability(record, seen) or _watch_boxes(record, seen, policy)


def _note_reachability(record: Reservation, seen: Observation) -> Step | None:
    """Note when users cannot reach its boxes, with the cause, and when they can again."""
    uids = [place.uid for place in record.places]
    cause = next((seen.host.unreachable[uid] for uid in uids if uid in seen.host.unreachable), "")
    if not cause and not all(uid in seen.host.reachable for uid in uids):
        return None
    if cause == record.unreachable:
        return None
    step = Step(record=replace(record, unreachable=cause))
    if not record.unreachable:
        step.add_event(record, seen.now, EventKind.UNREACHABLE, f"its SSH does not answer: {cause}")
    elif not cause:
        step.add_event(record, seen.now, EventKind.REACHABLE, "its SSH answers again")
    return step


def _config_applied(record: Reservation, seen: Observation) -> Step | None:
    """What came of telling the boxes their end and keys. No fault of that ends a box that runs."""
    outcome = _outcome(record, seen, TaskName.REFRESH_FILES)
    if outcome is None:
        return None
    if outcome.error is not None:
        return _note_fault(record, f"telling the box its end and keys: {outcome.error.message}", seen)
    return Step(record=replace(record, applied_config=str(outcome.value), fault=None))


def _watch_boxes(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """Compare the boxes with the record: start a stopped one, note a missing one, end when it stays missing."""
    if seen.boxes is None or seen.nodes is None:
        return None
    places = [place for place in record.places if place.node in seen.ready_nodes]
    found = [seen.by_uid.get(place.uid) for place in places]
    if any(box is None for box in found):
        return _missing(record, seen, policy)
    if record.missing_since is not None:
        return Step(record=replace(record, missing_since=None))
    killed = note_kills(record, seen)
    if killed is not None:
        return killed
    if any(box is not None and box.state in (BoxState.EXITED, BoxState.CREATED) for box in found):
        return Step(tasks=[Task(TaskName.RESTART, record)]) if _may_try(record, seen) else None
    if len(places) == len(record.places) and _is_config_stale(record, seen, policy):
        return Step(tasks=[Task(TaskName.REFRESH_FILES, record)]) if _may_try(record, seen) else None
    if record.fault is not None and record.id not in seen.busy:
        return Step(record=replace(record, fault=None))
    return None


def _is_config_stale(record: Reservation, seen: Observation, policy: Policy) -> bool:
    """Whether the files of its boxes are older than the record, the owner's keys, or the operator's settings."""
    owner = seen.stored.users.get(record.owner)
    return owner is not None and record.applied_config != box_config_digest(record, owner, policy)


def _missing(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """A box is not in a list that succeeded: noted first, and the end when it is still so after a while."""
    if seen.frozen:
        # How long ago it was noted cannot be said by this clock: it is noted anew when the clock is good.
        return Step(record=replace(record, missing_since=None)) if record.missing_since is not None else None
    if record.missing_since is None or record.missing_since > seen.now:
        return Step(record=replace(record, missing_since=seen.now))
    if seen.now - record.missing_since < policy.missing:
        return None
    detail = "its box was removed by someone else than ODC"
    return _end(record, seen, EndReason.FAILED, EndCause.BOX_REMOVED, detail)


def _ending(record: Reservation, seen: Observation) -> Step | None:
    if record.boxes_gone:
        return _cleaning(record, seen)
    outcome = _outcome(record, seen, TaskName.STOP)
    if outcome is not None and outcome.error is not None:
        return _note_fault(record, outcome.error.message, seen)
    if outcome is not None:
        gone = replace(record, boxes_gone=True, fault=None)
        step = Step(record=gone, tasks=[Task(TaskName.CLEAN, gone)], fenced=True)
        step.add_event(record, seen.now, EventKind.STOPPED, "its box is gone and its GPUs are free")
        return step
    return Step(tasks=[Task(TaskName.STOP, record)]) if _may_try(record, seen) else None


def _cleaning(record: Reservation, seen: Observation) -> Step | None:
    outcome = _outcome(record, seen, TaskName.CLEAN)
    disk = seen.stored.disks.get(record.disk_id) if record.disk_id else None
    if outcome is not None and outcome.error is not None:
        message = outcome.error.message
        faulty = replace(disk, fault=message) if disk and disk.fault != message else None
        return _note_fault(record, outcome.error.message, seen, faulty)
    if outcome is not None and isinstance(outcome.value, Cleaned):
        return _cleaned(record, outcome.value, disk, seen)
    return Step(tasks=[Task(TaskName.CLEAN, record)]) if _may_try(record, seen) else None


def _cleaned(record: Reservation, cleaned: Cleaned, disk: Disk | None, seen: Observation) -> Step:
    """Nothing is left: the end, or the queue again; the disk goes to whoever waits for it."""
    ended = lifecycle.apply(record, lifecycle.CleanedUp(at=seen.now))
    ended = replace(ended, phases=(*record.phases, *cleaned.phases))
    step = Step(record=ended, fenced=record.requeue)
    if disk is not None:
        fresh = replace(disk, fault="")
        if cleaned.snapshot is not None:
            others = tuple(old for old in disk.snapshots if old.id != cleaned.snapshot.id)
            fresh = replace(fresh, snapshots=(*others, cleaned.snapshot))
            step.add_event(record, seen.now, EventKind.SNAPSHOT, f"disk {disk.name} is safe: snapshot verified")
        step.disk = fresh if record.requeue else fresh.released_by(record.id)
    step.add_event(record, seen.now, EventKind.REQUEUED if record.requeue else EventKind.ENDED, _end_text(record))
    return step


def _end_text(record: Reservation) -> str:
    if record.requeue:
        return "back in the queue, at its old place in line"
    return f"{record.ended_why}; nothing of it is left but its disk" if record.disk_id else f"{record.ended_why}"
