"""The next step of one placed reservation: PREPARING, ACTIVE or ENDING. Pure.

Each function below looks first at the outcome of this attempt's task, then at what the pass observed, and returns at
most one step. If there is nothing to conclude and a task is missing, it starts the task. So a task that was lost in a
crash is started again by the same code that started it the first time.

Faults are of two kinds, told apart by the type of the error. `ProviderUnavailable` may go away: it is noted on the
record and retried with growing delay. `ProviderRefused` will not: the reservation ends with that reason. How long
retries go on depends on the state:

* PREPARING: until the prepare limit, which is part of the promise to users further back in the queue. Then the
  reservation goes back to the queue for another attempt, up to `Limits.attempts`. The same happens earlier when one
  phase takes longer than its own limit.
* ACTIVE: without limit. A box that runs is never ended by a fault of ours.
* ENDING: without limit. Ending early would give the GPUs or the disk away while a container still uses them, or lose
  what the user wrote.

A task that is not through (`NotYet`) is not a fault. The phase that it waits in is recorded once, so that users see it,
and the task is started again after `Policy.poll`.
"""

from __future__ import annotations

from msgspec.structs import replace

from odc.control.box_files import AppliedConfig, box_config_digest
from odc.control.box_notes import note_new_ports, note_reachability, note_restart
from odc.control.box_start import Ready
from odc.control.context import Policy
from odc.control.disk_end import Cleaned
from odc.control.memory_kills import note_kills
from odc.control.observation import Observation
from odc.control.steps import Step, Task, TaskName
from odc.control.task_guard import Superseded
from odc.control.task_runner import NotYet, Outcome
from odc.domain import lifecycle
from odc.domain.box import BoxState
from odc.domain.disk import Disk
from odc.domain.disk_history import with_new_snapshot
from odc.domain.errors import BoxGone, PlaceTaken, ProviderRefused
from odc.domain.event_kind import EventKind
from odc.domain.reservation import EndReason, GivenUp, Reservation, State, UnderWay
from odc.domain.status import EndCause

MAX_UNCOUNTED_ATTEMPTS = 100
"""Attempts that failed only because other programs had the ports do not count, but only so many of them."""


