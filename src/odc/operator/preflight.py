"""Checks that run before a cloud starts, before anything is started or created, so that refusals are fast and clear.

`odc up` runs them first, so that the operator sees the reason at once; the daemon repeats them.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odc.domain.errors import ProviderRefused
from odc.operator.backend import Backend
from odc.operator.daemon_state import running_settings
from odc.operator.host_claims import check_claim
from odc.operator.ownership import check_cluster
from odc.operator.settings import Settings

ROOM = 64 * 2**20
"""Free space that records, logs and boxes' files initially need in the state folder's file system."""


def check_before_start(settings: Settings, backend: Backend) -> None:
    """Check the state folder, the address, and the claims of the machine's other clouds.

    Raises:
        OdcError: the first failed check, with the command to type. Nothing was started.
    """
    check_claim(settings, backend.lent_gpus())
    if (last := running_settings(settings.state_folder)) is not None:
        check_unchanged(last, settings, backend)
    check_folder(settings.state_folder)
    backend.check_place()


def check_unchanged(last: Settings, settings: Settings, backend: Backend) -> None:
    """Refuse settings that must not change while there are boxes or disks.

    Args:
        last: the settings of the running daemon, or of the last one.
        settings: the new ones.
        backend: of the new ones.

    Raises:
        InvalidRequest: one has changed, with the possible commands. Nothing was changed.
    """
    check_cluster(last, settings)
    backend.check_immutable(last)


def check_folder(state: Path) -> None:
    """Create the state folder, and check that it is private and writable.

    Raises:
        ProviderRefused: it cannot be used.
    """
    with _explained(state):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if state.stat().st_mode & 0o077:
            text = f"the state folder {state} is open to users other than root, and the records are in it"
            own = ("or choose one of its own", 'state = "/…" in the settings')
            raise ProviderRefused(text, ("close it", f"sudo chmod 700 {state}"), own)
        probe = state / ".writable"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    free = shutil.disk_usage(state).free
    if free < ROOM:
        text = f"the state folder {state} has {free // 2**20} MiB free; a cloud needs {ROOM // 2**20}"
        raise ProviderRefused(text, *_other_place(state))


@contextmanager
def _explained(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            (state / ".writable").unlink(missing_ok=True)
        why = error.strerror or str(error)
        raise ProviderRefused(f"the state folder {state} cannot be used: {why}", *_other_place(state)) from error


def _other_place(state: Path) -> tuple[tuple[str, str], ...]:
    parent = next(path for path in (state, *state.parents) if path.exists())
    return ("see what is there", f"df -h {parent}"), ("or choose another place", 'state = "/…" in the settings')


def reachable_by_all(path: Path) -> Path | None:
    """Return the first folder above the path that other users may not enter; None if they may enter all."""
    for folder in reversed(path.parents):
        try:
            if not folder.stat().st_mode & 0o001:
                return folder
        except OSError:
            return folder
    return None
