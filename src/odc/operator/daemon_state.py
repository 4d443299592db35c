"""The daemon that serves a state folder: its lock, and the settings that it runs with.

The lock is the truth: the kernel frees it however the process ends. That the settings in the file next to it are in
effect is only true while the lock is held.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from odc.domain.commands import odc
from odc.domain.errors import ProviderRefused
from odc.host import is_locked, locked, write_atomically
from odc.operator.settings import Settings

PATIENCE_S = 1.0
"""Whoever asks who holds the lock takes it for a moment: a start must not fail for that."""


@contextlib.contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the cloud's lock.

    Raises:
        ProviderRefused: another process holds it: a daemon, or a restore of the records. Nothing was changed.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = state / "daemon.lock"
    with contextlib.ExitStack() as held:
        try:
            descriptor = held.enter_context(locked(lock, PATIENCE_S))
        except BlockingIOError as error:
            who = f"process {pid}" if (pid := _noted(lock)) else "another process"
            raise ProviderRefused(f"{who} serves {state} already", ("stop it", odc("down"))) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


def _noted(lock: Path) -> int:
    text = lock.read_text().strip()
    return int(text) if text.isdigit() else 0


def daemon_pid(state: Path) -> int | None:
    """The process that holds the cloud's lock; 0 if it has not noted itself yet; None if nobody holds it."""
    lock = state / "daemon.lock"
    return _noted(lock) if is_locked(lock) else None


@contextlib.contextmanager
def noted(settings: Settings) -> Iterator[None]:
    """Write down what the daemon runs with; only root may read it. If what is done inside fails, the note of before is
    there again: these settings never were in effect."""
    path = _settings_file(settings.state_folder)
    before = running_settings(settings.state_folder)
    _write(path, settings)
    try:
        yield
    except BaseException:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            _write(path, before)
        raise


def note_nodes(state: Path, names: Mapping[str, str]) -> None:
    """Write down what the machine's nodes are called, by GPU type; those that are known keep their names."""
    known = known_nodes(state)
    if names.items() - known.items():
        _write(_nodes_file(state), known | dict(names))


def known_nodes(state: Path) -> dict[str, str]:
    """What the machine's nodes are called, by GPU type; nothing if nobody knows."""
    return _read(_nodes_file(state))


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write(path: Path, what: object) -> None:
    write_atomically(path, msgspec.json.encode(what))


def running_settings(state: Path) -> Settings | None:
    """What the daemon of this state folder runs with, or ran with last; None if nobody knows."""
    try:
        return msgspec.json.decode(_settings_file(state).read_bytes(), type=Settings)
    except (OSError, msgspec.MsgspecError):
        return None


def _settings_file(state: Path) -> Path:
    return state / "running.json"


def _nodes_file(state: Path) -> Path:
    return state / "nodes.json"
