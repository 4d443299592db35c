"""Stored records other than reservations, disks and users: events, requests, and a transaction of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.document import Document
from odc.domain.event_kind import EventKind
from odc.domain.open_enum import OpenEnum
from odc.domain.pool_document import PoolDocument
from odc.domain.problem import Problem, ProblemKind
from odc.domain.reservation import Reservation, Secrets
from odc.domain.user import User

SYSTEM = "odc"
MAX_ITEMS = 100
"""Items of one transaction, in the store that takes the fewest."""


class SubjectKind(OpenEnum):
    """The kinds of things that events are about; the words are stored."""

    RESERVATION = "reservation"
    DISK = "disk"
    NODE = "node"
    USER = "user"


class Subject(NamedTuple):
    """What an event is about: a reservation, a disk or a node by its id or name, a user by principal."""

    kind: SubjectKind
    id: str

    @classmethod
    def reservation(cls, reservation_id: str) -> Subject:
        """The reservation of this id."""
        return cls(SubjectKind.RESERVATION, reservation_id)


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event; append-only, the audit log.

    Attributes:
        subject_kind: what kind of thing it is about; version 0.1.0 knew reservations only, and did not store it.
        subject_id: to which it happened; stored as `reservation_id`, its name in version 0.1.0.
        at: when.
        actor: the user's name, or `odc`.
        kind: the kind of event.
        text: the whole sentence for people.
        when: a time that the sentence is about; it is shown after it, in the reader's time zone.
    """

    subject_kind: SubjectKind = SubjectKind.RESERVATION
    subject_id: str = msgspec.field(name="reservation_id")
    at: datetime
    actor: str
    kind: EventKind
    text: str
    when: datetime | None = None

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return Subject(self.subject_kind, self.subject_id)


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request with its answer, committed together with its effect: a repeat gives the same answer.

    Attributes:
        id: made by the client.
        principal: who sent it; the same id from another is refused.
        kind: which message.
        digest: of the message, so that one id cannot carry two different requests.
        received_at: when it came.
        status: HTTP status of the answer.
        answer: the answer as JSON.
    """

    id: str
    principal: str
    kind: str
    digest: str
    received_at: datetime
    status: int
    answer: bytes


class ClockAnchor(msgspec.Struct, frozen=True, kw_only=True):
    """One moment on both clocks: the wall clock and the machine's time since boot."""

    boot_id: str
    wall: datetime
    since_boot: timedelta


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """A user's ended reservations get another owner, and the user's own record is deleted.

    Live reservations and disks are written one by one, as records of the same change.

    Attributes:
        user: the record that is deleted, as it was read.
        to: principal of the new owner.
    """

    user: User
    to: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction: all of it is written, or nothing.

    Every record carries the version that was read (0: it must not exist); it is stored with that version plus one.

    Attributes:
        pools: GPU type to the plan version that was read; each is stored plus one. Whatever takes or frees units
            of a pool, or promises them, names it here. The end of a queued reservation only withdraws a promise: it
            need not.
        plans: GPU type to the new plan of a pool that is in `pools`; the stored plans of the others stay.
        reservations: records to write.
        secrets: to write, in place of those of the same reservation, which is written too.
        disks: records to write.
        snapshots: records to write, in place of one of the same disk and id; their disks are written too, which have
            the version. Only a disk that has no record yet may get the records of its snapshots before its own.
        deleted_snapshots: records to delete; their disks are written too.
        users: records to write.
        documents: to write; of different names.
        events: to append, in order.
        request: the client's request that caused this change.
        handover: a user's record to delete, and the new owner of its ended reservations.
        clock_anchor: replaces the stored one; it has no version, the last writer wins.
    """

    pools: Mapping[str, int] = {}
    plans: Mapping[str, PoolDocument] = {}
    reservations: tuple[Reservation, ...] = ()
    secrets: tuple[Secrets, ...] = ()
    disks: tuple[Disk, ...] = ()
    snapshots: tuple[SnapshotRecord, ...] = ()
    deleted_snapshots: tuple[SnapshotRecord, ...] = ()
    users: tuple[User, ...] = ()
    documents: tuple[Document, ...] = ()
    events: tuple[AuditEvent, ...] = ()
    request: RequestRecord | None = None
    handover: Handover | None = None
    clock_anchor: ClockAnchor | None = None

    @property
    def items(self) -> int:
        """The most items that this may be in a store that counts them.

        Each record is one, a name that is taken or given up is one, and a reservation that ends moves: that is two. The
        events of one subject are one.
        """
        return (
            len(self.pools)
            + sum(map(_items_of, self.reservations))
            + len(self.secrets)
            + 2 * len(self.disks)
            + len(self.snapshots)
            + len(self.deleted_snapshots)
            + len(self.users)
            + len(self.documents)
            + len({event.subject for event in self.events})
            + (self.request is not None)
            + (self.clock_anchor is not None)
            + 2 * (self.handover is not None)
        )


def _items_of(record: Reservation) -> int:
    if not record.live:
        return 3
    return 1 if record.version and record.holds_name else 2


class StoreRoom(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there is space for the records to grow.

    Attributes:
        problem: for operators; None while there is enough.
    """

    problem: Problem | None = None

    @property
    def refuses(self) -> bool:
        """Whether new reservations are refused: what is left is for ending the existing ones."""
        return self.problem is not None and self.problem.kind is ProblemKind.RECORDS_FULL


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The records that a pass reads; see `StateStore.observe`.

    Attributes:
        pools: GPU type to plan version; a missing type has version 0.
        plans: GPU type to plan; a pool without one has no slots. One that cannot be read is left out: it is made again.
        reservations: every live one, by place in line.
        disks: by id, every disk with `Disk.concerns_passes`. A live reservation whose disk is not here holds it, and
            nobody else waits for it.
        held: records of users whose uid has another login now, by principal.
        unreadable: id to error, of live records that could not be understood: left alone and shown.
    """

    pools: Mapping[str, int]
    reservations: tuple[Reservation, ...]
    disks: Mapping[str, Disk]
    plans: Mapping[str, PoolDocument] = {}
    held: tuple[User, ...] = ()
    unreadable: Mapping[str, str] = {}
