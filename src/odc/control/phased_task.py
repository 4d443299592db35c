"""A task as a list of steps. It can be left at a step that is not through, and taken up again.

No step waits. A step that is not through says what it waits for, and the task ends with `NotYet`. A runner with
patience calls the task again soon; otherwise a later pass starts it again, perhaps in another process. A task that is
called again goes on with the step that was not through. A task that is started again begins with the first step: so
each step does nothing if it is done already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from odc.control.task_runner import Done, NotYet
from odc.domain.errors import ProviderError
from odc.domain.reservation import Phase, Reservation, UnderWay
from odc.ports.clock import Clock


class TaskStep(NamedTuple):
    """One step of a task.

    Attributes:
        name: of the phase, as users read it; empty for a step that is not a phase of its own.
        work: does what is missing; returns what it waits for, or an empty text if the step is through.
        detail: gives its result in words, once it is through.
        optional: it is a phase only if it is not through at once.
    """

    name: str
    work: Callable[[], str]
    detail: Callable[[], str] = str
    optional: bool = False


class PhasedTask:
    """A task for a reservation; see the module. Called by one thread at a time."""

    def __init__(
        self,
        record: Reservation,
        clock: Clock,
        steps: Sequence[TaskStep],
        result: Callable[[tuple[Phase, ...]], object] | None = None,
    ) -> None:
        """Begin with the first step.

        Args:
            record: the reservation as it was when the task was started: says which phases are done and since when one
                is under way.
            clock: measures the phases.
            steps: in order.
            result: makes the value of `Done` from the phases that are not in the record yet; None: there is no value.
        """
        self._record = record
        self._clock = clock
        self._left = list(steps)
        self._result = result
        self._under_way: UnderWay | None = None
        self._phases: list[Phase] = []

    def __call__(self) -> Done | NotYet:
        """Go on with the first step that is not through.

        Raises:
            Superseded: the record has moved on.
            ProviderError: with the name of the phase in which it happened.
        """
        while self._left:
            step = self._left[0]
            under_way = self._begun(step)
            waits_for = _do(step)
            if waits_for:
                self._under_way = UnderWay(name=under_way.name, detail=waits_for, since=under_way.since)
                return NotYet(self._under_way, tuple(self._phases))
            self._finish(step, under_way)
            del self._left[0]
        return Done(self._result(tuple(self._phases)) if self._result else None)

    def _begun(self, step: TaskStep) -> UnderWay:
        """The step's phase: since now, unless it was under way already, also in an earlier run of the task."""
        for known in (self._under_way, self._record.under_way):
            if known is not None and known.name == step.name:
                return known
        return UnderWay(name=step.name, since=self._clock.now())

    def _finish(self, step: TaskStep, under_way: UnderWay) -> None:
        # A phase that an earlier run of the task has recorded took no time in this one.
        if not step.name or any(phase.name == step.name for phase in self._record.phases):
            return
        if step.optional and under_way not in (self._under_way, self._record.under_way):
            return
        # The wall clock may have been set back.
        seconds = max((self._clock.now() - under_way.since).total_seconds(), 0.0)
        self._phases.append(Phase(name=step.name, seconds=round(seconds, 3), detail=step.detail()))


def _do(step: TaskStep) -> str:
    """Do the step; a provider's error is prefixed with the phase."""
    try:
        return step.work()
    except ProviderError as error:
        if not step.name:
            raise
        raise type(error)(f"{step.name}: {error.message}", *error.hints) from error
