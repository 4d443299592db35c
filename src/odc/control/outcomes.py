"""Collects the state of the tasks at the beginning of a pass: outcomes that count, tasks that run or wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from odc.control.lease import PassLease
from odc.control.task_runner import Outcome, Runner
from odc.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Collected:
    """The state of the tasks at the beginning of a pass.

    Attributes:
        outcomes: by task key, the tasks that ended since the last pass.
        busy: keys of tasks that still run.
        waiting: by task key, the name and attempt of tasks that were not through and are not started again yet.
    """

    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    waiting: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class _Pause(NamedTuple):
    """A task that was not through: name and attempt, and when it is due, since boot."""

    task: tuple[str, int]
    due: timedelta


class OutcomeCollector:
    """Collects for the passes of one process. For one thread.

    The pauses after `NotYet` are in memory only: another process starts such a task at once, which only asks early.
    """

    def __init__(self, runner: Runner, lease: PassLease, clock: Clock, poll: timedelta) -> None:
        """Store the arguments.

        Args:
            runner: of the tasks.
            lease: outcomes of its earlier epochs are dropped.
            clock: measures the pauses.
            poll: the pause before a task is started again that was not through.
        """
        self._runner = runner
        self._lease = lease
        self._clock = clock
        self._poll = poll
        self._pauses: dict[str, _Pause] = {}

    def collect(self) -> Collected:
        """Return the state of the tasks; each outcome is returned once."""
        # Busy first: a task that ends in between is then both busy and done, which only delays it by a pass. The other
        # way round it would be neither, and would be started again.
        busy = self._runner.busy()
        found = self._runner.collect()
        epoch, now = self._lease.epoch, self._clock.since_boot()
        outcomes = {key: outcome for key, outcome in found.items() if outcome.task.epoch in (None, epoch)}
        self._pauses = {key: pause for key, pause in self._pauses.items() if now < pause.due and key not in outcomes}
        for key, outcome in outcomes.items():
            if outcome.not_yet is not None:
                self._pauses[key] = _Pause(outcome.task[:2], now + self._poll)
        return Collected(outcomes, busy, {key: pause.task for key, pause in self._pauses.items()})

    def due_in(self) -> timedelta | None:
        """How long until a task is to be started again; None if none waits."""
        now = self._clock.since_boot()
        return min((pause.due - now for pause in self._pauses.values()), default=None)
