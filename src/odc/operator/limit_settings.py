"""The tables `[limits]` and `[snapshots]` of the operator's settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec

from odc.control.context import Policy
from odc.domain.limits import Limits
from odc.domain.storage import Retention
from odc.operator.settings_rules import number, setting

_LIMITS, _POLICY, _RETENTION = Limits(), Policy(), Retention()
"""Where the defaults are that the control plane has too."""


def _seconds(length: timedelta) -> float:
    """Return the seconds as in the settings file: without a fraction if it is whole."""
    seconds = length.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits per user and per step."""

    live_per_user: Annotated[
        int, setting("reservations of one user that are not ended, queued ones included.", 4, number(1))
    ] = _LIMITS.live_per_user
    gpus_per_user: Annotated[
        int, setting("GPUs of all live reservations of one user; 0 means no limit.", 8, number(0))
    ] = _LIMITS.gpus_per_user
    disks_per_user: Annotated[int, setting("disks of one user.", 20, number(1))] = _LIMITS.disks_per_user
    ended_per_user: Annotated[
        int,
        setting(
            "ended reservations of one user that are kept with their history; older ones are deleted.", 5000, number(10)
        ),
    ] = _LIMITS.ended_per_user
    ended_days: Annotated[
        float,
        setting(
            "days for which ended reservations with their history, and events of disks, nodes and users are kept; "
            "0 means no limit.",
            365,
            number(0),
        ),
    ] = _LIMITS.ended_days
    prepare_s: Annotated[
        float, setting("seconds from a slot's start until SSH answers; part of every promise.", 300, number(1))
    ] = _seconds(_LIMITS.prepare)
    disk_s: Annotated[
        float, setting("seconds that the disk may take at a start, at most `prepare_s`.", 300, number(1))
    ] = _seconds(_LIMITS.disk)
    box_s: Annotated[
        float, setting("seconds that making the boxes may take at a start, at most `prepare_s`.", 60, number(1))
    ] = _seconds(_LIMITS.box)
    node_s: Annotated[
        float,
        setting(
            "seconds that a started box may wait for its node, at most `prepare_s`; on one machine it never waits.",
            600,
            number(1),
        ),
    ] = _seconds(_LIMITS.node)
    image_s: Annotated[
        float,
        setting(
            "seconds that a started box may wait for its image, at most `prepare_s`; on one machine it never waits.",
            300,
            number(1),
        ),
    ] = _seconds(_LIMITS.image)
    ssh_s: Annotated[
        float, setting("seconds until the SSH server of a started box answers, at most `prepare_s`.", 60, number(1))
    ] = _seconds(_LIMITS.ssh)
    stop_s: Annotated[
        float, setting("seconds from the end until the GPUs are free; part of every slot.", 180, number(1))
    ] = _seconds(_LIMITS.stop)
    snapshot_s: Annotated[
        float,
        setting(
            "seconds that each step of making a disk safe may take at the end, before a problem is shown.",
            7200,
            number(1),
        ),
    ] = _seconds(_LIMITS.snapshot)
    attempts: Annotated[int, setting("tries at starting a reservation before it fails.", 5, number(1))] = (
        _LIMITS.attempts
    )
    grace_s: Annotated[float, setting("seconds that a box's processes have to end.", 60, number(0))] = _seconds(
        _POLICY.grace
    )
    missing_s: Annotated[
        float, setting("seconds that a box must be missing before its reservation fails.", 60, number(0))
    ] = _seconds(_POLICY.missing)

    def as_limits(self) -> Limits:
        """Return the limits as the control plane reads them."""
        return Limits(
            live_per_user=self.live_per_user,
            gpus_per_user=self.gpus_per_user,
            disks_per_user=self.disks_per_user,
            ended_per_user=self.ended_per_user,
            ended_days=self.ended_days,
            prepare=timedelta(seconds=self.prepare_s),
            disk=timedelta(seconds=self.disk_s),
            box=timedelta(seconds=self.box_s),
            node=timedelta(seconds=self.node_s),
            image=timedelta(seconds=self.image_s),
            ssh=timedelta(seconds=self.ssh_s),
            stop=timedelta(seconds=self.stop_s),
            snapshot=timedelta(seconds=self.snapshot_s),
            attempts=self.attempts,
        )


class SnapshotSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which snapshots of disks are kept. The newest verified snapshot of a disk is always kept."""

    keep: Annotated[int, setting("snapshots of each disk.", 14, number(1))] = _RETENTION.keep
    days: Annotated[float, setting("how many days a snapshot is kept; 0 means no limit.", 60, number(0))] = (
        _RETENTION.days
    )
    percent: Annotated[
        float,
        setting(
            "what the older snapshots of a disk may take, in percent of its size; 0 means no limit.", 200, number(0)
        ),
    ] = _RETENTION.percent
    free_percent: Annotated[
        float,
        setting(
            "how much of the disk storage is to stay free: with less, older snapshots are deleted although "
            "the limits above would keep them, first those of the user who takes most; with less than a "
            "third of it, no new disk is made.",
            10,
            number(0, 90),
        ),
    ] = _RETENTION.free_percent
