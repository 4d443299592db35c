"""Reservations with their boxes, and their history."""

from __future__ import annotations

from datetime import datetime

import msgspec

from odc.domain.box_report import HomeState, ServerState
from odc.domain.event_kind import EventKind
from odc.domain.status import BoxStatus, EndCause, Status, TroubleKind, WaitsFor


class SshView(msgspec.Struct, frozen=True, kw_only=True):
    """How SSH reaches a box.

    Attributes:
        host: where it listens, as clients reach it.
        port: of the box alone.
        user: to log in as.
        command: the whole `ssh` command.
    """

    host: str
    port: int
    user: str
    command: str


class BoxPhaseView(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the start inside the box.

    Attributes:
        name: `setup`, or `startup` for the user's own script once it has ended.
        seconds: how long it took.
    """

    name: str
    seconds: float


class BoxReportView(msgspec.Struct, frozen=True, kw_only=True):
    """What a running box says of itself. Whoever is root in the box can change it.

    Attributes:
        sshd: whether its SSH server runs.
        home: the state of its home.
        not_set_up: the steps of its setup that failed.
        started_at: when its SSH server was first started; None if the box does not know it.
        keys: how many of ODC's keys are in effect; None if the box does not know it.
        expires_at: the end as the box has read it; None if the box does not know it.
        phases: of its start, in order.
    """

    sshd: ServerState
    home: HomeState
    not_set_up: tuple[str, ...] = ()
    started_at: datetime | None = None
    keys: int | None = None
    expires_at: datetime | None = None
    phases: tuple[BoxPhaseView, ...] = ()


class BoxView(msgspec.Struct, frozen=True, kw_only=True):
    """One box.

    Attributes:
        rank: its place in the gang, from 0.
        name: `<reservation>-<rank>`.
        node: where it is.
        state: as far as the server knows it; `unreachable` also if only users cannot reach it.
        gpus: identities of its GPUs, in the node's order.
        gpu_indexes: their places on the node, in the same order.
        cpus: what `nproc` prints.
        memory_gib: what `free` shows, rounded down to a tenth.
        ssh: None until the box is made, and for others' reservations.
        ports: where it is reached. Key: what for, such as `ssh` or `jupyter`; value: the port at the host of `ssh`.
        layer_used_bytes: bytes that it has written outside the home; None if unknown.
        layer_bytes: bytes that it may write there; None if there is no limit.
        report: what it says of itself; None if that is unknown, as while it does not run.
    """

    rank: int
    name: str
    node: str
    state: BoxStatus
    gpus: tuple[str, ...] = ()
    gpu_indexes: tuple[int, ...] = ()
    cpus: int = 0
    memory_gib: float = 0.0
    ssh: SshView | None = None
    ports: dict[str, int] = {}
    layer_used_bytes: int | None = None
    layer_bytes: int | None = None
    report: BoxReportView | None = None


class PhaseView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of getting ready or of ending, done or (`seconds` is None) under way.

    Attributes:
        name: `disk`, `box`, `ssh`, and at the end `stop`, `detach`, `snapshot`, `listing`.
        seconds: how long it took; None while it runs.
        detail: its result, in words; while it runs, what it waits for.
        since: when it began, while it runs.
    """

    name: str
    seconds: float | None
    detail: str = ""
    since: datetime | None = None


class OutOfMemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that the kernel killed in the boxes because they were out of memory.

    Attributes:
        kills: processes, since the reservation began.
        last_at: when the last one was.
        command: its name; empty if the kernel did not report it.
        stopped: whether the last kill stopped the box, so that it was started again.
    """

    kills: int
    last_at: datetime | None
    command: str = ""
    stopped: bool = False


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """A disk's snapshot.

    Attributes:
        id: its name in the storage.
        taken_at: when.
        verified: it was read back and is complete.
        used_bytes: size of its files.
    """

    id: str
    taken_at: datetime
    verified: bool
    used_bytes: int


class PublicView(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a reservation that users who wait for it can see.

    Attributes:
        user: its owner's name.
        gpus: GPUs of the whole reservation; 0 for a type without GPUs.
        gpu_type: the type.
    """

    user: str
    gpus: int
    gpu_type: str


class WaitsForView(msgspec.Struct, frozen=True, kw_only=True):
    """What a queued reservation waits for.

    Attributes:
        kind: the snapshot of its own disk, the reservation before it in the queue, or the end of one that has the GPUs.
        reservation: which one; None for a disk.
        mine: that one has the same owner.
        disk: name of the disk; empty if it does not wait for one.
    """

    kind: WaitsFor
    reservation: PublicView | None = None
    mine: bool = False
    disk: str = ""


class GivenUpView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a start came that was given up.

    Attributes:
        phase: whose limit was over; empty for the limit of the whole start, or if no limit was over.
        limit_s: that limit, in seconds; 0 if none was over.
        last_attempt: the number of the attempt if it was the last; 0 if another one follows.
    """

    phase: str = ""
    limit_s: float = 0
    last_attempt: int = 0


class ReservationView(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation as its owner sees it. Of others' only the public fields are filled (those before `mine`).

    Attributes:
        id: 32 hexadecimal digits.
        name: as the owner calls it.
        owner: the owner's name.
        state: where it is in its life; once it has ended, how it ended.
        gpu_type: the type.
        gpus: GPUs of the whole reservation.
        nodes: number of boxes.
        hours: how long it stays active.
        created_at: when it was asked for.
        active_at: when SSH first answered.
        expires_at: when it ends.
        ended_at: when it had ended and was cleaned up.
        ready_by: the promise; None if there is only an estimate, or none is needed any more.
        estimate: when it may start, while only nodes that do not exist yet could serve it.
        queue_position: place in its pool's queue, from 1; None when it is not queued.
        simulated: its GPUs are simulated.
        mine: whether the caller owns it.
        version: increases with every change; `?wait=` compares it.
        cause: why it ended, or why it goes back to the queue; None while all is well.
        ended_by: the operator who ended it; empty if it ended otherwise.
        reason: the cause with its details, for people; empty while all is well.
        detail: what failed last, without what `given_up` says; empty if that is not known.
        given_up: the limits by which a start was given up; None for any other cause.
        waits_for: what it waits for; None when it is not queued, or waits for no other reservation.
        ahead: the same for people: `user, 8 x h100`.
        disk: name of its disk; None for a temporary home.
        disk_new: whether its disk has no snapshot yet.
        snapshot: the disk's last snapshot; of an ended reservation its own, None if that is not kept any more.
        boxes: in rank order.
        phases: of getting ready, then of ending.
        trouble_kind: the current problem with it or with access to its box; None if there is none.
        trouble: the same with its details, for people; empty when there is none.
        attempt: the number of the current try at starting.
        requeue: it is ending in order to be queued again.
        host_key: public SSH host key of its boxes.
        out_of_memory: processes in its boxes that the kernel killed for memory; None if there are none.
    """

    id: str
    name: str
    owner: str
    state: Status
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
    cause: EndCause | None = None
    ended_by: str = ""
    reason: str = ""
    detail: str = ""
    given_up: GivenUpView | None = None
    waits_for: WaitsForView | None = None
    ahead: str = ""
    disk: str | None = None
    disk_new: bool = False
    snapshot: SnapshotView | None = None
    boxes: tuple[BoxView, ...] = ()
    phases: tuple[PhaseView, ...] = ()
    trouble_kind: TroubleKind | None = None
    trouble: str = ""
    attempt: int = 0
    requeue: bool = False
    host_key: str = ""
    out_of_memory: OutOfMemoryView | None = None


class ReservationList(msgspec.Struct, frozen=True, kw_only=True):
    """Reservations, by place in line; `now` is the server's clock.

    Attributes:
        now: the server's clock.
        reservations: by place in line.
    """

    now: datetime
    reservations: tuple[ReservationView, ...]


class ReservationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list of reservations.

    Attributes:
        now: the server's clock.
        reservations: in the list's order.
        next: the `page` of the next part; empty if this is the last one.
        ended_read: how many ended reservations were read for this part, including those that do not match.
    """

    now: datetime
    reservations: tuple[ReservationView, ...]
    next: str = ""
    ended_read: int = 0


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a reservation: time, actor, kind, and a sentence.

    `when` is a time that the sentence is about, to be shown after it.

    Attributes:
        at: when it happened.
        actor: who did it: a user, or `odc`.
        kind: what happened, as a word that scripts can compare.
        text: what happened, as a sentence.
        when: the time that the sentence is about, such as a promise; None if there is none.
    """

    at: datetime
    actor: str
    kind: EventKind
    text: str
    when: datetime | None = None


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The story of a reservation, oldest first.

    Attributes:
        id: of the reservation.
        name: as its owner calls it.
        events: oldest first.
    """

    id: str
    name: str
    events: tuple[EventView, ...]
