"""Reads the report of a box from its own file system, through `/proc/PID/root` of its first process.

The content is hostile: a box's root can put anything there. So no link is followed, nothing but a regular file is
opened, no more than `MOST_BYTES` is read, nothing waits, and what is not exactly a report counts as none. Nothing on
the host is written by a box: a folder of the host in which it could write would let it fill the host's disk.

Memory kills are not taken from here but from the host's cgroup and log (`memory_kills.py`), which a box cannot change:
they are counted in records. The box's own count is for clusters whose control plane cannot read the node's cgroup.

Sources: proc(5), `/proc/pid/root`; open(2), `O_PATH` and `O_NONBLOCK` (a file with a lease).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from odc.domain.box_report import BoxPhase, BoxReport, HomeState, ServerState

MOST_BYTES = 4096
"""A report has about 300."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Since 1970, up to the last that a date can express."""
Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,20}\Z")]


class _Phase(msgspec.Struct):
    name: Word
    ms: Count


class _File(msgspec.Struct):
    """The file as `odc-box` writes it; fields that a newer one adds are ignored."""

    sshd: Literal["running", "stopped"]
    home: Literal["ready", "read_only", "missing"]
    started_at: Seconds | None = None
    not_set_up: Annotated[tuple[Word, ...], msgspec.Meta(max_length=20)] = ()
    keys: Count | None = None
    expires_at: Seconds | None = None
    memory_kills: Count | None = None
    phases: Annotated[tuple[_Phase, ...], msgspec.Meta(max_length=20)] = ()


_decoder = msgspec.json.Decoder(_File)


def read_report(pid: int, uid: str, proc: Path = Path("/proc")) -> BoxReport | None:
    """Return the report of a running box; None if there is none, as of a box that an earlier version started.

    Args:
        pid: of the box's first process.
        uid: the engine's id of the box; it is part of the name of the process's cgroup.
        proc: where the kernel's process files are.

    Cost: six system calls; the file is in memory.
    """
    if pid <= 0:
        return None
    try:
        with _opened(str(proc / str(pid) / "root"), os.O_DIRECTORY) as root:
            # The number may belong to another process by now. Once the root is open it stays the same.
            if uid not in (proc / str(pid) / "cgroup").read_text():
                return None
            content = _read(root)
    except (OSError, ValueError):
        return None
    return _decoded(content)


def _read(root: int) -> bytes:
    """Return the beginning of the file below this root.

    Raises:
        OSError: it is not there, or it is not a regular file.
    """
    folder = os.O_DIRECTORY | os.O_NOFOLLOW
    with (
        _opened("run", folder, root) as run,
        _opened("odc-box", folder, run) as own,
        _opened("report", os.O_NOFOLLOW, own) as found,
    ):
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise FileNotFoundError("report")
        # Opened for reading only now that it is known to be a file: opening a device can have an effect.
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, MOST_BYTES + 1)
        finally:
            os.close(descriptor)


@contextmanager
def _opened(path: str, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open a path as a place, without opening what is there."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _decoded(content: bytes) -> BoxReport | None:
    if len(content) > MOST_BYTES:
        return None
    with suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        found = _decoder.decode(content)
        return BoxReport(
            started_at=_time(found.started_at),
            sshd=ServerState(found.sshd),
            home=HomeState(found.home),
            not_set_up=found.not_set_up,
            keys=found.keys,
            expires_at=_time(found.expires_at),
            memory_kills=found.memory_kills,
            phases=tuple(BoxPhase(phase.name, phase.ms / 1000) for phase in found.phases),
        )
    return None


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
