"""Runs one pass after the other, in one process at a time."""

from __future__ import annotations

import logging
from datetime import timedelta

from odc.control.context import Ports
from odc.control.lease import PassLease
from odc.control.reconcile import Reconciler
from odc.domain.errors import ProviderError

log = logging.getLogger(__name__)

IDLE_INTERVAL = timedelta(seconds=5)
"""Time between two passes when nothing is due and nothing wakes one. Boxes are only seen by listing them,
so this is also how late a box that stopped by itself is noticed."""
RETRY_INTERVAL = timedelta(seconds=1)
"""Pause after a pass that failed, or that another process has the lease for."""
MIN_PAUSE = timedelta(milliseconds=1)


class PassLoop:
    """Runs passes in one thread: when something is due, and at once when the process is woken."""

    def __init__(self, reconciler: Reconciler, ports: Ports, lease: PassLease, holder: str) -> None:
        """Prepare; nothing runs yet.

        Args:
            reconciler: runs one pass.
            ports: gives the clock and the wake-ups.
            lease: of this process.
            holder: the name under which this process takes the lease. A process that is started again must use the
                same name, or it waits until the lease of its predecessor has expired.
        """
        self._reconciler = reconciler
        self._ports = ports
        self._lease = lease
        self._holder = holder
        self._stopped = False
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        """Whether a pass of this process has ended, or another process runs them: the stored status is not that of an
        earlier daemon.
        """
        return self._has_begun

    def run(self) -> None:
        """Run passes until `stop`. A fault of the store, or a lease that another process has, only costs a pause.

        Raises:
            InvariantError: a bug; the caller should end the process, which starts again from the records.
        """
        while not self._stopped:
            pause = self.run_once()
            if pause > timedelta(0):
                self._ports.wake.wait(pause)

    def stop(self) -> None:
        """End after the pass that runs now. Any thread may call it."""
        self._stopped = True
        self._ports.wake.notify()

    def run_once(self) -> timedelta:
        """Run one pass if this process has the lease; return how long to wait for the next."""
        try:
            # An optimisation only: passes of two processes at once are correct, but one of them loses every commit.
            if not self._lease.acquire(self._holder):
                self._has_begun = True
                return RETRY_INTERVAL
            report = self._reconciler.reconcile_once()
            self._has_begun = True
        except ProviderError as error:
            log.warning("pass failed", extra={"reason": error.message})
            self._reconciler.note_failure(error.message)
            return RETRY_INTERVAL
        if report.due is None:
            return IDLE_INTERVAL
        # At least a little: a time that is due but has no effect must not make a busy loop.
        return max(min(report.due - self._ports.clock.now(), IDLE_INTERVAL), MIN_PAUSE)
