"""A box: one container of a reservation on one node. Its specification, and its state in a list.

Everything made for an attempt is named `<reservation id>-<attempt>…`, so that every step may run twice and an old
attempt's clean-up cannot hit a new one. A deletion names the backend's own uid too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from odc.domain.box_report import BoxReport
from odc.domain.resources import BoxResources

SSH = "ssh"
JUPYTER = "jupyter"
BOX_PORTS: Mapping[str, int] = MappingProxyType({SSH: 8887, JUPYTER: 8888})
"""The ports of a box that can be reached from outside. Key: name, value: the port inside the box. They are consecutive,
so that an engine can publish them as one range. The box's SSH server listens at port 22 too.
"""
HOME = "/home/dev"
"""Where a box has its home."""


class BoxState(StrEnum):
    """The state of a box as the backend reports it."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNREACHABLE = "unreachable"


class StartPhase(StrEnum):
    """What a started box may have to wait for; the phase of the reservation's start has this name."""

    NODE = "node"
    """Its node is being added to the cluster, or is starting."""
    IMAGE = "image"
    """Its node is fetching the image."""


class StartWait(NamedTuple):
    """A box was started and does not run yet.

    Attributes:
        phase: what it waits for.
        detail: the same in words, for users.
    """

    phase: StartPhase
    detail: str


class BoxName(msgspec.Struct, frozen=True, order=True):
    """Which box: of which reservation, which attempt, and its rank in the gang, from 0."""

    reservation_id: str
    attempt: int
    rank: int = 0

    def __str__(self) -> str:
        return f"{self.reservation_id}-{self.attempt}-{self.rank}"


def attempts_named(names: Iterable[str]) -> set[tuple[str, str]]:
    """Reservation and attempt of things that are named after boxes.

    Args:
        names: each begins as the name of a box does.
    """
    parts = (name.rsplit("-", 2) for name in names)
    return {(part[0], part[1]) for part in parts}


def is_up_to(name: str, reservation_id: str, attempt: int) -> bool:
    """Whether a thing that is named after a box belongs to this reservation, and to this attempt or an earlier one."""
    number = name.removeprefix(f"{reservation_id}-").partition("-")[0]
    return name.startswith(f"{reservation_id}-") and number.isdecimal() and int(number) <= attempt


class BoxMount(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that a box sees.

    Attributes:
        target: the folder in the box.
        handle: of the attached volume, as `Volumes.attach` returns it.
        read_only: whether the box may not write to it.
        is_new: no box has used it yet, so that it may be empty.
    """

    target: str
    handle: str
    read_only: bool = False
    is_new: bool = False


class BoxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The specification from which a box is made.

    Attributes:
        name: which box.
        node: where.
        image: as the backend names it.
        hostname: the host name inside the box.
        gpus: identities of the node's GPUs; only these appear in the box. Empty for a type without GPUs, and for a node
            whose cluster chooses by itself.
        gpu_type: for the labels, which show the occupied pool even if the record is lost.
        units: number of the node's units that it occupies.
        resources: CPU, memory, shared memory.
        ports: those that it publishes. Key: name, value: the port inside the box. The cluster chooses the outer ones.
        kept_ports: name to the outer port that an earlier box of this name had. Where it can, the cluster gives the
            same ones.
        mounts: its volumes; without one at `HOME`, its home is temporary.
        files: the files under `/run/odc`; key: path below it, value: content.
        id_base: first host id of the box's range; 0: the range that all boxes of the cloud share.
    """

    name: BoxName
    node: str
    image: str
    hostname: str
    gpus: tuple[str, ...]
    gpu_type: str
    units: int
    resources: BoxResources
    ports: Mapping[str, int] = BOX_PORTS
    kept_ports: Mapping[str, int] = {}
    mounts: tuple[BoxMount, ...] = ()
    files: Mapping[str, bytes]
    id_base: int = 0


class MemoryKills(msgspec.Struct, frozen=True, kw_only=True):
    """How often the kernel killed processes of a box because it was out of memory, since the box's last start.

    Attributes:
        life: which start; another one counts from 0 again.
        count: processes killed.
        last_at: when the last one was, if the kernel said it.
        command: name of the last one, if the kernel said it.
    """

    life: str
    count: int
    last_at: datetime | None = None
    command: str = ""


class BoxSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A box of this cloud, as it was made, or as a list shows it.

    Attributes:
        name: which box, from its labels.
        uid: the backend's own id; another box of the same name has another.
        container: its name in the backend's own tools.
        delete_command: what an operator types to delete it by the backend's own tools; empty if there is no such
            command.
        node: where it is.
        gpu_type: the pool that it occupies.
        gpus: identities of the GPUs that it holds; empty for types without GPUs, and where they are unknown.
        units: how many of the node's units it holds.
        state: as reported by the backend.
        exit_code: of an exited box.
        message: its problem, in the words of the backend or the box; empty if there is none.
        address: where its ports are reached; empty if unknown.
        ports: its published ports. Key: name, value: the port at `address`.
        id_base: first host id of its range; 0: the range that all boxes of the cloud share.
        replaces: why an earlier box of this name ended for good, where the cluster says it; empty otherwise.
        memory_kills: its processes that the kernel killed for memory; None if that is unknown.
        layer_used_bytes: bytes that it has written outside its home; 0 if unknown.
        layer_bytes: bytes that it may write there; 0 if there is no limit.
        report: what it says of itself while it runs; None if that is unknown. Never the ground of a decision.
    """

    name: BoxName
    uid: str
    container: str = ""
    delete_command: str = ""
    node: str
    gpu_type: str = ""
    gpus: tuple[str, ...] = ()
    units: int = 0
    state: BoxState
    exit_code: int | None = None
    message: str = ""
    address: str = ""
    ports: Mapping[str, int] = {}
    id_base: int = 0
    replaces: str = ""
    memory_kills: MemoryKills | None = None
    layer_used_bytes: int = 0
    layer_bytes: int = 0
    report: BoxReport | None = None
