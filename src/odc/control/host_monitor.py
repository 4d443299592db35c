"""Health checks of the host next to the passes: whether users reach their boxes, and what new boxes need.

A check is a task, so no pass and no request waits for it. It probes the SSH of a bounded number of boxes, in turn;
boxes that did not answer come first. A result is kept until the box is probed again, and is read by later passes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta

from msgspec.structs import replace

from odc.control.context import Ports
from odc.control.task_runner import Outcome, Runner, TaskId, once
from odc.domain.box import BoxSeen
from odc.domain.errors import PlaceTaken
from odc.domain.host import HostReport
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_text

log = logging.getLogger(__name__)

TASK_KEY = "host"
INTERVAL = timedelta(seconds=4)
"""Shorter than the interval of idle passes (`reconcile.IDLE_INTERVAL`), so that each of them starts a check."""
FOLLOW_UP_DELAY = timedelta(seconds=1)
"""The pause after a check that found a problem."""
MAX_BOXES_PER_CHECK = 32
"""Boxes that one check probes."""
STUCK_AFTER = timedelta(minutes=2)
"""A check that runs longer hangs. All its steps have timeouts, except system calls that cannot be interrupted."""
REPAIR_SHOWN_FOR = timedelta(minutes=10)
"""How long operators are shown that something was repaired."""


class HostMonitor:
    """Keeps the newest results about the host between passes."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._report = HostReport()
        self._taken: frozenset[int] = frozenset()
        self._repaired: dict[Problem, timedelta] = {}
        self._next: tuple[str, ...] = ()
        self._due = timedelta(0)
        self._started: timedelta | None = None

    @property
    def report(self) -> HostReport:
        """Return the report of the newest checks."""
        return self._report

    @property
    def taken_ports(self) -> frozenset[int]:
        """SSH ports that other programs had when they were last tried or checked. Each check tests them again."""
        return self._taken

    def problems(self) -> tuple[Problem, ...]:
        """Return the current problems, then the recent repairs."""
        now = self._ports.clock.since_boot()
        self._repaired = {what: at for what, at in self._repaired.items() if now - at < REPAIR_SHOWN_FOR}
        missing = self._report.missing_image
        image = (Problem(kind=ProblemKind.IMAGE_GONE, image=missing),) if missing else ()
        return (*self._stuck(now), *self._report.problems, *image, *self._repaired)

    def _stuck(self, now: timedelta) -> tuple[Problem, ...]:
        """Return the problem that the running check hangs, so that nothing on the host is repaired."""
        if self._started is None or now - self._started < STUCK_AFTER:
            return ()
        return (Problem(kind=ProblemKind.HOST_CHECK_HANGS, seconds=(now - self._started).total_seconds()),)

    def take(self, outcomes: Mapping[str, Outcome]) -> None:
        """Learn from tasks that have ended: a check, or boxes whose ports were taken."""
        for ended in outcomes.values():
            # A task has tried the port: that is newer than any check.
            if isinstance(ended.error, PlaceTaken):
                self._taken |= ended.error.ports
        outcome = outcomes.get(TASK_KEY)
        if outcome is None:
            return
        self._started = None
        if isinstance(outcome.value, HostReport):
            self._learn(outcome.value)
        elif outcome.error is not None:
            failed = Problem(kind=ProblemKind.HOST_CHECK_FAILED, detail=outcome.error.message)
            self._report = replace(self._report, problems=(failed,))

    def _learn(self, found: HostReport) -> None:
        checked = found.reachable | found.unreachable.keys()
        kept = {uid: cause for uid, cause in self._report.unreachable.items() if uid not in checked}
        for repair in found.repaired:
            log.warning("put back on the host", extra={"reason": problem_text(repair)})
            self._repaired[repair] = self._ports.clock.since_boot()
        for problem in set(found.problems) - set(self._report.problems):
            log.error("the host has a problem", extra={"reason": problem_text(problem)})
        self._taken = found.taken_ports
        self._report = replace(
            found,
            unreachable={**kept, **found.unreachable},
            reachable=(self._report.reachable - checked) | found.reachable,
        )
        if found.unreachable or found.repaired or found.blocked:
            self._due = self._ports.clock.since_boot() + FOLLOW_UP_DELAY

    def start_if_due(self, runner: Runner, boxes: Iterable[BoxSeen]) -> None:
        """Start a check, unless one runs or was done recently. A box that was never probed is probed soon.

        Args:
            runner: carries it out.
            boxes: running boxes of active reservations.
        """
        boxes = tuple(boxes)
        known = self._report.reachable | self._report.unreachable.keys()
        is_new = any(box.uid not in known for box in boxes)
        early = INTERVAL - FOLLOW_UP_DELAY if is_new else timedelta(0)
        if self._ports.clock.since_boot() < self._due - early or TASK_KEY in runner.busy():
            return
        chosen, suspects = self._choose(boxes), self._taken
        self._started = self._ports.clock.since_boot()
        self._due = self._started + INTERVAL
        runner.start(TASK_KEY, TaskId(TASK_KEY), once(lambda: self._ports.cluster.check_host(chosen, suspects)))

    def _choose(self, boxes: Iterable[BoxSeen]) -> tuple[BoxSeen, ...]:
        """The boxes of the next check: those that did not answer, then the others in turn."""
        by_uid = {box.uid: box for box in boxes}
        # At most half of a check: if many boxes are unreachable, the others still get their turn.
        cut_off = [uid for uid in self._report.unreachable if uid in by_uid][: MAX_BOXES_PER_CHECK // 2]
        turn = [uid for uid in self._next if uid in by_uid and uid not in cut_off]
        turn += [uid for uid in by_uid if uid not in cut_off and uid not in turn]
        chosen = [*cut_off, *turn[: MAX_BOXES_PER_CHECK - len(cut_off)]]
        self._next = (*turn[MAX_BOXES_PER_CHECK - len(cut_off) :], *turn[: MAX_BOXES_PER_CHECK - len(cut_off)])
        # Forget boxes that are gone, or the report would grow for ever.
        self._report = replace(
            self._report,
            unreachable={uid: cause for uid, cause in self._report.unreachable.items() if uid in by_uid},
            reachable=self._report.reachable & by_uid.keys(),
        )
        return tuple(by_uid[uid] for uid in chosen)
