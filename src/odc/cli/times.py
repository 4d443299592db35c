"""Times as people read them: local, with the day when it is not today, and a duration beside. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta


def clock(moment: datetime, now: datetime) -> str:
    """`22:04`, `tomorrow 02:00`, `yesterday 18:00`, `Wed 10:30`, or the date when it is a week away.

    Args:
        moment: aware, any zone.
        now: aware, in the reader's zone.
    """
    local = moment.astimezone(now.tzinfo)
    days = (local.date() - now.date()).days
    time = f"{local:%H:%M}"
    if days == 0:
        return time
    if abs(days) == 1:
        return f"{'tomorrow' if days > 0 else 'yesterday'} {time}"
    return f"{local:%a} {time}" if abs(days) < 7 else f"{local:%Y-%m-%d} {time}"


def span(length: timedelta) -> str:
    """`8 h`, `7 h 58 min`, `12 min`, `40 s`; rounded down to minutes above a minute and a half."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 90:
        return f"{seconds} s"
    minutes = seconds // 60
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def until(moment: datetime, now: datetime) -> str:
    """`22:04 (in 8 h)`; the duration of a past moment is left out."""
    left = moment - now
    return f"{clock(moment, now)} (in {span(left)})" if left > timedelta(0) else clock(moment, now)


def left(moment: datetime, now: datetime) -> str:
    """`22:04 (7 h 58 min left)`."""
    return f"{clock(moment, now)} ({span(moment - now)} left)"


def hours_text(hours: float) -> str:
    """`8 h`, `1.5 h`, `30 min`."""
    return span(timedelta(hours=hours)) if hours < 1 else f"{hours:g} h"
