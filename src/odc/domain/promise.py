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

    One that is over its limit is expected to be free after one more stop limit: its teardown goes on.
    """
    if record.state is State.ACTIVE and record.expires_at is not None:
        end = record.expires_at + limits.stop
    elif record.state is State.ENDING and record.ending_at is not None:
        end = record.ending_at + limits.stop
    else:
        started = record.placed_at or now
        end = started + slot_span(record.spec.length, limits)
    return end if end > now else now + limits.stop
