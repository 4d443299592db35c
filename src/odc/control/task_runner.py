"""Runs tasks next to the passes, which never wait for them: one task at a time for each key.

A later pass reads a task's outcome. Tasks and outcomes are in memory only: when the process dies, the next one
starts the same tasks again from the records, and every step of a task may run twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from odc.domain.errors import OdcError, ProviderUnavailable

log = logging.getLogger(__name__)

Call = Callable[[], object]


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
    """The result of a task.

    Attributes:
        task: which one.
        value: what it returned; None if it failed.
        error: why it failed; None if it did not.
    """

    task: TaskId
    value: object = None
    error: OdcError | None = None


class Runner(Protocol):
    """Starts tasks and hands out their outcomes, each once."""

    def start(self, key: str, task: TaskId, call: Call) -> None:
        """Begin the task, unless one of this key runs."""

    def busy(self) -> frozenset[str]:
        """Keys of tasks that run now."""

    def collect(self) -> Mapping[str, Outcome]:
        """Outcomes by key since the last call."""


def _run(task: TaskId, call: Call) -> Outcome:
    try:
        return Outcome(task=task, value=call())
    except OdcError as error:
        return Outcome(task=task, error=error)
    except Exception as error:
        # A bug in one task must not stop the others; it is shown on its reservation and tried again.
        log.exception("task failed unexpectedly", extra={"task": task.name})
        fault = ProviderUnavailable(f"unexpected: {type(error).__name__}: {error}")
        return Outcome(task=task, error=fault)


class InlineRunner:
    """Runs each task at once, in the caller's thread: for tests and for one pass by hand."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}

    def start(self, key: str, task: TaskId, call: Call) -> None:
        """Run the task to its end."""
        self._outcomes[key] = _run(task, call)

    def busy(self) -> frozenset[str]:
        """Return no keys: nothing runs between calls."""
        return frozenset()

    def collect(self) -> Mapping[str, Outcome]:
        """Outcomes by key since the last call."""
        outcomes, self._outcomes = self._outcomes, {}
        return outcomes


class ThreadRunner:
    """Runs tasks in threads, and calls `notify` when one ends."""

    def __init__(self, notify: Callable[[], None], threads: int = 32) -> None:
        self._notify = notify
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="task")
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}

    def start(self, key: str, task: TaskId, call: Call) -> None:
        """Begin the task in a thread, unless one of this key runs."""
        with self._lock:
            if key in self._busy:
                return
            self._busy.add(key)
        self._pool.submit(self._work, key, task, call)

    def _work(self, key: str, task: TaskId, call: Call) -> None:
        outcome = _run(task, call)
        with self._lock:
            self._outcomes[key] = outcome
            self._busy.discard(key)
        self._notify()

    def busy(self) -> frozenset[str]:
        """Return the keys of tasks that run now. Call this before `collect`, so that every task is in one of them."""
        with self._lock:
            return frozenset(self._busy)

    def collect(self) -> Mapping[str, Outcome]:
        """Outcomes by key since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, {}
            return outcomes

    def close(self) -> None:
        """Take no more tasks; those that run go on and are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
