"""Records with defaults: a test names only the fields it is about."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime
from typing import Any

from odc.domain.box import BoxName, BoxSeen, BoxState
from odc.domain.disk import Disk, Snapshot, SnapshotRecord
from odc.domain.event_kind import EventKind
from odc.domain.node import Node
from odc.domain.records import AuditEvent, RequestRecord
from odc.domain.reservation import Place, Reservation, Secrets, Spec, State
from odc.domain.resources import Capacity
from odc.domain.user import User

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPjN5Xh8mYv1b4uJx3m2o9c0p7q6r5s4t3u2v1w0x9y8 octocat"
_numbers = itertools.count(1)


def an_id() -> str:
    return uuid.uuid4().hex


def a_spec(**changes: Any) -> Spec:
    return Spec(**{"gpu_type": "h100", "gpus": 1, "units": 1, "hours": 1.0, "disk": None, **changes})


def a_reservation(**changes: Any) -> Reservation:
    defaults: dict[str, Any] = {
        "id": an_id(),
        "owner": "unix:1000",
        "user": "octocat",
        "name": f"r{next(_numbers)}",
        "spec": a_spec(),
        "host_key": "ssh-ed25519 AAAA",
        "created_at": NOW,
    }
    return Reservation(**(defaults | changes))


def a_secret(record: Reservation) -> Secrets:
    return Secrets(reservation_id=record.id, host_key="private\n")


def a_placed(node: str = "node-1", **changes: Any) -> Reservation:
    """A reservation that is preparing on one node."""
    places = (Place(node=node, gpus=("gpu-0",), ports={"ssh": 30000}, uid=""),)
    return a_reservation(**{"state": State.PREPARING, "attempt": 1, "placed_at": NOW, "places": places, **changes})


def a_disk(**changes: Any) -> Disk:
    defaults: dict[str, Any] = {
        "id": an_id(),
        "owner": "unix:1000",
        "name": f"d{next(_numbers)}",
        "size_bytes": 2**30,
        "created_at": NOW,
    }
    return Disk(**(defaults | changes))


def a_snapshot(disk_id: str, number: int = 1, **changes: Any) -> SnapshotRecord:
    """The record of a verified snapshot."""
    defaults: dict[str, Any] = {"id": f"{an_id()}-1", "taken_at": NOW, "verified_at": NOW, "used_bytes": 2**20}
    return SnapshotRecord(disk_id=disk_id, number=number, snapshot=Snapshot(**(defaults | changes)))


def a_user(**changes: Any) -> User:
    return User(**{"principal": "unix:1000", "name": "octocat", "own_keys": (KEY,), **changes})


def a_node(name: str = "node-1", units: int = 8, **changes: Any) -> Node:
    capacity = Capacity(cpu_millis=64_000, memory_bytes=512 * 2**30)
    defaults: dict[str, Any] = {
        "name": name,
        "gpu_type": "h100",
        "gpus": tuple(f"{name}-gpu-{index}" for index in range(units)),
        "units": units,
        "capacity": capacity,
        "allocatable": capacity,
        "simulated": True,
    }
    return Node(**(defaults | changes))


def a_box(name: BoxName, **changes: Any) -> BoxSeen:
    defaults: dict[str, Any] = {"uid": an_id(), "node": "node-1", "gpu_type": "h100", "state": BoxState.RUNNING}
    return BoxSeen(name=name, **(defaults | changes))


def an_event(reservation_id: str, **changes: Any) -> AuditEvent:
    defaults: dict[str, Any] = {"at": NOW, "actor": "odc", "kind": EventKind.PLACED, "text": "placed"}
    return AuditEvent(subject_id=reservation_id, **(defaults | changes))


def a_request(**changes: Any) -> RequestRecord:
    defaults: dict[str, Any] = {
        "id": an_id(),
        "principal": "unix:1000",
        "kind": "Reserve",
        "digest": "d",
        "received_at": NOW,
        "status": 200,
        "answer": b"{}",
    }
    return RequestRecord(**(defaults | changes))
