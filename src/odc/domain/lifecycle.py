"""The life cycle of a reservation, as a table.

`TRANSITIONS` is the state machine: `apply` looks a transition up in it, sets the fields that the transition changes,
and then the state that the table gives. The functions that set fields never set a state. The diagram in
`docs/reference/lifecycle.md` is generated from the same table.

Rules of the table:

* A trigger that has no transition in the record's state raises and changes nothing.
* ENDING is the finalizer, as in Kubernetes: a reservation stays in it until no container runs, no volume is attached,
  and the disk's snapshot is verified. Nothing else leads from a placed reservation to ENDED.
* A queued reservation has no container and no volume, so it ends at once.
* ENDING leads back to the queue if `requeue` is set: the attempt is given up, and the next one has a new number. The
  reservation keeps its place in line, because `order` never changes.
* An end that a user asks for wins over a requeue, whichever comes first.

`state` and `requeue` alone decide which transition is taken. The code that chooses the trigger is in `odc.control`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from odc.domain.errors import InvariantError
from odc.domain.reservation import EndReason, Fault, GivenUp, Place, Reservation, SlotRecord, State
from odc.domain.status import EndCause, TroubleKind


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler has chosen the nodes and GPUs of a new attempt."""

    at: datetime
    slot: SlotRecord
    ready_by: datetime
    places: tuple[Place, ...]


class BoxesReady(msgspec.Struct, frozen=True, kw_only=True):
    """Every box of the attempt answers SSH; its hours count from now.

    Attributes:
        at: when.
        places: those of the attempt, now with the boxes' uids.
    """

    at: datetime
    places: tuple[Place, ...]


class EndRequested(msgspec.Struct, frozen=True, kw_only=True):
    """The reservation should end, or the attempt should be given up.

    Attributes:
        at: when.
        why: the reason, as users read it; None to give up the attempt and queue the reservation again.
        cause: what led to it.
        by: the operator who asked for it; empty if it was the owner or ODC itself.
        detail: the fault's message, if there was a fault.
        given_up: the limits by which a start was given up; None for any other end.
    """

    at: datetime
    why: EndReason | None
    cause: EndCause = EndCause.OTHER
    by: str = ""
    detail: str = ""
    given_up: GivenUp | None = None


class CleanedUp(msgspec.Struct, frozen=True, kw_only=True):
    """No container, network or mount of the attempt is left, and the disk's snapshot is verified."""

    at: datetime


Trigger = Placed | BoxesReady | EndRequested | CleanedUp


def _place(record: Reservation, trigger: Placed) -> Reservation:
    return replace(
        record,
        attempt=record.attempt + 1,
        slot=trigger.slot,
        ready_by=trigger.ready_by,
        places=trigger.places,
        placed_at=trigger.at,
        phases=(),
        # The new boxes have no files yet.
        applied_config="",
        under_way=None,
        fault=None,
    )


def _activate(record: Reservation, trigger: BoxesReady) -> Reservation:
    return replace(
        record,
        active_at=trigger.at,
        expires_at=trigger.at + record.spec.length,
        places=trigger.places,
        under_way=None,
        fault=None,
        # Of an earlier attempt that was given up.
        end_cause=None,
        end_detail="",
        given_up=None,
    )


def _end_in_queue(record: Reservation, trigger: EndRequested) -> Reservation:
    return replace(
        _with_cause(record, trigger),
        ended_why=trigger.why or EndReason.FAILED,
        ending_at=trigger.at,
        ended_at=trigger.at,
        slot=None,
        ready_by=None,
        fault=None,
    )


def _begin_ending(record: Reservation, trigger: EndRequested) -> Reservation:
    return replace(
        _with_cause(record, trigger),
        ending_at=trigger.at,
        ended_why=trigger.why,
        requeue=trigger.why is None,
        boxes_gone=False,
        under_way=None,
        fault=None,
        missing_since=None,
        unreachable="",
    )


