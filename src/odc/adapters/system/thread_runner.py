"""Runs tasks in threads, and calls those again that are not through. See `odc.control.task_runner`."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from odc.control.task_runner import Call, Outcome, TaskId, run_task


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
        outcome = run_task(running.task, running.call)
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
