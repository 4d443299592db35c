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
"""A query of the holder takes the lock for a moment: a start must not fail because of that."""


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
    """Return the id of the process that holds the cloud's lock; 0 if it has not written it yet; None if the lock is
    free.
    """
    lock = state / "daemon.lock"
    return _noted(lock) if is_locked(lock) else None


@contextlib.contextmanager
def noted(settings: Settings) -> Iterator[None]:
    """Record the daemon's settings in a file that only root may read. If the block fails the previous file is restored:
    these settings never were in effect.
    """
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
    """Record the names of the machine's nodes, by GPU type; known nodes keep their names."""
    known = known_nodes(state)
    if names.items() - known.items():
        _write(_nodes_file(state), known | dict(names))


def known_nodes(state: Path) -> dict[str, str]:
    """Return the names of the machine's nodes, by GPU type; empty if none are recorded."""
    return _read(_nodes_file(state))


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write(path: Path, what: object) -> None:
    write_atomically(path, msgspec.json.encode(what))


def running_settings(state: Path) -> Settings | None:
    """Return the settings of this state folder's running or last daemon; None if none are recorded."""
    try:
        return msgspec.json.decode(_settings_file(state).read_bytes(), type=Settings)
    except (OSError, msgspec.MsgspecError):
        return None


def _settings_file(state: Path) -> Path:
    return state / "running.json"


def _nodes_file(state: Path) -> Path:
    return state / "nodes.json"
