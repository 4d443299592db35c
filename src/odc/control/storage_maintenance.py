"""Maintains the disk storage next to the passes: measures it, and deletes snapshots by the rules of `domain.storage`.

A round is a task. It also restores quotas that differ from the records, labels volumes, finds volumes without a record,
and writes the usage of its disk to each running box.

Intent is written before effect: a snapshot's record is marked `deleting` before anything is deleted, and is deleted
when the snapshot and its listing are gone. A crash in between is finished by the next round. Only snapshots that a
record names are deleted. A round reads the snapshots of those disks only whose summary says that there is something to
do, and marks at most `MAX_SNAPSHOTS` of each disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from odc.control.box_files import box_names
from odc.control.context import Policy, Ports, StorageStatus
from odc.control.disk_histories import MAX_SNAPSHOTS, batches, history_change, read_history
from odc.control.orphaned_disks import orphan_problems, orphaned_disks, write_labels
from odc.control.outcomes import Collected
from odc.control.sweeps import STORAGE, Sweeps
from odc.control.task_runner import Runner, TaskId, once
from odc.domain.disk import Disk, SnapshotRecord, VolumeLabel
from odc.domain.disk_history import DiskHistory
from odc.domain.errors import Conflict, ProviderError, ProviderRefused
from odc.domain.paging import all_pages
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_texts
from odc.domain.reservation import Reservation, State
from odc.domain.storage import (
    DiskUse,
    Level,
    StorageUse,
    first_to_go,
    gib_text,
    has_history,
    is_past_share,
    may_be_past_limits,
    past_limits,
    past_share,
    taken_by_owner,
)

log = logging.getLogger(__name__)

TASK_KEY = "storage"
INTERVAL = timedelta(seconds=10)
FOLLOW_UP_DELAY = timedelta(seconds=1)
"""The pause after a round that deleted snapshots, and while space is low: a box can write gigabytes in a second."""
MAX_PROBLEMS = 5
MAX_ORPHANS = 1000
"""Disks without a record that the status names, so that it fits in one item of every store."""
DISK_USE_STEPS = 200
"""The use of a disk is written into its box when it has changed by such a fraction of the disk, or is shown as another
number: boxes and `gpu-dev show` tell the same.
"""


class _Chosen(NamedTuple):
    """Snapshots of one disk to delete, and why."""

    history: DiskHistory
    snapshots: tuple[SnapshotRecord, ...]
    why: str


class StorageMaintenance:
    """Runs a round every ten seconds, one at a time."""

    def __init__(self, ports: Ports, policy: Policy, sweeps: Sweeps) -> None:
        self._ports = ports
        self._policy = policy
        self._sweeps = sweeps
        self._status = StorageStatus()
        self._problems: dict[str, Problem] = {}
        self._written_disk_use: dict[str, tuple[int, str, int, int]] = {}
        self._orphans: tuple[VolumeLabel, ...] = ()

    @property
    def status(self) -> StorageStatus:
        """What is known about the storage, with what this pass has learned: to be stored."""
        return self._status

    def take(self, stored: StorageStatus, collected: Collected) -> None:
        """Begin from the stored status, and learn from a round that has ended.

        A result counts once. Kept longer, it would replace what another process has measured since.

        Args:
            stored: as the last round of any process has found it.
            collected: the tasks that have ended.
        """
        outcome = collected.outcomes.get(TASK_KEY)
        found = outcome.value if outcome is not None else None
        self._status = found if isinstance(found, StorageStatus) else stored

    @property
    def due_in(self) -> timedelta | None:
        """Return how long until a round that was asked for should start; None if none was."""
        return self._sweeps.asked_in(STORAGE)

    def start_if_due(self, runner: Runner, now: datetime | None, epoch: int) -> None:
        """Start a round unless one runs or was done lately, by this process or another one.

        Args:
            runner: carries it out.
            now: None if the clock cannot be trusted.
            epoch: of the lease; what the round finds out counts only in it.
        """
        if TASK_KEY in runner.busy() or not self._sweeps.take(STORAGE, INTERVAL, now):
            return
        runner.start(TASK_KEY, TaskId(TASK_KEY, epoch=epoch), once(partial(self._round, now, self._status)))

    def _round(self, now: datetime | None, before: StorageStatus) -> StorageStatus:
        """Finish deletions of earlier rounds, measure, and delete snapshots; return the status afterwards.

        Args:
            now: None if the clock cannot be trusted: then no snapshot is too old.
            before: the status until now.
        """
        self._problems, self._orphans = {}, before.orphans
        try:
            disks = [self._finish(disk) for disk in all_pages(partial(self._ports.history.list_disks, None))]
            use = self._ports.volumes.measure()
            self._limit(disks, use)
            gone = [self._delete(chosen) for chosen in self._choose(disks, use, now)]
            # Measured again, so that users and operators see the freed space.
            if any(gone):
                use = self._ports.volumes.measure()
            if any(gone) or use.settling or use.is_near(self._policy.retention):
                self._sweeps.ask(STORAGE, FOLLOW_UP_DELAY)
        except ProviderError as error:
            self._problems["storage"] = Problem(kind=ProblemKind.STORAGE_FAULT, detail=error.message)
            return self._status_after(before, None)
        # After the deletions, which must also happen on a full storage, where labels cannot be written.
        self._find_orphans(disks)
        status = self._status_after(before, use)
        self._write_disk_use(use, {disk.id: disk for disk in disks}, self._ports.store.observe().reservations)
        return status

    def _find_orphans(self, disks: list[Disk]) -> None:
        """Find volumes without a record, and label the others so that they can be recognised later."""
        try:
            self._orphans = orphaned_disks(self._ports, disks)
            write_labels(self._ports, disks)
        except ProviderError as error:
            log.info("volumes were not labelled", extra={"reason": error.message})

    def _limit(self, disks: list[Disk], use: StorageUse) -> None:
        """Restore quotas that differ from the records, as after somebody turned the file system's quotas off and on."""
        for disk in disks:
            limit = use.disks.get(disk.id, DiskUse()).limit_bytes
            if limit is not None and limit != disk.size_bytes:
                log.warning("the limit of a disk is set again", extra={"disk": disk.id, "was": limit})
                try:
                    self._ports.volumes.set_limit(disk.id, disk.size_bytes)
                except ProviderError as error:
                    self._note(ProblemKind.DISK_UNLIMITED, disk, error.message)

    def _choose(self, disks: list[Disk], use: StorageUse, now: datetime | None) -> Iterable[_Chosen]:
        """The snapshots to delete in this round, each with the reason.

        Rules that depend on sizes wait until the storage has settled: the file system counts freed space late, and a
        decision on old numbers would delete more than needed. For the same reason, deletions for lack of space are only
        chosen in a round that has none of the others.
        """
        rule = self._policy.retention
        found = []
        for disk in disks:
            known = use.disks.get(disk.id)
            is_large = not use.settling and has_history(disk, use) and is_past_share(disk, known, rule)
            if may_be_past_limits(disk, rule, now) or is_large:
                history = read_history(self._ports, disk)
                found.append(_Chosen(history, past_limits(history, rule, now), "more or older than are kept"))
                found += [_Chosen(history, past_share(history, known, rule), "too much history")] * is_large
        chosen = [one for one in found if one.snapshots]
        missing = use.missing_bytes(rule)
        if chosen or use.settling or missing <= 0:
            return chosen
        histories = {disk.id: read_history(self._ports, disk) for disk in disks if has_history(disk, use)}
        going = first_to_go(histories.values(), taken_by_owner(disks, use), use, missing)
        return [_Chosen(histories[key], snapshots, "the storage is nearly full") for key, snapshots in going.items()]

    def _finish(self, disk: Disk) -> Disk:
        """Delete the snapshots that are marked for it, and return the record. Failures are left to the next round."""
        if not disk.snapshots.deleting:
            return disk
        history = read_history(self._ports, disk)
        try:
            for batch in batches(history.deleting):
                committed = self._commit(history, self._deleted(history, batch))
                if committed is None:
                    break
                history = committed
        except ProviderError as error:
            self._note(ProblemKind.SNAPSHOTS_STAY, disk, error.message)
        return history.disk

    def _deleted(self, history: DiskHistory, marked: Iterable[SnapshotRecord]) -> DiskHistory:
        """Delete these snapshots; return the disk without the records of those that are gone."""
        gone, back = [], []
        for record in marked:
            try:
                if not self._ports.volumes.delete_snapshot(record.disk_id, record.id):
                    continue
            except ProviderRefused as error:
                # The storage refuses to delete its last snapshot: the newer ones in the record do not exist there.
                self._note(ProblemKind.DISK_FAULT, history.disk, error.message)
                back.append(record)
                continue
            if record.snapshot.listing:
                self._ports.blobs.delete(record.snapshot.listing)
            gone.append(record)
        return history.without(gone).with_deleting(back, deleting=False) if gone or back else history

    def _delete(self, chosen: _Chosen) -> bool:
        """Write the intent, then delete; return whether that succeeded. Nothing is deleted without a newer verified
        snapshot.
        """
        history, disk = chosen.history, chosen.history.disk
        there = {snapshot.id for snapshot in self._ports.volumes.list_snapshots(disk.id)}
        kept = [one for one in history.kept[len(history.expendable) :] if one.snapshot.verified_at is not None]
        if not any(record.id in there for record in kept):
            self._note(ProblemKind.SNAPSHOT_MISSING, disk)
            return False
        going = chosen.snapshots[:MAX_SNAPSHOTS]
        marked = self._commit(history, history.with_deleting(going))
        if marked is None:
            return False
        names = " ".join(record.id for record in going)
        extra = {"disk": disk.id, "owner": disk.owner, "snapshots": names, "why": chosen.why}
        log.info("snapshots deleted", extra=extra)
        return not self._finish(marked.disk).snapshots.deleting

    def _note(self, kind: ProblemKind, disk: Disk, detail: str = "") -> None:
        self._problems[disk.id] = Problem(kind=kind, disk=disk.id, name=disk.name, detail=detail)

    def _commit(self, before: DiskHistory, after: DiskHistory) -> DiskHistory | None:
        """Write the difference; None if another writer was first: a later round decides again."""
        change = history_change(before, after)
        if not change.items:
            return after
        try:
            self._ports.store.commit(change)
        except Conflict:
            return None
        return replace(after, disk=replace(after.disk, version=after.disk.version + 1))

    def _status_after(self, before: StorageStatus, use: StorageUse | None) -> StorageStatus:
        """Return the status after a round; new problems are logged. `use` is None if the storage does not answer."""
        rule = self._policy.retention
        use = use or before.use
        level = use.level(rule) if use else Level.OK
        problems = (*self._problems.values(), *orphan_problems(self._orphans))
        if len(problems) > MAX_PROBLEMS:
            more = Problem(kind=ProblemKind.MORE, count=len(problems) - MAX_PROBLEMS)
            problems = (*problems[:MAX_PROBLEMS], more)
        if use is not None and level is not Level.OK:
            problems = (_nearly_full(use, level), *problems)
        # The texts, which are rounded: the number of free bytes differs in each round.
        texts = problem_texts(problems)
        if texts != problem_texts(before.problems):
            for text in texts:
                log.warning("disk storage", extra={"reason": text})
        return StorageStatus(use=use, level=level, problems=problems, orphans=self._orphans[:MAX_ORPHANS])

    def _write_disk_use(self, use: StorageUse, disks: Mapping[str, Disk], live: Sequence[Reservation]) -> None:
        """Write into each running box how full its disk is. It only informs: a fault is tried again next time."""
        for record in live:
            disk = disks.get(record.disk_id or "")
            known = use.disks.get(record.disk_id or "")
            if record.state is not State.ACTIVE or disk is None or known is None or known.live_bytes is None:
                continue
            used = min(known.live_bytes, disk.size_bytes)
            # A record that changes may have a box that was made again, with the files of its beginning.
            told = (disk.size_bytes, gib_text(used), used * DISK_USE_STEPS // max(disk.size_bytes, 1), record.version)
            if self._written_disk_use.get(record.id) == told:
                continue
            try:
                for name in box_names(record):
                    self._ports.cluster.write_files(name, {"disk_use": f"{disk.size_bytes} {used}\n".encode()})
                self._written_disk_use[record.id] = told
            except ProviderError as error:
                log.info("the use of a disk could not be written into its box", extra={"reason": error.message})
        ids = {record.id for record in live}
        self._written_disk_use = {key: text for key, text in self._written_disk_use.items() if key in ids}


def _nearly_full(use: StorageUse, level: Level) -> Problem:
    kind = ProblemKind.STORAGE_FULL if level is Level.FULL else ProblemKind.STORAGE_LOW
    return Problem(kind=kind, free_bytes=use.free_bytes, total_bytes=use.total_bytes)