def advance(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """The reservation's next step, or None if there is nothing to do now."""
    match record.state:
        case State.PREPARING:
            return _preparing(record, seen, policy)
        case State.ACTIVE:
            return _active(record, seen, policy)
        case State.ENDING:
            return _ending(record, seen, policy)
        case _:
            return None


def _outcome(record: Reservation, seen: Observation, *names: TaskName) -> Outcome | None:
    """Return the outcome of this attempt's task if it is one of these; else None.

    An outcome of another task or of an earlier attempt is ignored: the record has moved on since that task was started,
    for example because the user cancelled, or because another daemon committed first.
    """
    outcome = seen.outcomes.get(record.id)
    if outcome is None or isinstance(outcome.error, Superseded):
        return None
    return outcome if outcome.task[:2] in {(str(name), record.attempt) for name in names} else None


def _start(name: TaskName, record: Reservation, seen: Observation) -> Step | None:
    """Start the task unless it is too early: one runs, the delay after a fault or after `NotYet` is not over, or the
    cluster does not answer.

    While the cluster does not answer, a task would only fail and make the next delay longer.
    """
    if record.id in seen.busy or lifecycle.is_backing_off(record, seen.now) or seen.nodes is None:
        return None
    if seen.waiting.get(record.id) == (str(name), record.attempt):
        return None
    return Step(tasks=[Task(name, record)])


def _preparing(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    outcome = _outcome(record, seen, TaskName.PREPARE)
    if outcome is not None and isinstance(outcome.value, Ready):
        return _become_active(record, outcome.value, seen)
    if outcome is not None and (refusal := _refusal(outcome, policy)) is not None:
        return _end(record, seen, EndReason.FAILED, EndCause.REFUSED, refusal)
    # Not through is as good as failed here.
    failed = outcome is not None
    # Another program has the port or the GPU. Retrying in the same place would fail again.
    place_taken = outcome is not None and isinstance(outcome.error, PlaceTaken)
    # Over the limit alone is not enough: after an outage of the cluster or of the daemon the limit is over although
    # nothing was tried. Then the task gets one more try, and its failure ends the attempt. A task that still runs has
    # had its time.
    expired = _over_prepare_limit(record, seen, policy) and (failed or record.id in seen.busy)
    if expired or place_taken or _late_phase(record, outcome, seen, policy):
        return _give_up(record, outcome, seen, policy)
    if outcome is not None and outcome.error is not None:
        return _note_fault(record, outcome.error.message, seen)
    if outcome is not None and outcome.not_yet is not None:
        return _note_under_way(record, outcome.not_yet)
    return _start(TaskName.PREPARE, record, seen)


def _refusal(outcome: Outcome, policy: Policy) -> str | None:
    """Return why the task can never succeed; None if it may. A box that the cluster has removed can be made again."""
    if policy.make_again and isinstance(outcome.error, BoxGone):
        return None
    return outcome.error.message if isinstance(outcome.error, ProviderRefused) else None


def _become_active(record: Reservation, ready: Ready, seen: Observation) -> Step:
    active = lifecycle.apply(record, lifecycle.BoxesReady(at=seen.now, places=ready.places))
    active = replace(active, phases=(*record.phases, *ready.phases))
    # The box was made with the latest possible expiry time; the real one is known now.
    step = Step(record=active, tasks=[Task(TaskName.REFRESH_FILES, active)])
    disk = seen.stored.disks.get(record.disk_id) if record.disk_id else None
    if disk is not None and not disk.made:
        # From now on a volume that is missing is a fault: it must not be replaced by an empty one.
        step.disk = replace(disk, made=True)
    waited = (seen.now - record.created_at).total_seconds()
    step.add_event(
        record, seen.now, EventKind.READY, f"SSH answers, {waited:.1f} s after the request; ends", active.expires_at
    )
    return step


def _over_prepare_limit(record: Reservation, seen: Observation, policy: Policy) -> bool:
    """Whether the time in which SSH was promised to answer is over.

    It is counted from the slot's start and not from when a pass placed it: the slots behind this one were planned so.
    """
    begun = record.slot.start if record.slot else record.placed_at
    # None of these is the attempt's own fault, so none uses it up.
    if seen.frozen or begun is None or seen.nodes is None or seen.host.blocked:
        return False
    return seen.now > begun + policy.limits.prepare


def _late_phase(record: Reservation, outcome: Outcome | None, seen: Observation, policy: Policy) -> UnderWay | None:
    """Return the phase under way if it takes longer than its limit.

    Only for a task that has just said that it is not through: one that runs may be in its next phase already.
    """
    if outcome is None or outcome.not_yet is None or seen.frozen or seen.nodes is None or seen.host.blocked:
        return None
    phase = _merged(record.under_way, outcome.not_yet.under_way)
    limit = policy.limits.of_phase(phase.name)
    return None if limit is None or seen.now <= phase.since + limit else phase


def _merged(before: UnderWay | None, now: UnderWay) -> UnderWay:
    """The phase under way, since it was first recorded."""
    return replace(now, since=before.since) if before and before.name == now.name else now


def _note_under_way(record: Reservation, not_yet: NotYet) -> Step | None:
    """Record the phase that takes its time, once, with the phases before it. An earlier fault is over."""
    under_way = _merged(record.under_way, not_yet.under_way)
    if under_way == record.under_way and record.fault is None:
        return None
    phases = (*record.phases, *not_yet.finished)
    return Step(record=replace(record, under_way=under_way, phases=phases, fault=None))


def _give_up(record: Reservation, outcome: Outcome | None, seen: Observation, policy: Policy) -> Step:
    """Give up the attempt: back to the queue, or the end if it was the last one."""
    taken = outcome is not None and isinstance(outcome.error, PlaceTaken)
    uncounted = taken and record.uncounted < MAX_UNCOUNTED_ATTEMPTS
    tries = record.attempt - record.uncounted
    is_last = not uncounted and tries >= policy.limits.attempts
    late = _late_phase(record, outcome, seen, policy)
    limit = policy.limits.of_phase(late.name) if late else None
    if limit is None and _over_prepare_limit(record, seen, policy):
        limit = policy.limits.prepare
    given_up = GivenUp(
        phase=late.name if late else "",
        limit_s=limit.total_seconds() if limit else 0,
        last_attempt=tries if is_last else 0,
    )
    if uncounted:
        # Ports that other programs have are not something that the user can change, so the attempt does not count. It
        # waits until its node has room (`Node.full`).
        record = replace(record, uncounted=record.uncounted + 1)
    return _end(
        record,
        seen,
        EndReason.FAILED if is_last else None,
        EndCause.PLACE_TAKEN if taken else EndCause.NOT_READY,
        late.detail if late else _last_fault(record, outcome),
        given_up,
    )


def _last_fault(record: Reservation, outcome: Outcome | None) -> str:
    """Return what the attempt's last try failed with or waits for; empty if that is not known."""
    if outcome is not None and outcome.error is not None:
        return outcome.error.message
    if record.fault is not None:
        return record.fault.message
    under_way = outcome.not_yet.under_way if outcome and outcome.not_yet else record.under_way
    return f"{under_way.name}: {under_way.detail}" if under_way else ""


def _end(
    record: Reservation,
    seen: Observation,
    why: EndReason | None,
    cause: EndCause,
    detail: str = "",
    given_up: GivenUp | None = None,
) -> Step:
    trigger = lifecycle.EndRequested(at=seen.now, why=why, cause=cause, detail=detail, given_up=given_up)
    ending = lifecycle.apply(record, trigger)
    step = Step(record=ending)
    # A task that still runs sees at its next step that the record has moved on, and ends. STOP is started after that.
    if record.id not in seen.busy:
        step.tasks.append(Task(TaskName.STOP, ending))
    word = str(why) if why else "goes back to the queue"
    step.add_event(record, seen.now, EventKind.ENDING, f"{word}: {ending.end_text}" if ending.end_text else word)
    return step


def _note_fault(record: Reservation, message: str, seen: Observation, disk: Disk | None = None) -> Step:
    faulty = lifecycle.with_fault(record, message, seen.now)
    step = Step(record=faulty, disk=disk)
    # The fault's count and delay are written at each retry, the event only once.
    if record.fault is None or record.fault.message != message:
        step.add_event(record, seen.now, EventKind.FAULT, f"{message}; trying again")
    return step


def _active(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    # Before anything else: an expired box is not restarted or refreshed any more.
    if record.expires_at is not None and not seen.frozen and seen.now >= record.expires_at:
        return _end(record, seen, EndReason.EXPIRED, EndCause.EXPIRED)
    outcome = _outcome(record, seen, TaskName.RESTART)
    if outcome is not None and (refusal := _refusal(outcome, policy)) is not None:
        detail = f"its box stopped and cannot start again: {refusal}"
        return _end(record, seen, EndReason.FAILED, EndCause.RESTART_REFUSED, detail)
    if outcome is not None and outcome.error is not None:
        return _note_fault(record, outcome.error.message, seen)
    if outcome is not None and outcome.not_yet is not None:
        return _note_under_way(record, outcome.not_yet)
    if outcome is not None:
        return note_restart(record, outcome.value.places if isinstance(outcome.value, Ready) else record.places, seen)
    noted = _config_applied(record, seen) or note_reachability(record, seen) or note_new_ports(record, seen)
    return noted or _watch_boxes(record, seen, policy)


def _config_applied(record: Reservation, seen: Observation) -> Step | None:
    """Record which configuration the boxes have now. A fault is retried; it never ends a running box."""
    outcome = _outcome(record, seen, TaskName.REFRESH_FILES)
    if outcome is None:
        return None
    if outcome.error is not None:
        return _note_fault(record, f"telling the box its end and keys: {outcome.error.message}", seen)
    if not isinstance(outcome.value, AppliedConfig):
        return None
    digest, keys, before = outcome.value
    # Keys that were changed since the task began are applied by the next one.
    keys = keys if record.owner_keys == before else record.owner_keys
    return Step(record=replace(record, applied_config=digest, owner_keys=keys, fault=None))


def _watch_boxes(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """Compare the boxes with the record: start a stopped one, note a missing one, end when it stays missing."""
    if seen.boxes is None or seen.nodes is None:
        return None
    # Boxes on a node that does not answer are unknown, not missing.
    places = [place for place in record.places if place.node in seen.ready_nodes]
    found = [seen.by_uid.get(place.uid) for place in places]
    if any(box is None for box in found):
        return _missing(record, seen, policy)
    if record.missing_since is not None:
        return Step(record=replace(record, missing_since=None))
    # Before a restart, which resets the kernel's counter.
    killed = note_kills(record, seen)
    if killed is not None:
        return killed
    # Also CREATED: a restart made the box again, and was interrupted before it started it. A restart whose box runs is
    # not through until SSH answers.
    stopped = any(box is not None and box.state in (BoxState.EXITED, BoxState.CREATED) for box in found)
    if stopped or record.under_way is not None:
        return _start(TaskName.RESTART, record, seen)
    # Only when all boxes can be written: the digest on the record is for all of them.
    if len(places) == len(record.places) and _is_config_stale(record, seen, policy):
        return _start(TaskName.REFRESH_FILES, record, seen)
    # No step fails now, so an earlier fault is over.
    if record.fault is not None and record.id not in seen.busy:
        return Step(record=replace(record, fault=None))
    return None


def _is_config_stale(record: Reservation, seen: Observation, policy: Policy) -> bool:
    """Whether the files of its boxes are older than the record, the owner's keys, or the operator's settings, or are
    lost.
    """
    if any(place.uid in seen.host.files_lost for place in record.places):
        return True
    return record.applied_config != box_config_digest(record, record.owner_keys, policy)


def _missing(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """Handle a box that is not in a successful list: record it first, and if it stays missing, make it again or end the
    reservation.

    One list is not enough evidence to give up a reservation whose box may still run.
    """
    if seen.frozen:
        # The untrusted clock cannot measure how long the box has been missing. Start again when it can be trusted.
        return Step(record=replace(record, missing_since=None)) if record.missing_since is not None else None
    # A time in the future was noted before the clock was set back.
    if record.missing_since is None or record.missing_since > seen.now:
        return Step(record=replace(record, missing_since=seen.now))
    if seen.now - record.missing_since < policy.missing:
        return None
    if policy.make_again:
        return _start(TaskName.RESTART, record, seen)
    detail = "its box was removed by someone other than ODC"
    return _end(record, seen, EndReason.FAILED, EndCause.BOX_REMOVED, detail)


def _ending(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    """End in two parts: first the boxes, which frees the GPUs, then the disk, which may take minutes."""
    if record.boxes_gone:
        return _cleaning(record, seen, policy)
    outcome = _outcome(record, seen, TaskName.STOP)
    if outcome is not None and outcome.error is not None:
        return _note_fault(record, outcome.error.message, seen)
    if outcome is not None and outcome.not_yet is not None:
        return _note_slow_end(record, outcome, outcome.not_yet, seen, policy)
    if outcome is not None:
        # Fenced: from this commit on the GPUs are free, and other reservations may be placed on them.
        gone = replace(record, boxes_gone=True, under_way=None, fault=None)
        step = Step(record=gone, tasks=[Task(TaskName.CLEAN, gone)], fenced=True)
        step.add_event(record, seen.now, EventKind.STOPPED, "its box is gone and its GPUs are free")
        return step
    return _start(TaskName.STOP, record, seen)


def _note_slow_end(
    record: Reservation, outcome: Outcome, not_yet: NotYet, seen: Observation, policy: Policy
) -> Step | None:
    """Record the phase under way; one that takes longer than its limit is a fault, which is shown and retried."""
    late = _late_phase(record, outcome, seen, policy)
    limit = policy.limits.of_phase(late.name) if late else None
    if late is None or limit is None:
        return _note_under_way(record, not_yet)
    text = f"{late.name} took longer than {limit.total_seconds():g} s: {late.detail}"
    return _note_fault(replace(record, under_way=late, phases=(*record.phases, *not_yet.finished)), text, seen)


def _cleaning(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
    outcome = _outcome(record, seen, TaskName.CLEAN)
    disk = seen.stored.disks.get(record.disk_id) if record.disk_id else None
    if outcome is not None and outcome.error is not None:
        # Shown on the disk too: its next user waits for it, and an operator may have to repair it.
        message = outcome.error.message
        faulty = replace(disk, fault=message) if disk and disk.fault != message else None
        return _note_fault(record, outcome.error.message, seen, faulty)
    if outcome is not None and outcome.not_yet is not None:
        return _note_slow_end(record, outcome, outcome.not_yet, seen, policy)
    if outcome is not None and isinstance(outcome.value, Cleaned):
        return _cleaned(record, outcome.value, disk, seen)
    return _start(TaskName.CLEAN, record, seen)


def _cleaned(record: Reservation, cleaned: Cleaned, disk: Disk | None, seen: Observation) -> Step:
    """Finish the clean-up of an attempt: the reservation ends or is queued again, in one commit with its disk."""
    ended = lifecycle.apply(record, lifecycle.CleanedUp(at=seen.now))
    ended = replace(ended, phases=(*record.phases, *cleaned.phases))
    step = Step(record=ended, fenced=record.requeue)
    if disk is not None:
        fresh = replace(disk, fault="")
        if cleaned.snapshot is not None:
            fresh, step.snapshot = with_new_snapshot(fresh, cleaned.snapshot)
            step.add_event(record, seen.now, EventKind.SNAPSHOT, _snapshot_text(disk, cleaned))
        # A reservation that is queued again keeps its disk; otherwise the disk passes to its successor.
        step.disk = fresh if record.requeue else fresh.released_by(record.id)
    step.add_event(record, seen.now, EventKind.REQUEUED if record.requeue else EventKind.ENDED, _end_text(record))
    return step


def _snapshot_text(disk: Disk, cleaned: Cleaned) -> str:
    text = f"disk {disk.name} is safe: snapshot verified"
    return f"{text}; its files are not listed: {cleaned.unlisted}" if cleaned.unlisted else text


def _end_text(record: Reservation) -> str:
    if record.requeue:
        return "back in the queue, at its old place in line"
    return f"{record.ended_why}; nothing of it is left but its disk" if record.disk_id else f"{record.ended_why}"
