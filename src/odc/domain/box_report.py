"""What a box says of itself: for people who look for a fault, and never the ground of a decision.

A box's root can write anything into its report. Whatever the backend knows by itself (whether the box runs, its GPUs,
its memory kills) is taken from there.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from odc.domain.open_enum import OpenEnum


class ServerState(OpenEnum):
    """Whether the box's SSH server runs."""

    RUNNING = "running"
    STOPPED = "stopped"


class HomeState(OpenEnum):
    """The state of the box's home."""

    READY = "ready"
    READ_ONLY = "read_only"
    MISSING = "missing"


class BoxPhase(msgspec.Struct, frozen=True):
    """A step of the box's start.

    Attributes:
        name: `setup`, or `startup` for the user's own script once it has ended.
        seconds: how long it took.
    """

    name: str
    seconds: float


class BoxReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a running box. None in a field: the box does not know it.

    Attributes:
        started_at: when its SSH server was first started.
        sshd: whether its SSH server runs.
        home: the state of its home.
        not_set_up: the steps of its setup that failed.
        keys: lines in ODC's list of keys that is in effect.
        expires_at: the end of the reservation as the box has read it.
        memory_kills: processes that the kernel killed for memory since it started, by its own count.
        phases: of its start, in order.
    """

    started_at: datetime | None = None
    sshd: ServerState
    home: HomeState
    not_set_up: tuple[str, ...] = ()
    keys: int | None = None
    expires_at: datetime | None = None
    memory_kills: int | None = None
    phases: tuple[BoxPhase, ...] = ()
