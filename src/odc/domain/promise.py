"""The promise: SSH answers by this time at the latest. It moves only earlier, except after a fault.

A slot spans the limits, not the hopes: prepare limit, hours, stop limit. So whatever happens within the limits, the
next one's slot is free when it begins.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from odc.domain.limits import Limits
from odc.domain.reservation import Reservation, State

TELL_IMPROVEMENT = timedelta(minutes=2)


def slot_span(length: timedelta, limits: Limits) -> timedelta:
    """How long a slot takes its GPUs."""
    return limits.prepare + length + limits.stop


def ready_by(slot_start: datetime, limits: Limits) -> datetime:
    """The promise that a slot gives."""
    return slot_start + limits.prepare


def held_until(record: Reservation, limits: Limits, now: datetime) -> datetime:
    """When the GPUs of a placed reservation are free at the latest, in `(now, …)`.

    Counted from the planned times, not from when a pass noticed them: a pass that comes some milliseconds after an
    expiry must not push the next promise. One that is over its limit is expected to be free after one more stop
    limit: its teardown goes on.
    """
    end = _planned_end(record, limits) + limits.stop
    return end if end > now else now + limits.stop


def _planned_end(record: Reservation, limits: Limits) -> datetime:
    """When the reservation is to begin its teardown at the latest."""
    started = record.slot.start if record.slot else record.placed_at or record.created_at
    end = record.expires_at or started + limits.prepare + record.spec.length
    if record.state is State.ENDING and record.ending_at is not None:
        return min(record.ending_at, end)
    return end
