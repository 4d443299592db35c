"""The decisions of a pass: changes to commit, and the tasks that follow each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from odc.control.task_runner import TaskId
from odc.domain.box import BoxSeen
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.event_kind import EventKind
from odc.domain.pool_document import PoolDocument
from odc.domain.records import SYSTEM, AuditEvent, Change
from odc.domain.reservation import Reservation


class TaskName(StrEnum):
    """The kinds of tasks; `perform` maps each to a method of `tasks.Tasks`."""

    PREPARE = "prepare"
    RESTART = "restart"
    REFRESH_FILES = "files"
    STOP = "stop"
    CLEAN = "clean"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work: for the attempt of a record, or for a box that should not be there."""

    name: TaskName
    record: Reservation | None = None
    box: BoxSeen | None = None

    @property
    def key(self) -> str:
        """One task runs at a time for each key."""
        if self.record is not None:
            return self.record.id
        return f"box:{self.box.uid}" if self.box else ""

    def identity(self, epoch: int | None = None) -> TaskId:
        """The task as its outcome names it, if it is started under this epoch of the lease."""
        return TaskId(str(self.name), self.record.attempt if self.record else 0, epoch)


@dataclass(slots=True)
class Step:
    """One reservation's next step: its new record, with the events and tasks that belong to it.

    Attributes:
        record: the new record, carrying the version that was read; None if nothing is to be written.
        events: for the reservation's history.
        tasks: started once the change is committed.
        disk: its disk as it is to be; None if it stays.
        snapshot: a new snapshot of the disk; None if there is none.
        fenced: occupancy or promises of the pool change, so it commits with the pool's version.
    """

    record: Reservation | None = None
    events: list[AuditEvent] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    disk: Disk | None = None
    snapshot: SnapshotRecord | None = None
    fenced: bool = False

    @property
    def change(self) -> Change:
        """What it writes, without the pool's version."""
        return Change(
            reservations=(self.record,) if self.record is not None else (),
            disks=(self.disk,) if self.disk is not None else (),
            snapshots=(self.snapshot,) if self.snapshot is not None else (),
            events=tuple(self.events),
        )

    def add_event(
        self, record: Reservation, at: datetime, kind: EventKind, text: str, when: datetime | None = None
    ) -> None:
        """Add an event of ODC's own."""
        event = AuditEvent(subject_id=record.id, at=at, actor=SYSTEM, kind=kind, text=text, when=when)
        self.events.append(event)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One transaction (None: nothing to write) and the tasks that are started when it is committed."""

    change: Change | None
    tasks: tuple[Task, ...]


def combine(
    steps: list[Step], pools: Mapping[str, int], plans: Mapping[str, PoolDocument] = MappingProxyType({})
) -> Proposal:
    """The steps as one transaction.

    Args:
        steps: of different reservations.
        pools: the pools whose versions are compared, with the versions that were read.
        plans: the new plans of these pools.
    """
    change = Change(
        pools=pools,
        plans=dict(plans),
        reservations=tuple(step.record for step in steps if step.record is not None),
        disks=tuple(step.disk for step in steps if step.disk is not None),
        snapshots=tuple(step.snapshot for step in steps if step.snapshot is not None),
        events=tuple(event for step in steps for event in step.events),
    )
    written = change.plans or change.reservations or change.disks or change.events
    return Proposal(change=change if written else None, tasks=tuple(task for step in steps for task in step.tasks))
