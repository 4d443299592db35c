"""Waiting for something that happens by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0
"""Many times what anything takes here: it only ends a test whose wait is in vain, also on a busy machine."""
PAUSE_S = 0.03
LONGEST_PAUSE_S = 0.2


def eventually(what: str, check: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of the check.

    A check that runs programs is made less often: what is waited for needs the processor too.

    Args:
        what: is waited for; for the message.
        check: asked again and again.
        deadline_s: how long, in seconds.

    Raises:
        AssertionError: it was never true.
    """
    end = time.monotonic() + deadline_s
    while True:
        began = time.monotonic()
        if value := check():
            return value
        ended = time.monotonic()
        assert ended < end, f"never happened: {what}"
        time.sleep(min(max(PAUSE_S, 2 * (ended - began)), LONGEST_PAUSE_S))


def suspend(pid: int) -> None:
    """Stop a process with SIGSTOP; when this returns, none of its threads runs.

    The kernel takes a moment to stop the threads that run on other processors, and a server could answer until then.
    """

    def stopped() -> bool:
        states = (task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat"))
        return set(states) <= {"T"}

    os.kill(pid, signal.SIGSTOP)
    eventually(f"process {pid} is stopped", stopped)
