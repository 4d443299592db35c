"""Runs tasks next to the passes, which never wait for them: one task at a time for each key.

A task ends with `Done`, with an error, or with `NotYet`: it has come to something that takes its time, such as an SSH
server that is starting. The runner has the patience, not the task: it may call the task again soon, without occupying a
thread in between, before it hands `NotYet` to a pass.

A later pass reads a task's outcome. Tasks and outcomes are in memory only: when the process dies, the next one
starts the same tasks again from the records, and every step of a task may run twice.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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


def _run(task: TaskId, call: Call) -> Outcome:
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
        self._outcomes[key] = _run(task, call)

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


@dataclass(frozen=True, slots=True)
class Patience:
    """How a runner calls tasks again that are not through.

    Attributes:
        first_s: seconds until the second call.
        factor: by which the pause grows with each call.
        longest_s: the longest pause.
        total_s: after so many seconds `NotYet` is the outcome.
    """

    first_s: float = 0.01
    factor: float = 1.5
    longest_s: float = 0.25
    total_s: float = 20.0


@dataclass(slots=True)
class _Running:
    """A task that was started; `pause_s` is the one before its next call."""

    key: str
    task: TaskId
    call: Call
    pause_s: float
    begun: float = field(default_factory=time.monotonic)


class ThreadRunner:
    """Runs tasks in threads, and calls `notify` when one ends.

    A task between two calls occupies no thread, so any number of them may wait at once.
    """

    def __init__(self, notify: Callable[[], None], threads: int = 32, patience: Patience | None = None) -> None:
        self._notify = notify
        self._patience = patience or Patience()
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="task")
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}
        self._due: list[tuple[float, int, _Running]] = []
        self._number = itertools.count()
        self._changed = threading.Condition(self._lock)
        self._ended = threading.Condition(self._lock)
        self._closed = False
        threading.Thread(target=self._call_again, name="task-timer", daemon=True).start()

    def start(self, key: str, task: TaskId, call: Call) -> None:
        """Begin the task in a thread, unless one of this key runs."""
        with self._lock:
            if key in self._busy or self._closed:
                return
            self._busy.add(key)
            self._pool.submit(self._work, _Running(key, task, call, self._patience.first_s))

    def _work(self, running: _Running) -> None:
        outcome = _run(running.task, running.call)
        with self._lock:
            now = time.monotonic()
            if outcome.not_yet is not None and now - running.begun < self._patience.total_s:
                heapq.heappush(self._due, (now + running.pause_s, next(self._number), running))
                running.pause_s = min(running.pause_s * self._patience.factor, self._patience.longest_s)
                self._changed.notify()
                return
            self._outcomes[running.key] = outcome
            self._busy.discard(running.key)
            self._ended.notify_all()
        self._notify()

    def _call_again(self) -> None:
        """Hand each task to the pool when its pause is over, until the runner is closed."""
        with self._lock:
            while not self._closed:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                self._pool.submit(self._work, heapq.heappop(self._due)[2])

    def busy(self) -> frozenset[str]:
        """Return the keys of tasks that run, or are to be called again soon. Call this before `collect`, so that every
        task is in one of them.
        """
        with self._lock:
            return frozenset(self._busy)

    def collect(self) -> Mapping[str, Outcome]:
        """Outcomes by key since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, {}
            return outcomes

    def join(self, limit: timedelta) -> bool:
        """Wait until there is an outcome, no task runs, or the limit is over; whether there is an outcome."""
        with self._lock:
            self._ended.wait_for(lambda: bool(self._outcomes) or not self._busy, limit.total_seconds())
            return bool(self._outcomes)

    def close(self) -> None:
        """Call no task any more; those that run go on and are not waited for."""
        with self._lock:
            self._closed = True
            self._changed.notify()
        self._pool.shutdown(wait=False, cancel_futures=True)
