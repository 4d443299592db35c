"""A reservation: a user's claim on GPUs for a bounded time, from request to end.

The spec is stored once and never changes. What changes is in the record around it, under a version number that
every write compares. State changes go through `lifecycle.py` only.

`gc=False`: a frozen record refers to nothing that could refer to it, so it is part of no cycle, and the garbage
collector need not go through the fields of thousands of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

from odc.domain.box import SSH
from odc.domain.end_text import given_up_text
from odc.domain.node import Needs
from odc.domain.resources import BoxResources
from odc.domain.status import EndCause, Status, TroubleKind

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone. A stored one without is refused when the record is read: it could not be compared."""


class State(StrEnum):
    """Where a reservation is in its life cycle, which is `lifecycle.TRANSITIONS`.

    Attributes:
        QUEUED: It waits for its slot. It holds its place in line and its disk.
        PREPARING: It has GPUs, and its boxes are being made.
        ACTIVE: Its owner can log in, until its time is over.
        ENDING: Its boxes are being removed, which frees the GPUs, and then its disk is being saved.
        ENDED: Nothing of it is left but its record and its disk.
    """

    QUEUED = "queued"
    PREPARING = "preparing"
    ACTIVE = "active"
    ENDING = "ending"
    ENDED = "ended"


_PLACED_STATES = (State.PREPARING, State.ACTIVE)
LIVE_STATES = frozenset(state for state in State if state is not State.ENDED)


class EndReason(StrEnum):
    """Why a reservation ended, in the words that users read."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Spec(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The request of a reservation.

    Attributes:
        gpu_type: the pool.
        gpus: GPUs of each box; 0 for a type without GPUs.
        units: units of its node that each box occupies: its GPUs, or 1 for a type without GPUs.
        nodes: boxes; more than 1 is a gang of whole nodes.
        hours: how long it stays active.
        disk: name of the disk as asked; None for a temporary home.
        image: the image of the box, as the cluster names it; empty for the cloud's own.
        needs: what it needs of its nodes.
    """

    gpu_type: str
    gpus: int
    units: int
    nodes: int = 1
    hours: float
    disk: str | None
    image: str = ""
    needs: Needs = Needs()

    @property
    def length(self) -> timedelta:
        """How long the reservation stays active."""
        return timedelta(hours=self.hours)


