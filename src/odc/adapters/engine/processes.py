"""Programs that serve boxes and outlive the process that started them: the engine's service, lxcfs."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from odc.host import PidFile, poll_until


def start_detached(command: Sequence[str], log_file: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a program in its own session, so that signals to the caller's process group do not reach it.

    Args:
        command: the program and its arguments.
        log_file: its output is appended there.
        environment: None for the caller's.

    Returns:
        Its process id.
    """
    reap()
    with log_file.open("ab") as output:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Not `/`: the engine's monitor of a box leaves a file `oom` in it when the box runs out of memory.
            cwd=log_file.parent,
            start_new_session=True,
        )
    with _lock:
        _children.append(child)
    return child.pid


def is_running(pid: int) -> bool:
    """Whether the program that this process started has not ended yet."""
    reap()
    with _lock:
        return any(child.pid == pid for child in _children)


def end_process(noted: PidFile, limit_s: float) -> None:
    """Ask a program to end, kill it when the time is over, and wait for its end. It need not run.

    Args:
        noted: where its process id was written down.
        limit_s: seconds that it has.
    """

    def has_ended() -> bool:
        reap()
        return noted.running() is None

    noted.signal(signal.SIGTERM)
    while not poll_until(has_ended, limit_s):
        noted.signal(signal.SIGKILL)


def reap() -> None:
    """Forget the programs that have ended, so that they do not stay as zombies of a long-lived daemon."""
    with _lock:
        _children[:] = [child for child in _children if child.poll() is None]


_lock = threading.Lock()
_children: list[subprocess.Popen[bytes]] = []
"""Started by this process. Kept, because Python takes a forgotten child for a mistake."""
