"""How much one may ask for. Every rule is checked on the server; the CLI checks the same to answer sooner."""

from __future__ import annotations

import math
from datetime import timedelta

import msgspec

from odc.domain.box import StartPhase
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, LimitExceeded

MIN_HOURS = 0.0833
MAX_HOURS = 24.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for one user, and time limits of the steps of a reservation.

    Attributes:
        live_per_user: reservations that are not ended, queued ones included.
        gpus_per_user: GPUs of all live reservations together, but for those that are ending; 0 means no limit.
        disks_per_user: disks; a temporary home is not one.
        ended_per_user: ended reservations that are kept with their history; older ones are deleted.
        ended_days: how long an ended reservation is kept with its history, and an event of a disk, a node or a user; 0:
            without limit.
        prepare: from the slot's start until SSH answers, all phases together; part of every promise.
        disk: the phase in which the disk is attached to its node.
        box: the phase in which the boxes are made and started.
        node: the phase in which started boxes wait for their nodes; see `StartPhase`.
        image: the phase in which started boxes wait for their image.
        ssh: the phase in which the boxes' SSH servers start.
        stop: from the end until the GPUs are free; part of every slot.
        snapshot: each phase in which the disk is made safe: it is detached, copied, listed.
        attempts: tries at starting a reservation before it fails.
    """

    live_per_user: int = 10
    gpus_per_user: int = 0
    disks_per_user: int = 50
    ended_per_user: int = 1000
    ended_days: float = 90
    prepare: timedelta = timedelta(minutes=3)
    disk: timedelta = timedelta(minutes=2)
    box: timedelta = timedelta(minutes=2)
    node: timedelta = timedelta(minutes=2)
    image: timedelta = timedelta(minutes=2)
    ssh: timedelta = timedelta(minutes=2)
    stop: timedelta = timedelta(minutes=2)
    snapshot: timedelta = timedelta(hours=1)
    attempts: int = 3

    def of_phase(self, name: str) -> timedelta | None:
        """Return how long the phase of this name may take; None if nothing limits it."""
        if name in ("detach", "snapshot", "listing"):
            return self.snapshot
        limits = {
            "disk": self.disk,
            "box": self.box,
            StartPhase.NODE: self.node,
            StartPhase.IMAGE: self.image,
            "ssh": self.ssh,
            "stop": self.stop,
        }
        return limits.get(name)


def check_hours(hours: object) -> float:
    """Return the hours if they are allowed: a number from 0.0833 (5 minutes) to 24.

    Raises:
        InvalidRequest: not a number, not finite, or out of range.
    """
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not math.isfinite(hours):
        raise InvalidRequest(f"hours must be a number from {MIN_HOURS} to {MAX_HOURS:g}, not {str(hours)[:20]!r}")
    if not MIN_HOURS <= hours <= MAX_HOURS:
        raise InvalidRequest(f"hours must be from {MIN_HOURS} (5 minutes) to {MAX_HOURS:g}, not {hours:g}")
    return float(hours)


def hours_text(hours: float) -> str:
    """`8 h`, `1.5 h`, `30 min`."""
    return f"{round(hours * 60)} min" if hours < 1 else f"{hours:g} h"


def check_user_limits(limits: Limits, live: int, gpus_held: int, gpus_wanted: int) -> None:
    """Raise if one more reservation would exceed the user's limits.

    Args:
        limits: the operator's.
        live: the user's reservations that are not ended.
        gpus_held: the GPUs of those, without the ones that are ending.
        gpus_wanted: of the new one.

    Raises:
        LimitExceeded: with the limit, the usage, and what would free some.
    """
    free_one = ("end one", gpu_dev("cancel"))
    if live >= limits.live_per_user:
        raise LimitExceeded(f"you have {live} reservations, the limit for one user is {limits.live_per_user}", free_one)
    if limits.gpus_per_user and gpus_held + gpus_wanted > limits.gpus_per_user:
        raise LimitExceeded(
            f"you hold {gpus_held} GPUs and ask for {gpus_wanted} more; the limit for one user is "
            f"{limits.gpus_per_user}",
            free_one,
        )
