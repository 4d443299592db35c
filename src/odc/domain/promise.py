"""The promise: SSH answers by this time at the latest. It moves only earlier, except after a fault.

A slot spans the limits and not the usual times: prepare limit, hours, stop limit. So as long as the limits are kept,
the units of the next slot are free when it starts.

The limits of single phases (`Limits.of_phase`) are not part of this arithmetic. They only end an attempt earlier that
hangs in one phase. Whatever its phases take, an attempt that is not ready when the prepare limit is over, counted from
the slot's start, is given up. So the sum of the phases' limits may be larger than the prepare limit.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from odc.domain.limits import Limits
from odc.domain.reservation import Reservation, State

TELL_IMPROVEMENT = timedelta(minutes=2)


def slot_span(length: timedelta, limits: Limits) -> timedelta:
    """The duration of a slot: how long its units are taken at most."""
    return limits.prepare + length + limits.stop


def ready_by(slot_start: datetime, limits: Limits) -> datetime:
    """Return the promise for a slot."""
    return slot_start + limits.prepare


def held_until(record: Reservation, limits: Limits, now: datetime) -> datetime:
    """Return when the GPUs of a placed reservation are free at the latest, in `(now, …)`.

    Counted from the planned times, not from when a pass noticed them: a pass that comes some milliseconds after an
    expiry must not postpone the next promise. For a reservation that is over its limit, see `next_guess`.
    """
    return next_guess(_planned_end(record, limits) + limits.stop, limits.stop, now)


def is_overdue(record: Reservation, limits: Limits, now: datetime) -> bool:
    """Whether a placed reservation has its GPUs for longer than its limits allow."""
    return _planned_end(record, limits) + limits.stop <= now


def next_guess(expected: datetime, patience: timedelta, now: datetime) -> datetime:
    """Return when an overdue event is expected: the first time of a fixed series that is not past.

    The series depends only on the first two arguments, and its gaps double. So an event that is hours late postpones
    the promises that depend on it a few times, and not in every pass.

    Args:
        expected: first time of the series.
        patience: from the first time to the second, but at least a second.
        now: the time; the result is later.
    """
    step = max(patience, timedelta(seconds=1))
    while expected <= now:
        expected += step
        step *= 2
    return expected


def _planned_end(record: Reservation, limits: Limits) -> datetime:
    """Return the latest time at which the reservation begins to end."""
    started = record.slot.start if record.slot else record.placed_at or record.created_at
    end = record.expires_at or started + limits.prepare + record.spec.length
    if record.state is State.ENDING and record.ending_at is not None:
        return min(record.ending_at, end)
    return end
