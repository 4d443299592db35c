"""The status of the cluster between passes and processes: passes write it when it changes, queries read it.

Nothing here is computed from the cluster, and no query waits for the cluster. A pass that finds what is stored writes
nothing. Sizes that change all the time, such as the usage of a disk, are written when they differ by a percent from
what is stored; readers see what is stored. Times that only say that something is as before are not written.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from msgspec.structs import replace as changed

from odc.control.context import ClusterStatus, Ports, StorageStatus
from odc.control.stored_documents import StoredDocuments
from odc.domain.box import BoxSeen
from odc.domain.errors import ProviderError
from odc.domain.event_kind import EventKind
from odc.domain.node import Node
from odc.domain.outlook import Outlook
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_texts
from odc.domain.records import SYSTEM, AuditEvent, SubjectKind
from odc.domain.status_documents import (
    BOXES,
    CLOUD,
    DISKS,
    HOST,
    NODES,
    OUTLOOK,
    CloudRecord,
    HostRecord,
    NodeRecord,
    from_parts,
    in_parts,
    is_close,
    kind_of,
)
from odc.domain.storage import DiskUse, StorageUse

log = logging.getLogger(__name__)


class StatusRecords:
    """Reads and writes the status. May be used by several threads at once.

    Only one thing is this process's own: that its passes fail, because then it may not be able to write that either.
    """

    def __init__(self, ports: Ports) -> None:
        self._documents = StoredDocuments(ports.store, ports.documents)
        # What was read last, and the status made of it; replaced together, so threads may share them.
        self._last: tuple[Mapping[str, Any], ClusterStatus] = ({}, ClusterStatus())
        self._failure: Problem | None = None

    @property
    def current(self) -> ClusterStatus:
        """The status that the last pass has written.

        Raises:
            ProviderUnavailable: the store does not answer, and this process does not know why from its passes.
        """
        failure = self._failure
        if failure is None:
            return self.stored()
        with contextlib.suppress(ProviderError):
            self.stored()
        return replace(self._last[1], problems=(failure,))

    def stored(self) -> ClusterStatus:
        """The status that the last pass has written, of any process.

        Raises:
            ProviderUnavailable: the store does not answer.
        """
        contents = self._documents.read()
        known, status = self._last
        if contents is not known:
            status = _status_of(contents)
            self._last = contents, status
        return status

    def host(self) -> HostRecord:
        """What the checks of the host have found out, as `stored` has read it last."""
        found: HostRecord = self._last[0].get(HOST, HostRecord())
        return found

    def write(self, status: ClusterStatus, host: HostRecord) -> None:
        """Store what differs from what `stored` has read last.

        A store that refuses is not an error: the next pass writes it.

        Args:
            status: as this pass has observed it.
            host: what the checks of the host have found out.
        """
        self._failure = None
        try:
            before = self._last[0]
            contents = _contents(status, host, before)
            different = {name: new for name, new in contents.items() if _differs(name, before.get(name), new)}
            if different:
                self._documents.write(different, _node_events(before, different, status))
        except ProviderError as error:
            # Ends of reservations must not wait for it.
            log.warning("the status was not stored", extra={"reason": error.message})

    def note_failure(self, why: str) -> None:
        """Show that this process's passes fail: the last status stays, with the reason as its only problem."""
        self._failure = Problem(kind=ProblemKind.PASSES_FAIL, detail=why)


def _status_of(contents: Mapping[str, Any]) -> ClusterStatus:
    cloud: CloudRecord = contents.get(CLOUD, CloudRecord())
    nodes: dict[str, NodeRecord] = from_parts(NODES, contents)
    boxes: dict[str, tuple[BoxSeen, ...]] = from_parts(BOXES, contents)
    use = cloud.storage and changed(cloud.storage, disks=from_parts(DISKS, contents))
    return ClusterStatus(
        at=cloud.at,
        nodes=tuple(nodes[name].node for name in sorted(nodes)),
        boxes=tuple(box for key in sorted(boxes) for box in boxes[key]),
        quarantined=cloud.quarantined,
        problems=cloud.problems,
        frozen=cloud.frozen,
        storage=StorageStatus(use=use, level=cloud.level, problems=cloud.storage_problems, orphans=cloud.orphans),
        outlooks=_outlooks_of(contents),
    )


def _outlooks_of(contents: Mapping[str, Any]) -> dict[str, Outlook]:
    """By GPU type. A document is not deleted: that of a type that is gone is an empty outlook."""
    found = {name: content for name, content in contents.items() if kind_of(name) == OUTLOOK}
    return {name.partition(" ")[2]: outlook for name, outlook in found.items() if outlook != Outlook()}


