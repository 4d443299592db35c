"""Terminals of any kind on paper, and views with defaults."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from odc.api.messages.reservations import BoxView, PublicView, ReservationView, SnapshotView, SshView, WaitsForView
from odc.cli.output import Output
from odc.domain.status import BoxStatus, Status, WaitsFor

NOW = datetime(2026, 3, 4, 14, 4, tzinfo=UTC)
ID = "b1946ac92492d2347c6235b4d2611184"


class Paper(io.StringIO):
    """What a terminal with this encoding is sent."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def an_output(width: int | None = None, encoding: str = "utf-8", **changes: Any) -> Output:
    return Output(out=Paper(encoding), err=Paper(encoding), width=width, **changes)


def text_of(stream: Any) -> str:
    return str(stream.getvalue())


def a_box(**changes: Any) -> BoxView:
    defaults: dict[str, Any] = {
        "rank": 0,
        "name": "train-0",
        "node": "node-1",
        "state": "running",
        "gpus": ("a", "b", "c", "d"),
        "gpu_indexes": (0, 1, 2, 3),
        "cpus": 96,
        "memory_gib": 1024.0,
        "ssh": SshView(host="10.0.0.5", port=30122, user="dev", command="ssh dev@10.0.0.5 -p 30122"),
    }
    fields = defaults | changes
    return BoxView(**fields | {"state": BoxStatus(fields["state"])})


def a_view(**changes: Any) -> ReservationView:
    defaults: dict[str, Any] = {
        "id": ID,
        "name": "train",
        "owner": "octocat",
        "state": "active",
        "gpu_type": "h100",
        "gpus": 4,
        "nodes": 1,
        "hours": 8.0,
        "created_at": NOW - timedelta(minutes=1),
        "active_at": NOW,
        "expires_at": NOW + timedelta(hours=8),
        "mine": True,
        "version": 3,
        "disk": "train",
        "boxes": (a_box(),),
        "attempt": 1,
    }
    fields = defaults | changes
    return ReservationView(**fields | {"state": Status(fields["state"])})


def waits_for(user: str, mine: bool = False) -> WaitsForView:
    """A reservation of 8 x h100 that has the GPUs."""
    return WaitsForView(kind=WaitsFor.GPUS, reservation=PublicView(user=user, gpus=8, gpu_type="h100"), mine=mine)


def a_queued(**changes: Any) -> ReservationView:
    defaults: dict[str, Any] = {
        "id": "5e0d22b7" + "0" * 24,
        "name": "big",
        "state": "queued",
        "gpus": 8,
        "active_at": None,
        "expires_at": None,
        "ready_by": NOW + timedelta(minutes=38),
        "queue_position": 1,
        "waits_for": waits_for("user2"),
        "ahead": "user2, 8 x h100",
        "disk": "default",
        "boxes": (),
        "attempt": 0,
    }
    return a_view(**(defaults | changes))


def a_snapshot(**changes: Any) -> SnapshotView:
    defaults: dict[str, Any] = {
        "id": "s1",
        "taken_at": NOW - timedelta(hours=16, minutes=-37),
        "verified": True,
        "used_bytes": 12 * 2**30,
    }
    return SnapshotView(**(defaults | changes))


def an_ended(**changes: Any) -> ReservationView:
    ended = NOW - timedelta(hours=16)
    defaults: dict[str, Any] = {
        "state": "expired",
        "active_at": ended - timedelta(hours=8),
        "created_at": ended - timedelta(hours=8),
        "expires_at": ended,
        "ended_at": ended,
        "boxes": (),
        "snapshot": a_snapshot(taken_at=ended + timedelta(seconds=41)),
    }
    return a_view(**(defaults | changes))
