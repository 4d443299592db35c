"""A reservation's life as a table: which trigger leads from which state to which.

    QUEUED ──Placed──▶ PREPARING ──BoxesReady──▶ ACTIVE
      ▲ │                  │                        │
      │ │ EndRequested     │ EndRequested           │ EndRequested (expired, cancelled, failed)
      │ ▼                  ▼                        ▼
      │ ENDED ◀─CleanedUp─ ENDING ◀─────────────────┘
      └──────── CleanedUp, when ENDING was to requeue (attempt + 1, same place in line)

Rules: transitions are data; an illegal trigger raises and changes nothing; ENDING is the finalizer, so nothing is ENDED
while a container runs, a volume is attached, or the disk's snapshot is not verified. A queued reservation has none of
these and ends at once. An end asked for by the user always turns a requeue into an end.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from odc.domain.errors import InvariantError
from odc.domain.reservation import EndReason, Fault, Place, Reservation, SlotRecord, State
from odc.domain.status import EndCause


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A new attempt has its nodes and GPUs."""

    at: datetime
    slot: SlotRecord
    ready_by: datetime
    places: tuple[Place, ...]


class BoxesReady(msgspec.Struct, frozen=True, kw_only=True):
    """Every box of the attempt answers SSH; the reservation's clock starts. `places` carry the boxes' uids."""

    at: datetime
    places: tuple[Place, ...]


class EndRequested(msgspec.Struct, frozen=True, kw_only=True):
    """It is to end (`why`), or to go back to the queue (`why` is None); `by` is the operator who asked for it."""

    at: datetime
    why: EndReason | None
    cause: EndCause = EndCause.OTHER
    by: str = ""
    detail: str = ""


class CleanedUp(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is left of the attempt: container, network, mount; and the disk's snapshot is verified."""

    at: datetime


Trigger = Placed | BoxesReady | EndRequested | CleanedUp

TRANSITIONS: dict[tuple[State, type[Trigger]], tuple[State, ...]] = {
    (State.QUEUED, Placed): (State.PREPARING,),
    (State.QUEUED, EndRequested): (State.ENDED,),
    (State.PREPARING, BoxesReady): (State.ACTIVE,),
    (State.PREPARING, EndRequested): (State.ENDING,),
    (State.ACTIVE, EndRequested): (State.ENDING,),
    (State.ENDING, EndRequested): (State.ENDING,),
    (State.ENDING, CleanedUp): (State.ENDED, State.QUEUED),
}


def apply(record: Reservation, trigger: Trigger) -> Reservation:
    """The record after the trigger.

    Raises:
        InvariantError: the trigger is illegal in the record's state; nothing changed.
    """
    if (record.state, type(trigger)) not in TRANSITIONS:
        raise InvariantError(f"{type(trigger).__name__} is illegal for {record.id} while {record.state}")
    match trigger:
        case Placed():
            return _placed(record, trigger)
        case BoxesReady():
            return replace(
                record,
                state=State.ACTIVE,
                active_at=trigger.at,
                expires_at=trigger.at + record.spec.length,
                places=trigger.places,
                fault=None,
                end_cause=None,
                end_detail="",
            )
        case EndRequested():
            return _end_requested(record, trigger)
        case CleanedUp():
            return _cleaned_up(record, trigger)


def _placed(record: Reservation, trigger: Placed) -> Reservation:
    return replace(
        record,
        state=State.PREPARING,
        attempt=record.attempt + 1,
        slot=trigger.slot,
        ready_by=trigger.ready_by,
        places=trigger.places,
        placed_at=trigger.at,
        phases=(),
        applied_config="",
        fault=None,
    )


def _end_requested(record: Reservation, trigger: EndRequested) -> Reservation:
    if record.state is State.ENDING:
        if trigger.why is None or not record.requeue:
            return record
        return replace(_caused(record, trigger), requeue=False, ended_why=trigger.why)
    if record.state is State.QUEUED:
        return replace(
            _caused(record, trigger),
            state=State.ENDED,
            ended_why=trigger.why or EndReason.FAILED,
            ending_at=trigger.at,
            ended_at=trigger.at,
            slot=None,
            ready_by=None,
            fault=None,
        )
    return replace(
        _caused(record, trigger),
        state=State.ENDING,
        ending_at=trigger.at,
        ended_why=trigger.why,
        requeue=trigger.why is None,
        boxes_gone=False,
        fault=None,
        missing_since=None,
        unreachable="",
    )


def _caused(record: Reservation, trigger: EndRequested) -> Reservation:
    return replace(record, end_cause=trigger.cause, ended_by=trigger.by, end_detail=trigger.detail)


def _cleaned_up(record: Reservation, trigger: CleanedUp) -> Reservation:
    if not record.requeue:
        return replace(record, state=State.ENDED, ended_at=trigger.at, fault=None)
    return replace(
        record,
        state=State.QUEUED,
        requeue=False,
        boxes_gone=False,
        places=(),
        slot=None,
        placed_at=None,
        active_at=None,
        expires_at=None,
        ending_at=None,
        fault=None,
    )


_DELAYS_S = (1, 2, 5, 10, 20, 40, 60)


def is_backing_off(record: Reservation, now: datetime) -> bool:
    """Whether the delay after the record's fault is not over yet. A longer one than there is comes from a clock that
    was set back since, and counts as over."""
    if record.fault is None:
        return False
    return now < record.fault.next_try <= now + timedelta(seconds=_DELAYS_S[-1])


def with_fault(record: Reservation, message: str, at: datetime) -> Reservation:
    """The record with a passing fault noted: its count grows, and with it the delay until the next try."""
    before = record.fault
    count = before.count + 1 if before else 1
    delay = timedelta(seconds=_DELAYS_S[min(count, len(_DELAYS_S)) - 1])
    since = before.since if before else at
    return replace(record, fault=Fault(message=message, count=count, since=since, next_try=at + delay))
