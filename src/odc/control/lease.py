"""The lease under which this process runs passes, and the epochs in which it has it without a gap.

The lease is an optimisation: two processes that run passes at once are correct, because of the versions of the records.
What a task has found out is not covered by a version. A process that lost the lease and got it again must not believe
outcomes from before: another process has acted in between. So each task is started under an epoch, and its outcome
counts only in that epoch; the same goes for checks of the host.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from odc.ports.clock import Clock
from odc.ports.leases import Leases

NAME = "passes"
DURATION = timedelta(seconds=30)
"""How long another process waits before it takes over from one that has died. Longer than a slow pass: the lease is
renewed at the beginning of each pass, and before its tasks are started."""


class _Share(NamedTuple):
    """What this process has of the lease: its epoch, and until when; None before it has asked for the first time."""

    epoch: int = 0
    until: timedelta | None = None


class PassLease:
    """This process's share of the lease. One thread takes and renews it; any may ask for it.

    Until `acquire` is called for the first time, as in a test or in a pass by hand, the lease counts as held.
    """

    def __init__(self, leases: Leases, clock: Clock) -> None:
        self._leases = leases
        self._clock = clock
        self._holder: str | None = None
        # Replaced as a whole, so that no reader gets the epoch of one share and the time of another.
        self._share = _Share()

    @property
    def epoch(self) -> int:
        """The number of times that the lease was lost or has lapsed. Tasks are started under it."""
        return self._share.epoch

    def holds(self, epoch: int) -> bool:
        """Whether this process has had the lease since that epoch, without a gap, and still has it."""
        share = self._share
        return epoch == share.epoch and not self._has_lapsed(share)

    def keep(self) -> bool:
        """Renew the lease if less than half of its time is left; return whether this process has it now.

        Raises:
            ProviderUnavailable: as `acquire`.
        """
        until = self._share.until
        if self._holder is None or until is None:
            return True
        return self._clock.since_boot() < until - DURATION / 2 or self.acquire(self._holder)

    def acquire(self, holder: str) -> bool:
        """Take or renew the lease under this name; return whether this process has it now.

        Raises:
            ProviderUnavailable: the store did not answer. The lease lapses at its time.
        """
        self._holder = holder
        # Before the question: the other processes count from the store's answer, which comes later.
        begun = self._clock.since_boot()
        granted = self._leases.acquire_lease(NAME, holder, self._clock.now(), DURATION)
        # Also when it has lapsed and is granted again: another process may have had it in between.
        lost = not granted or self._has_lapsed(self._share)
        self._share = _Share(self._share.epoch + lost, begun + DURATION if granted else begun)
        return granted

    def _has_lapsed(self, share: _Share) -> bool:
        return share.until is not None and self._clock.since_boot() >= share.until
