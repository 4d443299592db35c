"""The lease under which this process runs passes, and the epochs in which it has it without a gap.

The lease is an optimisation: two processes that run passes at once are correct, because of the versions of the records.
What a task has found out is not covered by a version. A process that lost the lease and got it again must not believe
outcomes from before: another process has acted in between. So each task is started under an epoch, and its outcome
counts only in that epoch.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from odc.ports.clock import Clock
from odc.ports.leases import Leases

NAME = "passes"
DURATION = timedelta(seconds=30)
"""How long another process waits before it takes over from one that has died. Longer than a slow pass: the lease is
renewed at the beginning of each pass, and before its tasks are started."""


class PassLease:
    """This process's share of the lease. For several threads.

    Until `acquire` is called for the first time, as in a test or in a pass by hand, the lease counts as held.
    """

    def __init__(self, leases: Leases, clock: Clock) -> None:
        self._leases = leases
        self._clock = clock
        self._lock = threading.Lock()
        self._epoch = 0
        self._holder: str | None = None
        self._until: timedelta | None = None

    @property
    def epoch(self) -> int:
        """The number of times that the lease was lost or has lapsed. Tasks are started under it."""
        with self._lock:
            return self._epoch

    def holds(self, epoch: int) -> bool:
        """Whether this process has had the lease since that epoch, without a gap, and still has it."""
        with self._lock:
            return epoch == self._epoch and not self._has_lapsed()

    def keep(self) -> bool:
        """Renew the lease if less than half of its time is left; return whether this process has it now.

        Raises:
            ProviderUnavailable: as `acquire`.
        """
        if self._holder is None or self._until is None:
            return True
        return self._clock.since_boot() < self._until - DURATION / 2 or self.acquire(self._holder)

    def acquire(self, holder: str) -> bool:
        """Take or renew the lease under this name; return whether this process has it now.

        Raises:
            ProviderUnavailable: the store did not answer. The lease lapses at its time.
        """
        self._holder = holder
        # Before the question: the other processes count from the store's answer, which comes later.
        begun = self._clock.since_boot()
        granted = self._leases.acquire_lease(NAME, holder, self._clock.now(), DURATION)
        with self._lock:
            # Also when it has lapsed and is granted again: another process may have had it in between.
            if not granted or self._has_lapsed():
                self._epoch += 1
            self._until = begun + DURATION if granted else begun
        return granted

    def _has_lapsed(self) -> bool:
        return self._until is not None and self._clock.since_boot() >= self._until
