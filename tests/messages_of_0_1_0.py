"""The answers as the client of version 0.1.0 decodes them: its `odc.api.messages`, without their documentation."""

from __future__ import annotations

from datetime import datetime

import msgspec


class HintView(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    command: str


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str
    hint: str = ""
    hints: tuple[HintView, ...] = ()


class SshView(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    user: str
    command: str


class BoxView(msgspec.Struct, frozen=True, kw_only=True):
    rank: int
    name: str
    node: str
    state: str
    gpus: tuple[str, ...] = ()
    gpu_indexes: tuple[int, ...] = ()
    cpus: int = 0
    memory_gib: float = 0.0
    ssh: SshView | None = None


class PhaseView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    seconds: float | None
    detail: str = ""


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    taken_at: datetime
    verified: bool
    used_bytes: int


class ReservationView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    owner: str
    state: str
    gpu_type: str
    gpus: int
    nodes: int
    hours: float
    created_at: datetime
    active_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    ready_by: datetime | None = None
    estimate: datetime | None = None
    queue_position: int | None = None
    simulated: bool = False
    mine: bool = False
    version: int = 0
    reason: str = ""
    ahead: str = ""
    disk: str | None = None
    disk_new: bool = False
    snapshot: SnapshotView | None = None
    boxes: tuple[BoxView, ...] = ()
    phases: tuple[PhaseView, ...] = ()
    trouble: str = ""
    attempt: int = 0
    requeue: bool = False
    host_key: str = ""


class ReservationList(msgspec.Struct, frozen=True, kw_only=True):
    now: datetime
    reservations: tuple[ReservationView, ...]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    actor: str
    kind: str
    text: str
    when: datetime | None = None


class History(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    events: tuple[EventView, ...]


class ChoiceView(msgspec.Struct, frozen=True, kw_only=True):
    gpus: int
    start: datetime | None
    until: datetime | None = None


class TypeView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    has_gpus: bool
    free: int
    total: int
    cordoned: int
    live: int
    queued: int
    waiting: str
    simulated: bool
    node_units: int
    choices: tuple[ChoiceView, ...]


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    now: datetime
    types: tuple[TypeView, ...]


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    gpu_type: str
    total: int
    free: int
    ready: bool
    cordoned: bool
    simulated: bool
    boxes: int


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    now: datetime
    types: tuple[TypeView, ...]
    nodes: tuple[NodeView, ...]
    quarantined: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    size_bytes: int
    used_bytes: int | None
    created_at: datetime
    holder: str | None = None
    holder_id: str | None = None
    snapshot: SnapshotView | None = None
    fault: str = ""


class DiskList(msgspec.Struct, frozen=True, kw_only=True):
    disks: tuple[DiskView, ...]


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    fingerprint: str
    kind: str
    comment: str
    source: str


class Me(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    principal: str
    admin: bool
    github_user: str
    github_fault: str
    keys: tuple[KeyView, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    ready: bool
    version: str
    cloud: str
    types: dict[str, int]
    simulated: bool
    storage: str
    engine: str
    problems: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True, kw_only=True):
    message: str