def _end_for_good(record: Reservation, trigger: EndRequested) -> Reservation:
    """Turn a requeue into an end. A reservation that is ending for good keeps its first reason."""
    if trigger.why is None or not record.requeue:
        return record
    return replace(_with_cause(record, trigger), requeue=False, ended_why=trigger.why)


def _with_cause(record: Reservation, trigger: EndRequested) -> Reservation:
    return replace(
        record,
        end_cause=trigger.cause,
        ended_by=trigger.by,
        end_detail=trigger.detail,
        given_up=trigger.given_up,
    )


def _finish(record: Reservation, trigger: CleanedUp) -> Reservation:
    return replace(record, ended_at=trigger.at, under_way=None, fault=None)


def _return_to_queue(record: Reservation, _: CleanedUp) -> Reservation:
    # `ready_by` stays: the pass that plans the next slot moves the promise and notifies the owner.
    return replace(
        record,
        requeue=False,
        boxes_gone=False,
        places=(),
        slot=None,
        placed_at=None,
        active_at=None,
        expires_at=None,
        ending_at=None,
        under_way=None,
        fault=None,
    )


class Transition(NamedTuple):
    """One row of the table.

    Attributes:
        target: the state that it leads to.
        change: sets the fields that change with it, except the state; gets the record and the trigger.
        requeue: only for records whose `requeue` has this value; None: for all.
    """

    target: State
    change: Callable[[Reservation, Any], Reservation]
    requeue: bool | None = None


TRANSITIONS: Mapping[tuple[State, type[Trigger]], tuple[Transition, ...]] = {
    (State.QUEUED, Placed): (Transition(State.PREPARING, _place),),
    (State.QUEUED, EndRequested): (Transition(State.ENDED, _end_in_queue),),
    (State.PREPARING, BoxesReady): (Transition(State.ACTIVE, _activate),),
    (State.PREPARING, EndRequested): (Transition(State.ENDING, _begin_ending),),
    (State.ACTIVE, EndRequested): (Transition(State.ENDING, _begin_ending),),
    (State.ENDING, EndRequested): (Transition(State.ENDING, _end_for_good),),
    (State.ENDING, CleanedUp): (
        Transition(State.ENDED, _finish, requeue=False),
        Transition(State.QUEUED, _return_to_queue, requeue=True),
    ),
}
"""State and trigger to the transitions that are possible. For each value of `requeue` there is exactly one."""


def apply(record: Reservation, trigger: Trigger) -> Reservation:
    """Return the record after the trigger.

    Raises:
        InvariantError: the trigger is illegal in the record's state; nothing changed.
    """
    for transition in TRANSITIONS.get((record.state, type(trigger)), ()):
        if transition.requeue in (None, record.requeue):
            return replace(transition.change(record, trigger), state=transition.target)
    raise InvariantError(f"{type(trigger).__name__} is illegal for {record.id} while {record.state}")


BACKOFF_S = (1, 2, 5, 10, 20, 40, 60)
"""Seconds until the next retry, by the number of faults in a row; the last for all that follow."""


def is_backing_off(record: Reservation, now: datetime) -> bool:
    """Whether the record's fault is too recent for a retry."""
    if record.fault is None:
        return False
    # A time further away than the longest delay was written before the clock was set back: retry now.
    return now < record.fault.next_try <= now + timedelta(seconds=BACKOFF_S[-1])


def with_fault(record: Reservation, message: str, at: datetime) -> Reservation:
    """Return the record with a passing fault: its count grows, and with it the delay until the next try."""
    before = record.fault
    count = before.count + 1 if before else 1
    delay = timedelta(seconds=BACKOFF_S[min(count, len(BACKOFF_S)) - 1])
    since = before.since if before else at
    fault = Fault(kind=TroubleKind.RETRYING, message=message, count=count, since=since, next_try=at + delay)
    return replace(record, fault=fault)
