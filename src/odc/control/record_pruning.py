"""Limits the growth of the records. A task next to the passes deletes by these rules:

* Requests: when they are older than `requests.REQUEST_RETENTION`; no client repeats one so late.
* Ended reservations, with their events and secrets: `Limits.ended_days` after their end, and those of a user beyond the
newest `Limits.ended_per_user`. For the latter only users with live reservations are checked, since other users'
histories do not grow.
* Events of disks, nodes and users: `Limits.ended_days` after they happened.

If there is an audit log, the events are appended to it before they are deleted. A crash in between appends them again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from odc.control.context import Policy, Ports
from odc.control.requests import REQUEST_RETENTION
from odc.control.sweeps import PRUNING, Sweeps
from odc.control.task_runner import Runner, TaskId, once
from odc.domain.errors import ProviderError
from odc.domain.paging import all_pages
from odc.domain.records import AuditEvent, Subject
from odc.domain.reservation import Reservation

log = logging.getLogger(__name__)

TASK_KEY = "pruning"
INTERVAL = timedelta(minutes=10)
FOLLOW_UP_DELAY = timedelta(seconds=5)
MOST = 2000
"""Records of each kind that a round deletes."""
BATCH_SIZE = 100
"""Reservations that are exported and deleted at once: a crash repeats few, and no other writer waits long."""


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
            counts = [self._delete(self._ports.pruning.list_ended_beyond(owner, keep, MOST)) for owner in owners]
            if now is not None:
                counts.append(self._delete(self._ended_too_long_ago(now)))
                counts.append(self._ports.pruning.prune_requests(now - REQUEST_RETENTION, MOST))
                counts.append(self._delete_other_events(now))
        except ProviderError as error:
            log.warning("old records stay", extra={"reason": error.message})
            return
        if MOST in counts:
            self._sweeps.ask(PRUNING, FOLLOW_UP_DELAY)

    def _ended_too_long_ago(self, now: datetime) -> tuple[Reservation, ...]:
        """Return reservations that ended too long ago, among those with the oldest places in line.

        The places in line are not in the order of the ends, but nearly: one that waited long is found later.
        """
        kept = self._policy.limits.ended_days
        if not kept:
            return ()
        limit = now - timedelta(days=kept)
        oldest = self._ports.pruning.list_oldest_ended(MOST)
        return tuple(record for record in oldest if record.ended_at is not None and record.ended_at < limit)

    def _delete(self, ended: tuple[Reservation, ...]) -> int:
        """Export the events of these reservations, and delete them; return how many there were."""
        for begin in range(0, len(ended), BATCH_SIZE):
            ids = [record.id for record in ended[begin : begin + BATCH_SIZE]]
            if self._ports.audit_log is not None:
                self._ports.audit_log.append([event for key in ids for event in self._events(Subject.reservation(key))])
            self._ports.pruning.delete_ended(ids)
        return len(ended)

    def _delete_other_events(self, now: datetime) -> int:
        """Export and delete the old events of disks, nodes and users; return how many of these had any."""
        kept = self._policy.limits.ended_days
        if not kept:
            return 0
        limit = now - timedelta(days=kept)
        subjects = self._ports.pruning.list_event_subjects(limit, MOST)
        for subject in subjects:
            if self._ports.audit_log is not None:
                self._ports.audit_log.append([event for event in self._events(subject) if event.at < limit])
            self._ports.pruning.delete_events(subject, limit)
        return len(subjects)

    def _events(self, subject: Subject) -> Iterator[AuditEvent]:
        return all_pages(partial(self._ports.history.list_events, subject))
