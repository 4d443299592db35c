"""What goes over the wire: one envelope for every request, and the views that answer.

`--json` prints these views, so a field that stands here stays. Times are RFC 3339, UTC. Decoding is strict: an
unknown field or kind is refused by name. The requests themselves are `odc.domain.requests`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from odc.domain.event_kind import EventKind
from odc.domain.open_enum import OpenEnum
from odc.domain.requests import Request
from odc.domain.status import BoxStatus, EndCause, Status, WaitsFor

WAIT_LIMIT_S = 30.0


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with the idempotency id that the client made: 32 hexadecimal digits. A repeat acts once."""

    id: str
    request: Request


class HintView(msgspec.Struct, frozen=True, kw_only=True):
    """One way on: a few words, and the command to paste.

    Attributes:
        label: what it is for.
        command: what to type.
    """

    label: str
    command: str


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error.

    Attributes:
        error: the error's class, such as `NotFound`.
        message: what, and which id.
        hint: the first thing to do next, as a command; empty if there is none.
        hints: everything that can be done next.
    """

    error: str
    message: str
    hint: str = ""
    hints: tuple[HintView, ...] = ()


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
        ssh: None until the box is placed, and for others' reservations.
        layer_used_bytes: what it has written outside the home; None if unknown.
        layer_bytes: what it may write there; None if there is no limit.
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
    layer_used_bytes: int | None = None
    layer_bytes: int | None = None


class PhaseView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of getting ready or of ending, done or (`seconds` is None) under way.

    Attributes:
        name: `disk`, `box`, `ssh`, and at the end `detach`, `snapshot`, `listing`.
        seconds: how long it took; None while it runs.
        detail: what it found, in words.
    """

    name: str
    seconds: float | None
    detail: str = ""


class OutOfMemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel killed in the boxes because they were out of memory.

    Attributes:
        kills: processes, since the reservation began.
        last_at: when the last one was.
        command: its name; empty if the kernel did not say it.
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
        verified: it was read back and is whole.
        used_bytes: what the files took then.
    """

    id: str
    taken_at: datetime
    verified: bool
    used_bytes: int


class PublicView(msgspec.Struct, frozen=True, kw_only=True):
    """What everybody may see of a reservation that others wait for.

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
        ended_at: when nothing was left of it.
        ready_by: the promise; None if there is only an estimate, or none is needed any more.
        estimate: when it may start, while only nodes that do not exist yet could serve it.
        queue_position: place in its pool's queue, from 1; None when it is not queued.
        simulated: its GPUs are pretended.
        mine: whether the caller owns it.
        version: goes up with every change; what `?wait=` compares.
        cause: why it ended, or why it goes back to the queue; None while all is well.
        ended_by: the operator who ended it; empty if nobody or its owner did.
        reason: the cause with its details, for people; empty while all is well.
        waits_for: what it waits for; None when it is not queued, or waits for no other reservation.
        ahead: the same for people: `user, 8 x h100`.
        disk: name of its disk; None for a temporary home.
        disk_new: whether its disk has no snapshot yet.
        snapshot: the disk's last snapshot; of an ended reservation its own, None if that is not kept any more.
        boxes: in rank order.
        phases: of getting ready, then of ending.
        trouble: the passing fault that is being retried now; empty when there is none.
        attempt: the number of the current try at starting.
        requeue: it is ending only to be queued again.
        host_key: public SSH host key of its boxes.
        out_of_memory: what the kernel killed in its boxes for memory; None if nothing.
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
    waits_for: WaitsForView | None = None
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
    out_of_memory: OutOfMemoryView | None = None


class ReservationList(msgspec.Struct, frozen=True, kw_only=True):
    """Reservations, by place in line; `now` is the server's clock.

    Attributes:
        now: the server's clock.
        reservations: by place in line.
    """

    now: datetime
    reservations: tuple[ReservationView, ...]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened: when, who did it, what kind, and the sentence.

    `when` is a time that the sentence is about, to be shown behind it.

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


class ChoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """When a count of GPUs could be had.

    Attributes:
        gpus: on one node; 0 for a type without GPUs.
        start: when SSH would answer at the latest; equal to the answer's `now` for at once; None if it never fits.
        until: a reservation that starts then may last until here at most; None if there is no end in sight.
    """

    gpus: int
    start: datetime | None
    until: datetime | None = None


