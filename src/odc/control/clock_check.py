"""Whether the wall clock can be trusted to end reservations.

Rule: a wall clock that disagrees with the time since boot freezes timed ends until the operator
accepts it. Both clocks are noted together once; from then on they must advance alike. After a boot only a clock that
went backwards is surely wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from odc.domain.problem import Problem, ProblemKind
from odc.domain.records import ClockAnchor
from odc.ports.clock import Clock
from odc.ports.leases import Leases

TOLERANCE = timedelta(seconds=30)
ANCHOR_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ClockVerdict:
    """Whether timed ends are frozen, and the problem that freezes them; None if they are not."""

    problem: Problem | None = None

    @property
    def frozen(self) -> bool:
        """Whether timed ends are frozen."""
        return self.problem is not None


def anchor_now(clock: Clock) -> ClockAnchor:
    """Return the current time on both clocks."""
    return ClockAnchor(boot_id=clock.boot_id(), wall=clock.now(), since_boot=clock.since_boot())


def judge(anchor: ClockAnchor, now: ClockAnchor) -> ClockVerdict:
    """Compare the current time with a recorded anchor."""
    if now.boot_id == anchor.boot_id:
        drift = (now.wall - anchor.wall) - (now.since_boot - anchor.since_boot)
    else:
        drift = min(now.wall - anchor.wall, timedelta(0))
    if abs(drift) <= TOLERANCE:
        return ClockVerdict()
    return ClockVerdict(Problem(kind=ProblemKind.CLOCK_JUMPED, seconds=drift.total_seconds()))


class ClockCheck:
    """Keeps the noted moment: in memory, and in the store so that a jump during a restart is seen."""

    def __init__(self, leases: Leases, clock: Clock) -> None:
        self._leases = leases
        self._clock = clock
        self._anchor: ClockAnchor | None = None

    def verdict(self) -> ClockVerdict:
        """Judge the clock now, and renew the anchor from time to time while it is good."""
        now = anchor_now(self._clock)
        stored = self._anchor or self._leases.swap_clock_anchor(None)
        if stored is None:
            self._note(now)
            return ClockVerdict()
        result = judge(stored, now)
        if result.frozen:
            # The operator's acceptance arrives through the store, maybe from another process.
            self._anchor = None
            return result
        self._anchor = stored
        if now.boot_id != stored.boot_id or now.since_boot - stored.since_boot >= ANCHOR_INTERVAL:
            self._note(now)
        return result

    def _note(self, anchor: ClockAnchor) -> None:
        self._leases.swap_clock_anchor(anchor)
        self._anchor = anchor
