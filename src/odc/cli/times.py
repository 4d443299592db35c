"""Times for people: local, with the day if it is not today, and a duration next to it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = timedelta(0)


class LocalZone(tzinfo):
    """The machine's own zone, with its change between summer and winter time.

    A fixed offset, as `datetime.astimezone()` gives, would be an hour wrong across such a change.
    """

    def fromutc(self, moment: datetime) -> datetime:
        """Return the local time of a moment in UTC."""
        local = moment + self._offset((moment.replace(tzinfo=UTC) - _EPOCH).total_seconds())
        return local.replace(fold=int(self._guess(local) != local - moment))

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Return the offset from UTC. Of an ambiguous local time, `fold` selects the second."""
        if moment is None:
            return _ZERO
        first = self._guess(moment)
        if not moment.fold:
            return first
        return self._offset((moment.replace(tzinfo=UTC) - _EPOCH - first).total_seconds() + 3600)

    def dst(self, moment: datetime | None) -> timedelta | None:
        """Return None: daylight saving time is part of the offset."""
        return None

    def tzname(self, moment: datetime | None) -> str:
        """Return a fixed name, which is not shown anywhere."""
        return "local"

    def _guess(self, moment: datetime) -> timedelta:
        """Return the offset of a local time; of an ambiguous one, the earlier."""
        stamp = (moment.replace(tzinfo=UTC) - _EPOCH).total_seconds()
        early = self._offset(stamp - 86400)
        late = self._offset(stamp - early.total_seconds())
        return early if self._offset(stamp - early.total_seconds()) == early else late

    @staticmethod
    def _offset(stamp: float) -> timedelta:
        length = timedelta(seconds=time.localtime(stamp).tm_gmtoff)
        # An invalid TZ can give an offset of a day or more, which `datetime` refuses.
        return length if abs(length) < timedelta(days=1) else _ZERO


def local_now() -> datetime:
    """Return the time, in the machine's zone."""
    return datetime.now(UTC).astimezone(LocalZone())


def day(moment: datetime, now: datetime) -> str:
    """Return empty text for today, else `tomorrow`, `yesterday`, `Wed`, or the date if it is a week away or more."""
    local = moment.astimezone(now.tzinfo)
    days = (local.date() - now.date()).days
    if days == 0:
        return ""
    if abs(days) == 1:
        return "tomorrow" if days > 0 else "yesterday"
    return f"{local:%a}" if abs(days) < 7 else f"{local:%Y-%m-%d}"


def clock(moment: datetime, now: datetime, seconds: bool = False) -> str:
    """Return `22:04`, `tomorrow 02:00`, `yesterday 18:00`, `Wed 10:30`, or the date if it is a week away or more.

    Args:
        moment: aware, any zone.
        now: aware, in the reader's zone.
        seconds: `22:04:41` instead.
    """
    local = moment.astimezone(now.tzinfo)
    told = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return f"{day(moment, now)} {told}".lstrip()


def span(length: timedelta) -> str:
    """Return `8 h`, `7 h 58 min`, `12 min` or `40 s`: to the nearest minute above 10 minutes, else rounded down."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 90:
        return f"{seconds} s"
    minutes = (seconds + 30) // 60 if seconds >= 600 else seconds // 60
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def until(moment: datetime, now: datetime) -> str:
    """Return `22:04 (in 8 h)`; the duration of a past moment is left out."""
    left = moment - now
    return f"{clock(moment, now)} (in {span(left)})" if left > _ZERO else clock(moment, now)


def left(moment: datetime, now: datetime) -> str:
    """Return `22:04 (7 h 58 min left)`, or `22:04 (over)`."""
    return f"{clock(moment, now)} ({span(moment - now)} left)" if moment > now else over(moment, now)


def over(moment: datetime, now: datetime) -> str:
    """Return `22:04 (over)`, for an end that has passed and is not yet acted upon."""
    return f"{clock(moment, now)} (over)"