class TypeView(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU type of the cloud.

    Attributes:
        name: the type.
        has_gpus: False for a type whose boxes take units instead.
        free: GPUs (or units) that can be had now.
        total: GPUs (or units) of all its nodes.
        cordoned: of them, those on nodes that take nothing new.
        live: reservations that hold some.
        queued: reservations that wait.
        first_queued: the first in line; None if nobody waits.
        waiting: the same for people: `user, 8 x h100`.
        simulated: its GPUs are pretended.
        node_units: GPUs (or units) of its largest node.
        choices: for 1, 2, 4, 8, … up to a node's GPUs.
    """

    name: str
    has_gpus: bool
    free: int
    total: int
    cordoned: int
    live: int
    queued: int
    first_queued: PublicView | None = None
    waiting: str
    simulated: bool
    node_units: int
    choices: tuple[ChoiceView, ...]


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """What could be had, by type, from the same plan that gives the promises.

    Attributes:
        now: the server's clock.
        types: in the catalog's order.
    """

    now: datetime
    types: tuple[TypeView, ...]


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node.

    Attributes:
        name: of the node.
        gpu_type: its type.
        total: GPUs, or units of a type without GPUs.
        free: of them, now.
        ready: it answers.
        cordoned: nothing new starts there.
        simulated: its GPUs are pretended.
        boxes: that run there.
        held_by_others: GPUs that something other than this cloud uses; they are not lent.
    """

    name: str
    gpu_type: str
    total: int
    free: int
    ready: bool
    cordoned: bool
    simulated: bool
    boxes: int
    held_by_others: int = 0


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud as a whole.

    Attributes:
        now: the server's clock.
        types: every type that has nodes or live reservations.
        nodes: every node by name.
        quarantined: boxes without a record, as sentences; they are counted as occupied and left alone.
        warnings: what the operator should know, as sentences.
    """

    now: datetime
    types: tuple[TypeView, ...]
    nodes: tuple[NodeView, ...]
    quarantined: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    """One of the caller's disks.

    Attributes:
        name: as the owner calls it.
        size_bytes: what it may hold.
        used_bytes: what its files took when they were counted last; None if unknown.
        history_bytes: what only its snapshots take; None if unknown.
        created_at: when it was first asked for.
        holder: name of the reservation that has it, None when it is free.
        holder_id: its id.
        snapshot: the last one.
        fault: what is wrong with it; empty when nothing is.
    """

    name: str
    size_bytes: int
    used_bytes: int | None
    history_bytes: int | None = None
    created_at: datetime
    holder: str | None = None
    holder_id: str | None = None
    snapshot: SnapshotView | None = None
    fault: str = ""


class DiskList(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's disks, by name.

    Attributes:
        disks: by name.
    """

    disks: tuple[DiskView, ...]


class KeySource(OpenEnum):
    """Where a public key comes from."""

    GITHUB = "GitHub"
    OWN = "own"


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A public key that opens the caller's boxes.

    Attributes:
        fingerprint: as `ssh-keygen -l` prints it.
        kind: such as `ssh-ed25519`.
        comment: of the key.
        source: where it comes from.
        key: its kind and base64 part, without the comment.
    """

    fingerprint: str
    kind: str
    comment: str
    source: KeySource
    key: str = ""


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is, as the server sees it.

    Attributes:
        user: the name that people read.
        principal: the id that the transport proves.
        admin: an operator of the cloud.
        github_user: whose keys are used; empty for none.
        github_fault: why GitHub's keys could not be refreshed; the last good ones are used.
        keys: every key that opens the caller's boxes.
    """

    user: str
    principal: str
    admin: bool
    github_user: str
    github_fault: str
    keys: tuple[KeyView, ...]


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """One user, as operators see them.

    Attributes:
        principal: what the user's records belong to: `unix:UID`, or `former:…` for one who was forgotten.
        uid: None for a former user.
        name: the login that is recorded.
        login: the login that has the uid now; None if there is none.
        held: the uid has another login than the recorded one; its requests are refused until an operator decides.
        disks: names.
        reservations: names of those that are not ended.
        keys: number of keys that open the user's boxes.
        github_user: whose keys are used; empty for none.
    """

    principal: str
    uid: int | None
    name: str
    login: str | None
    held: bool
    disks: tuple[str, ...]
    reservations: tuple[str, ...]
    keys: int
    github_user: str


class UserList(msgspec.Struct, frozen=True, kw_only=True):
    """Every user with a record, by principal.

    Attributes:
        users: by name.
    """

    users: tuple[UserView, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the cloud takes requests, and what it is made of.

    Attributes:
        ready: a pass has seen the cluster.
        version: of ODC.
        cloud: the cloud's name.
        types: GPUs (or units) by type.
        simulated: some GPUs are pretended.
        storage: where disks lie, in words.
        engine: what runs the boxes, in words.
        problems: what keeps it from being ready, as sentences.
    """

    ready: bool
    version: str
    cloud: str
    types: dict[str, int]
    simulated: bool
    storage: str
    engine: str
    problems: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request that has no reservation: what was done, as a sentence."""

    message: str
