"""Blocking work off the event loop: a few threads for each user, so that no user takes all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from odc.domain.access import Principal

PER_USER_THREADS = 8
TOTAL_THREADS = 48
"""Fewer than the connections of the SQL store, or a reader would wait for one instead of a thread."""
P = ParamSpec("P")
Found = TypeVar("Found")


class Threads:
    """Runs work in threads; for one event loop. Calls over the limit queue up without holding a thread."""

    def __init__(self, per_user: int = PER_USER_THREADS, total: int = TOTAL_THREADS) -> None:
        """Prepare; nothing is started.

        Args:
            per_user: threads of one user at once.
            total: threads of all users at once.
        """
        self._per_user = per_user
        self._total = total
        self._all: CapacityLimiter | None = None
        self._of: dict[str, CapacityLimiter] = {}

    async def run(self, caller: Principal, work: Callable[P, Found], *args: P.args, **kwargs: P.kwargs) -> Found:
        """Return the result of the work, or raise its exception."""
        if self._all is None:  # made here: it belongs to the loop that runs
            self._all = CapacityLimiter(self._total)
        own = self._of.setdefault(caller.id, CapacityLimiter(self._per_user))
        async with own:
            return await to_thread.run_sync(lambda: work(*args, **kwargs), limiter=self._all)
