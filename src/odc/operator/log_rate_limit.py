"""Rate limit of log lines about refused requests: they must not displace the rest of the log, whose size is bounded.

A user can be refused thousands of times a second, by malformed requests or too many connections. Beyond a rate these
are counted instead of written; the user's next line says how many were left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

REFUSED = "refused"
BURST = 200
PER_S = 0.2
"""Lines of one user that are written at once, and then each second: at most 5 MB a day."""
_MOST_USERS = 1000


class RefusalRateLimit(logging.Filter):
    """A filter for a handler. May be used by several threads at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            now: a clock in seconds that never goes back.
        """
        super().__init__()
        self._now = now
        self._lock = threading.Lock()
        self._users: dict[str, tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.levelno > logging.INFO or record.getMessage() != REFUSED:
            return True
        with self._lock:
            return self._take(str(getattr(record, "uid", "")), record)

    def _take(self, user: str, record: logging.LogRecord) -> bool:
        now = self._now()
        if len(self._users) >= _MOST_USERS:
            self._users.clear()
        tokens, at, left_out = self._users.get(user, (float(BURST), now, 0))
        tokens = min(float(BURST), tokens + (now - at) * PER_S)
        if tokens < 1:
            self._users[user] = (tokens, now, left_out + 1)
            return False
        self._users[user] = (tokens - 1, now, 0)
        if left_out:
            record.left_out = left_out
        return True
