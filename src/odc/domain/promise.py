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
    expiry must not push the next promise. One that is over its limit: see `next_guess`.
    """
    return next_guess(_planned_end(record, limits) + limits.stop, limits.stop, now)


def next_guess(expected: datetime, patience: timedelta, now: datetime) -> datetime:
    """When something that was expected by a time is expected now: that time, and if it is over a later one.

    The guesses stay the same between passes, and each lies further away than the one before, by twice as much. So what
    hangs for hours postpones those who wait for it a few times, and not at every pass.

    Args:
        expected: the first guess.
        patience: how far the second lies behind it.
        now: the time; the guess lies after it.
    """
    step = max(patience, timedelta(seconds=1))
    while expected <= now:
        expected += step
        step *= 2
    return expected


def _planned_end(record: Reservation, limits: Limits) -> datetime:
    """When the reservation is to begin its teardown at the latest."""
    started = record.slot.start if record.slot else record.placed_at or record.created_at
    end = record.expires_at or started + limits.prepare + record.spec.length
    if record.state is State.ENDING and record.ending_at is not None:
        return min(record.ending_at, end)
    return end
