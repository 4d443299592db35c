"""Operations that may take minutes, such as a copy by rsync: they run in threads, and callers ask again.

Each is repeatable and finds out by itself what is done already. So nothing is lost when the process is killed, and the
outcome of an operation whose caller did not wait is kept for a short time only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 1.0
"""How long a caller waits before it is told to ask again."""
KEPT_S = 60.0
"""How long the outcome of an operation is kept for a caller who asks again."""
Result = TypeVar("Result")


class Busy(Exception):
    """Something else works on the same disk."""


class _Operation:
    """One run of an operation."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.result: object = None
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.ended_at = 0.0
        # A daemon thread: the process may end at any time, and the next one repeats the operation.
        threading.Thread(target=self._run, name="volume operation", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001  # passed on to the caller
            self.error = error
        self.ended_at = time.monotonic()
        self.ended.set()


class Background:
    """The operations of this process by key, each at most once at a time. May be used by several threads at once."""

    def __init__(self, patience_s: float) -> None:
        """Store how long callers wait, in seconds."""
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._operations: dict[tuple[str, ...], _Operation] = {}

    def run(self, key: tuple[str, ...], work: Callable[[], Result]) -> Result | None:
        """Start the operation unless it runs already, and wait for a while.

        Args:
            key: of the operation: its name, the disk, and what else distinguishes it.
            work: repeatable, and fast once it is done.

        Returns:
            Its result, or None if it has not ended or could not begin: ask again.

        Raises:
            Exception: of the operation, also if it ended after an earlier caller had stopped waiting. The next call
                starts it again.
        """
        with self._lock:
            operation = self._operations.get(key)
            if operation is None or _is_obsolete(operation):
                self._forget_outcomes(key[1])
                operation = self._operations[key] = _Operation(work)
        if not operation.ended.wait(self._patience_s):
            return None
        with self._lock:
            if self._operations.get(key) is operation:
                del self._operations[key]
        if isinstance(operation.error, Busy):
            return None
        if operation.error is not None:
            raise operation.error
        return operation.result  # type: ignore[return-value]

    def _forget_outcomes(self, disk_id: str) -> None:
        """Forget what is known of the disk: it is about to change."""
        ended = [key for key, one in self._operations.items() if key[1] == disk_id and one.ended.is_set()]
        for key in ended:
            del self._operations[key]


def _is_obsolete(operation: _Operation) -> bool:
    """Whether it ended too long ago, or did not begin."""
    if not operation.ended.is_set():
        return False
    return isinstance(operation.error, Busy) or time.monotonic() - operation.ended_at > KEPT_S