def _contents(status: ClusterStatus, host: HostRecord, before: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of all documents. Parts that have become empty are among them."""
    use = status.storage.use
    boxes: dict[str, tuple[BoxSeen, ...]] = {}
    for box in status.boxes:
        key = box.name.reservation_id
        boxes[key] = (*boxes.get(key, ()), box)
    empty: dict[str, Any] = {name: {} for name in before if kind_of(name) in (NODES, BOXES, DISKS)}
    empty |= {name: Outlook() for name in before if kind_of(name) == OUTLOOK}
    cloud = CloudRecord(
        at=status.at,
        frozen=status.frozen,
        problems=status.problems,
        quarantined=status.quarantined,
        storage=use and changed(use, disks={}),
        level=status.storage.level,
        storage_problems=status.storage.problems,
        orphans=status.storage.orphans,
    )
    return {
        **empty,
        CLOUD: cloud,
        HOST: host,
        **in_parts(NODES, _node_records(status, from_parts(NODES, before))),
        **in_parts(BOXES, boxes),
        **in_parts(DISKS, use.disks if use else {}),
        **{f"{OUTLOOK} {name}": outlook for name, outlook in status.outlooks.items()},
    }


def _node_records(status: ClusterStatus, before: Mapping[str, NodeRecord]) -> dict[str, NodeRecord]:
    def since(node: Node) -> NodeRecord:
        known = before.get(node.name)
        silent = (known.silent_since if known else None) or status.at
        return NodeRecord(node=node, silent_since=None if node.ready else silent)

    return {node.name: since(node) for node in status.nodes}


def _node_events(
    before: Mapping[str, Any], now: Mapping[str, Any], status: ClusterStatus
) -> dict[str, list[AuditEvent]]:
    """Return the events of nodes that have stopped answering, or answer again, by document."""
    at = status.at
    if at is None:
        return {}
    parts = [name for name in now if kind_of(name) == NODES]
    return {name: list(_changed_nodes(before.get(name, {}), now[name], at)) for name in parts}


def _changed_nodes(
    before: Mapping[str, NodeRecord], now: Mapping[str, NodeRecord], at: datetime
) -> Iterator[AuditEvent]:
    for name, record in sorted(now.items()):
        was_silent_since = before[name].silent_since if name in before else record.silent_since
        if (was_silent_since is None) == (record.silent_since is None):
            continue
        kind, text = EventKind.UNREACHABLE, "the node does not answer"
        if record.silent_since is None:
            kind, text = EventKind.REACHABLE, "the node answers again; it did not since"
        yield AuditEvent(
            subject_kind=SubjectKind.NODE,
            subject_id=name,
            at=at,
            actor=SYSTEM,
            kind=kind,
            text=text,
            when=was_silent_since,
        )


def _differs(name: str, before: Any, now: Any) -> bool:
    """Whether a document has to be written."""
    if before is None:
        return bool(now)
    match kind_of(name):
        case "cloud":
            return _cloud_differs(before, now)
        case "boxes":
            return before.keys() != now.keys() or any(_boxes_differ(before[key], now[key]) for key in now)
        case "disks":
            return before.keys() != now.keys() or any(_use_differs(before[key], now[key]) for key in now)
    return bool(before != now)


def _cloud_differs(before: CloudRecord, now: CloudRecord) -> bool:
    # By their texts, which are rounded: a number in a problem may differ in each pass.
    for one, other in ((before.problems, now.problems), (before.storage_problems, now.storage_problems)):
        if problem_texts(one) != problem_texts(other):
            return True
    if _boxes_differ(before.quarantined, now.quarantined) or _storage_differs(before.storage, now.storage):
        return True
    if before.orphans != now.orphans:
        return True
    return (before.at is None, before.frozen, before.level) != (now.at is None, now.frozen, now.level)


def _storage_differs(before: StorageUse | None, now: StorageUse | None) -> bool:
    if before is None or now is None:
        return before is not now
    one, other = changed(before, free_bytes=0), changed(now, free_bytes=0)
    return one != other or not is_close(before.used_bytes, now.used_bytes)


def _boxes_differ(before: tuple[BoxSeen, ...], now: tuple[BoxSeen, ...]) -> bool:
    if len(before) != len(now):
        return True
    for one, other in zip(before, now, strict=True):
        if not is_close(one.layer_used_bytes, other.layer_used_bytes):
            return True
        if changed(one, layer_used_bytes=0) != changed(other, layer_used_bytes=0):
            return True
    return False


def _use_differs(before: DiskUse, now: DiskUse) -> bool:
    numbers = ((before.live_bytes, now.live_bytes), (before.total_bytes, now.total_bytes))
    if before.limit_bytes != now.limit_bytes or not all(is_close(*pair) for pair in numbers):
        return True
    if before.snapshots.keys() != now.snapshots.keys():
        return True
    return not all(is_close(size, now.snapshots[key]) for key, size in before.snapshots.items())
