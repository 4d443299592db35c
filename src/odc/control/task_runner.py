"""What runs tasks next to the passes, which never wait for them: one task at a time for each key. The daemon uses
`odc.adapters.system.thread_runner`.

A task ends with `Done`, with an error, or with `NotYet`: it has come to something that takes its time, such as an SSH
server that is starting. The runner has the patience, not the task: it may call the task again soon, without occupying a
thread in between, before it hands `NotYet` to a pass.

A later pass reads a task's outcome. Tasks and outcomes are in memory only: when the process dies, the next one
starts the same tasks again from the records, and every step of a task may run twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from odc.domain.errors import OdcError, ProviderUnavailable
from odc.domain.reservation import Phase, UnderWay

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """A task is through, with this value."""

    value: object = None


@dataclass(frozen=True, slots=True)
class NotYet:
    """A task has done what it can do now, and should be called again. This is not a fault.

    Attributes:
        under_way: the phase that takes its time, and what it waits for.
        finished: the phases before it that are not in the record yet.
    """

    under_way: UnderWay
    finished: tuple[Phase, ...] = ()


Call = Callable[[], Done | NotYet]
"""A task. It may be called again after it has returned `NotYet`."""


def once(work: Callable[[], object]) -> Call:
    """A task that one call finishes; its value is what the function returns."""
    return lambda: Done(work())


class TaskId(NamedTuple):
    """What a task is, to be compared with what its record waits for when the outcome arrives.

    Attributes:
        name: the kind of task.
        attempt: of the reservation; 0 for a task without one.
        epoch: of the lease under which it was started; None: the outcome counts under every lease.
    """

    name: str
    attempt: int = 0
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task has ended.

    Attributes:
        task: which one.
        value: what it returned; None unless it is through.
        error: why it failed; None if it did not.
        not_yet: what it waits for; None unless it should be called again.
    """

    task: TaskId
    value: object = None
    error: OdcError | None = None
    not_yet: NotYet | None = None


class Runner(Protocol):
    """Starts tasks and hands out their outcomes, each once."""

    def start(self, key: str, task: TaskId, call: Call) -> None:
        """Begin the task, unless one of this key runs."""

    def busy(self) -> frozenset[str]:
        """Keys of tasks that run now, and of those that are to be called again soon."""

    def collect(self) -> Mapping[str, Outcome]:
        """Outcomes by key since the last call."""

    def join(self, limit: timedelta) -> bool:
        """Wait until there is an outcome to collect; False if no task runs, or the limit is over, and there is none."""


def run_task(task: TaskId, call: Call) -> Outcome:
    """Call the task once; its outcome, also if it fails unexpectedly. For runners."""
    try:
        ended = call()
    except OdcError as error:
        return Outcome(task=task, error=error)
    except Exception as error:
        # A bug in one task must not stop the others; it is shown on its reservation and tried again.
        log.exception("task failed unexpectedly", extra={"task": task.name})
        fault = ProviderUnavailable(f"unexpected: {type(error).__name__}: {error}")
        return Outcome(task=task, error=fault)
    return Outcome(task=task, not_yet=ended) if isinstance(ended, NotYet) else Outcome(task=task, value=ended.value)


class InlineRunner:
    """Runs each task at once, in the caller's thread and without patience: for tests and for one pass by hand."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}

    def start(self, key: str, task: TaskId, call: Call) -> None:
        """Call the task once."""
        self._outcomes[key] = run_task(task, call)

    def busy(self) -> frozenset[str]:
        """Return no keys: nothing runs between calls."""
        return frozenset()

    def collect(self) -> Mapping[str, Outcome]:
        """Outcomes by key since the last call."""
        outcomes, self._outcomes = self._outcomes, {}
        return outcomes

    def join(self, limit: timedelta) -> bool:
        """Whether there is an outcome; nothing runs between calls."""
        return bool(self._outcomes)
