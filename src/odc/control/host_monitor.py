"""Health checks of the host next to the passes: whether users reach their boxes, and what new boxes need.

A check is a task, so no pass and no request waits for it. It probes the SSH of a bounded number of boxes, in turn;
boxes that did not answer come first. A result is kept until the box is probed again, and is read by later passes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from odc.control.context import Ports
from odc.control.outcomes import Collected
from odc.control.sweeps import HOST, Sweeps
from odc.control.task_runner import Runner, TaskId, once
from odc.domain.box import BoxSeen
from odc.domain.host import HostReport
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_text
from odc.domain.status_documents import HostRecord

log = logging.getLogger(__name__)

TASK_KEY = "host"
INTERVAL = timedelta(seconds=4)
"""Shorter than the interval of idle passes (`pass_loop.IDLE_INTERVAL`), so that each of them starts a check."""
FOLLOW_UP_DELAY = timedelta(seconds=1)
"""The pause after a check that found a problem."""
MAX_BOXES_PER_CHECK = 32
"""Boxes that one check probes."""
STUCK_AFTER = timedelta(minutes=2)
"""A check that runs longer hangs. All its steps have timeouts, except system calls that cannot be interrupted."""
REPAIR_SHOWN_FOR = timedelta(minutes=10)
"""How long operators are shown that something was repaired."""


class HostMonitor:
    """Runs checks, and adds what they find out to the stored record of the host."""

    def __init__(self, ports: Ports, sweeps: Sweeps) -> None:
        self._ports = ports
        self._sweeps = sweeps
        self._record = HostRecord()
        self._next: tuple[str, ...] = ()
        self._started: timedelta | None = None
        self._last = -FOLLOW_UP_DELAY
        self._asked_for: frozenset[str] = frozenset()

    @property
    def record(self) -> HostRecord:
        """What is known about the host, with what this pass has learned: to be stored."""
        return self._record

    @property
    def report(self) -> HostReport:
        """Return the report of the newest checks."""
        return self._record.report

    def problems(self) -> tuple[Problem, ...]:
        """Return the current problems, then the recent repairs."""
        report = self._record.report
        missing = report.missing_image
        image = (Problem(kind=ProblemKind.IMAGE_GONE, image=missing),) if missing else ()
        return (*self._stuck(), *report.problems, *image, *(problem for problem, _ in self._record.repaired))

    def _stuck(self) -> tuple[Problem, ...]:
        """Return the problem that the running check hangs, so that nothing on the host is repaired."""
        now = self._ports.clock.since_boot()
        if self._started is None or now - self._started < STUCK_AFTER:
            return ()
        return (Problem(kind=ProblemKind.HOST_CHECK_HANGS, seconds=(now - self._started).total_seconds()),)

    def take(self, stored: HostRecord, collected: Collected) -> None:
        """Begin from the stored record, and learn from a check that has ended.

        Args:
            stored: what earlier passes have learned, of any process.
            collected: the tasks that have ended, and those that run.
        """
        now = self._ports.clock.now()
        recent = tuple((what, at) for what, at in stored.repaired if timedelta(0) <= now - at < REPAIR_SHOWN_FOR)
        # Lost files count for one pass, which starts the task that writes them. The next check comes soon.
        report = replace(stored.report, files_lost=frozenset())
        self._record = replace(stored, report=report, repaired=recent)
        if TASK_KEY not in collected.busy:
            # Also without an outcome: that of an earlier epoch of the lease is dropped.
            self._started = None
        outcome = collected.outcomes.get(TASK_KEY)
        if outcome is None:
            return
        if isinstance(outcome.value, HostReport):
            self._learn(outcome.value, now)
        elif outcome.error is not None:
            failed = Problem(kind=ProblemKind.HOST_CHECK_FAILED, detail=outcome.error.message)
            self._record = replace(self._record, report=replace(self._record.report, problems=(failed,)))

    def _learn(self, found: HostReport, now: datetime) -> None:
        before = self._record.report
        checked = found.reachable | found.unreachable.keys()
        kept = {uid: cause for uid, cause in before.unreachable.items() if uid not in checked}
        for repair in found.repaired:
            log.warning("put back on the host", extra={"reason": problem_text(repair)})
        for problem in set(found.problems) - set(before.problems):
            log.error("the host has a problem", extra={"reason": problem_text(problem)})
        repaired = dict(self._record.repaired) | dict.fromkeys(found.repaired, now)
        report = replace(
            found,
            unreachable={**kept, **found.unreachable},
            reachable=(before.reachable - checked) | found.reachable,
            repaired=(),
        )
        self._record = HostRecord(report=report, repaired=tuple(repaired.items()))
        if found.unreachable or found.repaired or found.files_lost or found.blocked:
            self._sweeps.ask(HOST, FOLLOW_UP_DELAY)

    def forget_others(self, boxes: Iterable[BoxSeen]) -> None:
        """Forget boxes that are gone, or the record would grow for ever.

        Args:
            boxes: running boxes of active reservations.
        """
        uids, report = {box.uid for box in boxes}, self._record.report
        unreachable = {uid: cause for uid, cause in report.unreachable.items() if uid in uids}
        report = replace(report, unreachable=unreachable, reachable=report.reachable & uids)
        self._record = replace(self._record, report=report)

    def start_if_due(self, runner: Runner, boxes: Iterable[BoxSeen], now: datetime | None, epoch: int) -> None:
        """Start a check, unless one runs or was done recently. A box that was never probed is probed soon.

        Args:
            runner: carries it out.
            boxes: running boxes of active reservations.
            now: None if the clock cannot be trusted.
            epoch: of the lease; what the check finds out counts only in it.
        """
        boxes = tuple(boxes)
        known = self._record.report.reachable | self._record.report.unreachable.keys()
        unknown = frozenset(box.uid for box in boxes) - known
        since_boot = self._ports.clock.since_boot()
        if unknown - self._asked_for:
            self._sweeps.ask(HOST, max(self._last + FOLLOW_UP_DELAY - since_boot, timedelta(0)))
        self._asked_for = unknown
        if TASK_KEY in runner.busy() or not self._sweeps.take(HOST, INTERVAL, now):
            return
        chosen = self._choose(boxes)
        self._started = self._last = since_boot
        runner.start(TASK_KEY, TaskId(TASK_KEY, epoch=epoch), once(lambda: self._ports.cluster.check_host(chosen)))

    def _choose(self, boxes: Iterable[BoxSeen]) -> tuple[BoxSeen, ...]:
        """The boxes of the next check: those that did not answer, then those never probed, then the others in turn."""
        by_uid = {box.uid: box for box in boxes}
        report = self._record.report
        # At most half of a check: if many boxes are unreachable, the others still get their turn.
        cut_off = [uid for uid in report.unreachable if uid in by_uid][: MAX_BOXES_PER_CHECK // 2]
        turn = [uid for uid in self._next if uid in by_uid and uid not in cut_off]
        others = list(by_uid.keys() - {*cut_off, *turn})
        # The turn is in memory only. Each process begins it with any boxes, so that processes of one pass each probe
        # every box too.
        turn += random.sample(others, len(others))
        turn.sort(key=lambda uid: uid in report.reachable)
        chosen = [*cut_off, *turn[: MAX_BOXES_PER_CHECK - len(cut_off)]]
        self._next = (*turn[MAX_BOXES_PER_CHECK - len(cut_off) :], *turn[: MAX_BOXES_PER_CHECK - len(cut_off)])
        return tuple(by_uid[uid] for uid in chosen)
