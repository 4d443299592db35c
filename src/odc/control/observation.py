"""Step 1 of a pass: list everything, once. The records and their pools' versions are read before the cluster.

A list that failed is None and not empty, and `decide` concludes nothing from it. If only one of the two lists of the
cluster succeeds, both are None: a box on an unknown node could not be judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from odc.control.clock_check import ClockVerdict
from odc.control.context import Ports
from odc.control.grouped_records import GroupedRecords, group_records
from odc.control.outcomes import Collected
from odc.control.task_runner import Outcome
from odc.domain.box import BoxSeen
from odc.domain.errors import ProviderError
from odc.domain.host import HostReport
from odc.domain.node import Node
from odc.domain.problem import Problem
from odc.domain.records import Stored
from odc.domain.reservation import Reservation


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that one pass has read.

    Attributes:
        now: the wall clock.
        frozen: whether that clock cannot be trusted; then nothing ends by time.
        stored: the records, read before everything else, with the disks of reservations whose task has an outcome.
        nodes: every node by name; None if the cluster did not answer.
        boxes: every box of the cloud; None if the cluster did not answer.
        fault: why the cluster did not answer; empty if it did.
        records: by id, every live record, and those of boxes whose reservation is not live.
        outcomes: by task key, the tasks that finished since the last pass.
        busy: keys of tasks that still run.
        waiting: by task key, the name and attempt of tasks that were not through and are not started again yet.
        host: the newest check of the host.
        clock_problem: why the clock cannot be trusted; None if it can.
        grouped: `stored` by state and GPU type; what is given is what was grouped before.
        queued: by GPU type, the queued reservations by place in line; derived from `stored`.
        placed: by GPU type, the other live reservations; derived from `stored`.
        all_placed: those of every type, since a pass looks into each of them and not into the whole queue.
        by_uid: the boxes by uid; derived from `boxes`.
        ready_nodes: names of the nodes that answer; derived from `nodes`.
        quarantined: boxes without a record, or of a later attempt than the record has, as after a restore from an older
            backup. Such a box may be in use, so it is not deleted. It keeps its GPUs, and is reported to operators.
    """

    now: datetime
    frozen: bool
    stored: Stored
    nodes: tuple[Node, ...] | None
    boxes: tuple[BoxSeen, ...] | None
    fault: str
    records: Mapping[str, Reservation]
    outcomes: Mapping[str, Outcome]
    busy: frozenset[str]
    host: HostReport = field(default_factory=HostReport)
    waiting: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    clock_problem: Problem | None = None
    grouped: GroupedRecords = field(default_factory=GroupedRecords)
    queued: Mapping[str, Sequence[Reservation]] = field(init=False)
    placed: Mapping[str, Sequence[Reservation]] = field(init=False)
    all_placed: tuple[Reservation, ...] = field(init=False)
    by_uid: Mapping[str, BoxSeen] = field(init=False)
    ready_nodes: frozenset[str] = field(init=False)
    quarantined: tuple[BoxSeen, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Made once for each pass and not for each reservation, so that a pass is linear in the number of reservations.
        grouped = group_records(self.stored.reservations, self.grouped)
        for name in ("queued", "placed", "all_placed"):
            object.__setattr__(self, name, getattr(grouped, name))
        object.__setattr__(self, "grouped", grouped)
        object.__setattr__(self, "by_uid", {box.uid: box for box in self.boxes or ()})
        object.__setattr__(self, "ready_nodes", frozenset(node.name for node in self.nodes or () if node.ready))
        strays = tuple(box for box in self.boxes or () if _is_stray(box, self.records.get(box.name.reservation_id)))
        object.__setattr__(self, "quarantined", strays)


def observe(
    ports: Ports,
    clock: ClockVerdict,
    tasks: Collected,
    host: HostReport,
    before: Observation | None = None,
) -> Observation:
    """List everything, once.

    Args:
        ports: where to read.
        clock: whether the wall clock can be trusted.
        tasks: collected before the records are read, so that no record is older than an outcome.
        host: the newest check of the host.
        before: the observation before, of this process: what is equal is kept, so that later steps of a pass find out
            by identity that it has not changed.

    Raises:
        ProviderUnavailable: the store did not answer; the pass cannot decide anything.
    """
    stored = _with_disks_of_outcomes(ports, ports.store.observe(), tasks)
    nodes: tuple[Node, ...] | None = None
    boxes: tuple[BoxSeen, ...] | None = None
    fault = ""
    try:
        nodes = _kept(before.nodes if before else None, ports.cluster.list_nodes())
        boxes = _kept(before.boxes if before else None, ports.cluster.list_boxes())
    except ProviderError as error:
        nodes = boxes = None
        fault = error.message
    grouped = group_records(stored.reservations, before.grouped if before else GroupedRecords())
    return Observation(
        now=ports.clock.now(),
        frozen=clock.frozen,
        stored=stored,
        nodes=nodes,
        boxes=boxes,
        fault=fault,
        records=_records(ports, stored, grouped.by_id, boxes or ()),
        outcomes=tasks.outcomes,
        busy=tasks.busy,
        waiting=tasks.waiting,
        host=host,
        clock_problem=clock.problem,
        grouped=grouped,
    )


_Listed = TypeVar("_Listed", tuple[Node, ...], tuple[BoxSeen, ...])


def _kept(before: _Listed | None, now: _Listed) -> _Listed:
    return before if before is not None and before == now else now


def _with_disks_of_outcomes(ports: Ports, stored: Stored, tasks: Collected) -> Stored:
    """Add the disks of reservations whose task has an outcome: it may change them.

    Cost: one query for each of them.
    """
    if not tasks.outcomes:
        return stored
    ids = {record.disk_id for record in stored.reservations if record.disk_id and record.id in tasks.outcomes}
    found = [ports.store.find_disk(disk_id) for disk_id in sorted(ids - stored.disks.keys())]
    disks = {disk.id: disk for disk in found if disk is not None}
    return replace(stored, disks={**stored.disks, **disks}) if disks else stored


def _records(
    ports: Ports, stored: Stored, live: Mapping[str, Reservation], boxes: tuple[BoxSeen, ...]
) -> Mapping[str, Reservation]:
    """Return every live record, and the ended ones that still have a box.

    Cost: one query for each box without a live record. There are few: a reservation ends after its boxes are gone.
    """
    strays = {box.name.reservation_id for box in boxes if box.name.reservation_id not in live} - set(stored.unreadable)
    found = {reservation_id: ports.store.find_reservation(reservation_id) for reservation_id in sorted(strays)}
    others = {reservation_id: record for reservation_id, record in found.items() if record is not None}
    return {**live, **others} if others else live


def _is_stray(box: BoxSeen, record: Reservation | None) -> bool:
    return record is None or box.name.attempt > record.attempt