class SlotRecord(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The planned start and nodes of a queued reservation. An estimate is not a promise."""

    start: Instant
    nodes: tuple[str, ...]
    estimate: bool = False


class Place(msgspec.Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """The place of one box of the current attempt, and what the box got there.

    Attributes:
        node: the node's name.
        gpus: identities of the GPUs that the box holds; empty for a type without GPUs, and where they are unknown.
        resources: CPU and memory of the box, as of its placement; None in records of 0.1.0.
        uid: the backend's id of the box, once it is made.
        address: where its ports are reached.
        ports: its published ports, once it is made. Key: name, value: the port at `address`.
        simulated: whether its GPUs are simulated.
        id_base: first host id of its range; the same for all boxes of a gang, which share a home. 0: the range that all
            boxes of the cloud share.
        first_version_port: the port of its SSH in a record of 0.1.0; otherwise 0. It becomes a part of `ports`.
    """

    node: str
    gpus: tuple[str, ...] = ()
    resources: BoxResources | None = None
    uid: str = ""
    address: str = ""
    ports: Mapping[str, int] = {}
    simulated: bool = False
    id_base: int = 0
    first_version_port: int = msgspec.field(default=0, name="ssh_port")

    def __post_init__(self) -> None:
        """Take over the SSH port of a record of 0.1.0."""
        if self.first_version_port:
            msgspec.structs.force_setattr(self, "ports", {SSH: self.first_version_port, **self.ports})
            msgspec.structs.force_setattr(self, "first_version_port", 0)


class Phase(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One step of getting ready or of ending, and how long it took."""

    name: str
    seconds: float
    detail: str = ""


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """The phase that a reservation is in now, if it takes long enough to be recorded.

    Attributes:
        name: of the phase.
        detail: what it waits for, in words.
        since: when it began.
    """

    name: str
    detail: str = ""
    since: Instant


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The passing fault that this reservation has now. The delay before the next try grows with the count."""

    kind: TroubleKind = TroubleKind.OTHER
    message: str
    count: int
    since: Instant
    next_try: Instant


class OutOfMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that the kernel killed in a reservation's boxes because they were out of memory.

    Attributes:
        kills: processes, over all starts and attempts.
        last_at: when the last one was.
        command: its name; empty if the kernel did not report it.
        stopped: whether the last kill stopped the box, so that it was started again.
        noted_at: when this was last written.
        counted: for each box in rank order, the start of the box and how many of its kills are in `kills`.
    """

    kills: int = 0
    last_at: Instant | None = None
    command: str = ""
    stopped: bool = False
    noted_at: Instant | None = None
    counted: tuple[tuple[str, int], ...] = ()


class HostKey(msgspec.Struct, frozen=True, kw_only=True):
    """The SSH host key of a reservation's boxes, in OpenSSH's formats. The private half never leaves the server."""

    private: str
    public: str


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of a reservation: a record of its own, which only tasks read.

    It has no version: it is written with the reservation, whose version covers it, and deleted with it.

    Attributes:
        reservation_id: of which reservation.
        host_key: private half of the host key of its boxes.
    """

    reservation_id: str
    host_key: str


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """How far a start came that was given up.

    Attributes:
        phase: whose limit was over; empty for the limit of the whole start, or if no limit was over.
        limit_s: that limit, in seconds; 0 if none was over.
        last_attempt: the number of the attempt if it was the last; 0 if another one follows. Attempts that another
            program's port ended are not counted.
    """

    phase: str = ""
    limit_s: float = 0
    last_attempt: int = 0


class Reservation(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One reservation's record.

    Attributes:
        id: 32 hexadecimal digits.
        version: as read from the store; 0 for one that is not stored yet.
        order: its place in line, given by the store when it is first written; smaller is earlier.
        owner: principal that the transport proved.
        user: the owner's name, as people read it.
        name: unique among the owner's reservations that still hold their name.
        spec: the request.
        state: where it is in its life.
        attempt: the number of the current or last try at starting; 0 before the first.
        disk_id: the disk that it holds or waits for.
        host_key: public half of the SSH host key of its boxes; stored as `public_host_key`, since version 0.1.0 stored
            both halves as `host_key`.
        slot: of the current attempt, once it is placed. While it is queued, its slot is in the pool's plan; here is
            only an estimate that its owner was told, or the slot of version 0.1.0.
        ready_by: the promise: SSH answers by then at the latest. None while there is only an estimate.
        postponements: how often a fault moved the promise later.
        places: the boxes of the current attempt, in rank order.
        phases: of the current attempt, then of the end, in order.
        under_way: the phase that it is in now, if that takes longer than a moment.
        fault: the passing fault that is being retried.
        missing_since: when a list first lacked its box.
        unreachable: why users cannot reach its box now; empty if they can, as far as is known.
        uncounted: attempts that ended before anything was tried, because other programs had the ports.
        owner_keys: digest of its owner's keys, `User.keys_digest`; written together with a change of the keys, so that
            no pass reads users. Empty in records of earlier versions until their boxes' files are written again.
        applied_config: digest of the configuration that its boxes have: expiry time, the owner's keys, the operator's
            settings; empty if nothing is applied yet. Stored as `told`, its name in version 0.1.0.
        ended_why: set when it is asked to end; None before that, and if it is to be queued again.
        end_cause: why it ends or was requeued; None otherwise, and in records of 0.1.0.
        ended_by: the operator who asked for the end; empty if it was the owner or ODC itself.
        end_detail: the details in words, for a failure or a requeue; in records of 0.1.0 a whole sentence.
        given_up: the limits that a start was given up by; None for every other end, and in records of 0.1.0.
        requeue: after ENDING it is queued again.
        boxes_gone: ENDING: the containers are confirmed gone, so the GPUs are free.
        out_of_memory: processes in its boxes that the kernel killed for memory.
    """

    id: str
    version: int = 0
    order: int = 0
    owner: str
    user: str
    name: str
    spec: Spec
    state: State = State.QUEUED
    attempt: int = 0
    disk_id: str | None = None
    host_key: str = msgspec.field(name="public_host_key")
    slot: SlotRecord | None = None
    ready_by: Instant | None = None
    postponements: int = 0
    places: tuple[Place, ...] = ()
    phases: tuple[Phase, ...] = ()
    under_way: UnderWay | None = None
    fault: Fault | None = None
    missing_since: Instant | None = None
    unreachable: str = ""
    uncounted: int = 0
    owner_keys: str = ""
    applied_config: str = msgspec.field(default="", name="told")
    created_at: Instant
    placed_at: Instant | None = None
    active_at: Instant | None = None
    expires_at: Instant | None = None
    ending_at: Instant | None = None
    ended_at: Instant | None = None
    ended_why: EndReason | None = None
    end_cause: EndCause | None = None
    ended_by: str = ""
    end_detail: str = ""
    given_up: GivenUp | None = None
    requeue: bool = False
    boxes_gone: bool = False
    out_of_memory: OutOfMemory = OutOfMemory()

    @property
    def end_text(self) -> str:
        """Why it ended or was requeued, in words; empty if it was not, or if its cause says everything."""
        gone = self.given_up
        if gone is None:
            return self.end_detail
        return given_up_text(self.end_detail, gone.phase, gone.limit_s, gone.last_attempt)

    @property
    def live(self) -> bool:
        """Whether it has not ended, so that passes process it."""
        return self.state is not State.ENDED

    @property
    def holds_name(self) -> bool:
        """Whether its name is taken for its owner: until it is on its way to the end for good."""
        return self.live and not (self.state is State.ENDING and not self.requeue)

    @property
    def occupies(self) -> bool:
        """Whether its GPUs are taken."""
        return self.state in _PLACED_STATES or (
            self.state is State.ENDING and not self.boxes_gone and bool(self.places)
        )

    @property
    def status(self) -> Status:
        """The word that users read: the state, and for an ended one its reason."""
        if self.state is State.ENDED and self.ended_why is not None:
            return Status(self.ended_why)
        return Status(self.state)
