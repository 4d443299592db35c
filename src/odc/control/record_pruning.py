"""Limits the growth of the records. A task next to the passes deletes by these rules:

* Requests: when they are older than `requests.REQUEST_RETENTION`; no client repeats one so late.
* Ended reservations and their events: each user's newest `Limits.ended_per_user` are kept. Only users with live
reservations are checked, since other users' histories do not grow.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from odc.control.context import Policy, Ports
from odc.control.requests import REQUEST_RETENTION
from odc.control.sweeps import PRUNING, Sweeps
from odc.control.task_runner import Runner, TaskId, once
from odc.domain.errors import ProviderError

log = logging.getLogger(__name__)

TASK_KEY = "pruning"
INTERVAL = timedelta(minutes=10)
FOLLOW_UP_DELAY = timedelta(seconds=5)
BATCH_SIZE = 2000
"""Rows that are deleted at once: no other writer waits long."""


class RecordPruner:
    """Deletes old records every ten minutes, and again soon while there is more to delete."""

    def __init__(self, ports: Ports, policy: Policy, sweeps: Sweeps) -> None:
        self._ports = ports
        self._policy = policy
        self._sweeps = sweeps

    def start_if_due(self, runner: Runner, owners: Iterable[str], now: datetime | None) -> None:
        """Start a round unless one runs or was done lately.

        Args:
            runner: carries it out.
            owners: principals whose history may have grown.
            now: None if the clock cannot be trusted; then nothing is too old.
        """
        if TASK_KEY in runner.busy() or not self._sweeps.take(PRUNING, INTERVAL, now):
            return
        looked_at = tuple(dict.fromkeys(owners))
        runner.start(TASK_KEY, TaskId(TASK_KEY), once(lambda: self.round(looked_at, now)))

    def round(self, owners: tuple[str, ...], now: datetime | None) -> None:
        """Delete records beyond these limits, in small transactions."""
        keep = self._policy.limits.ended_per_user
        try:
            counts = [self._ports.pruning.prune_reservations(owner, keep, BATCH_SIZE) for owner in owners]
            if now is not None:
                counts.append(self._ports.pruning.prune_requests(now - REQUEST_RETENTION, BATCH_SIZE))
        except ProviderError as error:
            log.warning("old records stay", extra={"reason": error.message})
            return
        if BATCH_SIZE in counts:
            self._sweeps.ask(PRUNING, FOLLOW_UP_DELAY)
