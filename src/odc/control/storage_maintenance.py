"""Maintains the disk storage next to the passes: measures it, and deletes snapshots by the rules of `domain.storage`.

A round is a task. It also restores quotas that differ from the records, labels volumes, finds volumes without a record,
and writes the usage of its disk to each running box.

Intent is written before effect: a snapshot's record moves to `Disk.deleting` before anything is deleted, and leaves the
disk's record when the snapshot and its listing are gone. A crash in between is finished by the next round. Only
snapshots that a record names are deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from msgspec.structs import replace

from odc.control.box_files import box_names
from odc.control.context import Policy, Ports, StorageStatus
from odc.control.orphaned_disks import orphan_problems, orphaned_disks, write_labels
from odc.control.sweeps import STORAGE, Sweeps
from odc.control.task_runner import Runner, TaskId, once
from odc.domain.disk import Disk, Snapshot
from odc.domain.errors import Conflict, ProviderError, ProviderRefused
from odc.domain.paging import all_pages
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_texts
from odc.domain.records import Change, Stored
from odc.domain.reservation import State
from odc.domain.storage import DiskUse, Level, StorageUse, expendable, first_to_go, past_limits, past_share

log = logging.getLogger(__name__)

TASK_KEY = "storage"
INTERVAL = timedelta(seconds=10)
FOLLOW_UP_DELAY = timedelta(seconds=1)
"""The pause after a round that deleted snapshots, and while space is low: a box can write gigabytes in a second."""
MAX_PROBLEMS = 5
DISK_USE_STEPS = 200
"""The use that is written into a box is rounded up to such a fraction of the disk, so that it is rarely written."""


class StorageMaintenance:
    """Runs a round every ten seconds, one at a time."""

    def __init__(self, ports: Ports, policy: Policy, sweeps: Sweeps) -> None:
        self._ports = ports
        self._policy = policy
        self._sweeps = sweeps
        self._measured: StorageStatus | None = None
        self._before = StorageStatus()
        self._problems: dict[str, Problem] = {}
        self._written_disk_use: dict[str, tuple[bytes, int]] = {}
        self._orphans: tuple[Problem, ...] = ()

    def status(self, stored: StorageStatus) -> StorageStatus:
        """The storage as of this process's last round; the stored status if it has run none."""
        return self._measured or stored

    @property
    def due_in(self) -> timedelta:
        """Return how long until the next round should start."""
        # A round that is due and has not started waits for the running one, whose end wakes a pass anyway.
        left = self._sweeps.due_in(STORAGE)
        return left if left > timedelta(0) else INTERVAL

    def start_if_due(self, runner: Runner, now: datetime | None, stored: StorageStatus) -> None:
        """Start a round unless one runs or was done lately, by this process or another one.

        Args:
            runner: carries it out.
            now: None if the clock cannot be trusted.
            stored: the status until now.
        """
        if TASK_KEY in runner.busy() or not self._sweeps.take(STORAGE, INTERVAL, now):
            return
        self._before = self.status(stored)
        runner.start(TASK_KEY, TaskId(TASK_KEY), once(lambda: self.round(now)))

    def round(self, now: datetime | None) -> None:
        """Finish deletions of earlier rounds, measure, and delete snapshots.

        Args:
            now: None if the clock cannot be trusted: then no snapshot is too old.
        """
        self._problems = {}
        try:
            disks = [self._finish(disk) for disk in all_pages(partial(self._ports.history.list_disks, None))]
            use = self._ports.volumes.measure()
            self._limit(disks, use)
            gone = [self._delete(disk, snapshots, why) for disk, snapshots, why in self._choose(disks, use, now)]
            # Measured again, so that users and operators see the freed space.
            if any(gone):
                use = self._ports.volumes.measure()
            if any(gone) or use.settling or use.is_near(self._policy.retention):
                self._sweeps.ask(STORAGE, FOLLOW_UP_DELAY)
        except ProviderError as error:
            self._problems["storage"] = Problem(kind=ProblemKind.STORAGE_FAULT, detail=error.message)
            self._update_status(None)
            return
        # After the deletions, which must also happen on a full storage, where labels cannot be written.
        self._find_orphans(disks)
        self._update_status(use)
        self._write_disk_use(use, self._ports.store.observe())

    def _find_orphans(self, disks: list[Disk]) -> None:
        """Find volumes without a record, and label the others so that they can be recognised later."""
        try:
            self._orphans = orphan_problems(orphaned_disks(self._ports, disks))
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

    def _choose(
        self, disks: list[Disk], use: StorageUse, now: datetime | None
    ) -> Iterable[tuple[Disk, tuple[Snapshot, ...], str]]:
        """The snapshots to delete in this round, each with the reason.

        Rules that depend on sizes wait until the storage has settled: the file system counts freed space late, and a
        decision on old numbers would delete more than needed. For the same reason, deletions for lack of space are only
        chosen in a round that has none of the others.
        """
        rule = self._policy.retention
        found = [(disk, past_limits(disk, rule, now), "more or older than are kept") for disk in disks]
        if not use.settling:
            found += [(disk, past_share(disk, use.disks.get(disk.id), rule), "too much history") for disk in disks]
        chosen = [one for one in found if one[1]]
        if chosen or use.settling:
            return chosen
        by_id = {disk.id: disk for disk in disks}
        missing = first_to_go(disks, use, use.missing_bytes(rule))
        return [(by_id[key], snapshots, "the storage is nearly full") for key, snapshots in missing.items()]

    def _finish(self, disk: Disk) -> Disk:
        """Delete the snapshots in `Disk.deleting`, and return the record. Failures are left to the next round."""
        if not disk.deleting:
            return disk
        back: tuple[Snapshot, ...] = ()
        unfinished: tuple[Snapshot, ...] = ()
        try:
            for snapshot in disk.deleting:
                try:
                    if not self._ports.volumes.delete_snapshot(disk.id, snapshot.id):
                        unfinished = (*unfinished, snapshot)
                        continue
                except ProviderRefused as error:
                    # The storage refuses to delete its last snapshot: the newer ones in the record do not exist there.
                    self._note(ProblemKind.DISK_FAULT, disk, error.message)
                    back = (*back, snapshot)
                    continue
                if snapshot.listing:
                    self._ports.blobs.delete(snapshot.listing)
            if unfinished == disk.deleting:
                return disk
            done = replace(disk, deleting=unfinished, snapshots=(*back, *disk.snapshots))
            return self._commit(done)
        except ProviderError as error:
            self._note(ProblemKind.SNAPSHOTS_STAY, disk, error.message)
            return disk

    def _delete(self, disk: Disk, snapshots: tuple[Snapshot, ...], why: str) -> bool:
        """Write the intent, then delete; return whether that succeeded. Nothing is deleted without a newer verified
        snapshot.
        """
        there = {snapshot.id for snapshot in self._ports.volumes.list_snapshots(disk.id)}
        kept = [one for one in disk.snapshots[len(expendable(disk)) :] if one.verified_at is not None]
        if not any(snapshot.id in there for snapshot in kept):
            self._note(ProblemKind.SNAPSHOT_MISSING, disk)
            return False
        meant = self._commit(disk.without(snapshots))
        if not meant.deleting:
            return False
        names = " ".join(snapshot.id for snapshot in snapshots)
        log.info("snapshots deleted", extra={"disk": disk.id, "owner": disk.owner, "snapshots": names, "why": why})
        return not self._finish(meant).deleting

    def _note(self, kind: ProblemKind, disk: Disk, detail: str = "") -> None:
        self._problems[disk.id] = Problem(kind=kind, disk=disk.id, name=disk.name, detail=detail)

    def _commit(self, disk: Disk) -> Disk:
        """Write the disk's record and return it; the record as read if another writer was first: a later round decides
        again.
        """
        try:
            self._ports.store.commit(Change(disks=(disk,)))
        except Conflict:
            return replace(disk, deleting=())
        return replace(disk, version=disk.version + 1)

    def _update_status(self, use: StorageUse | None) -> None:
        before, rule = self._before, self._policy.retention
        use = use or before.use
        level = use.level(rule) if use else Level.OK
        problems = (*self._problems.values(), *self._orphans)
        if len(problems) > MAX_PROBLEMS:
            more = Problem(kind=ProblemKind.MORE, count=len(problems) - MAX_PROBLEMS)
            problems = (*problems[:MAX_PROBLEMS], more)
        if use is not None and level is not Level.OK:
            problems = (_nearly_full(use, level), *problems)
        self._measured = StorageStatus(use=use, level=level, problems=problems)
        # The texts, which are rounded: the number of free bytes differs in each round.
        texts = problem_texts(problems)
        if texts != problem_texts(before.problems):
            for text in texts:
                log.warning("disk storage", extra={"reason": text})

    def _write_disk_use(self, use: StorageUse, stored: Stored) -> None:
        """Write into each running box how full its disk is. It only informs: a fault is tried again next time."""
        for record in stored.reservations:
            disk = stored.disks.get(record.disk_id or "")
            known = use.disks.get(record.disk_id or "")
            if record.state is not State.ACTIVE or disk is None or known is None or known.live_bytes is None:
                continue
            text = _disk_use(disk, known)
            if self._written_disk_use.get(record.id) == (text, record.version):
                continue
            try:
                for name in box_names(record):
                    self._ports.cluster.write_files(name, {"disk_use": text})
                # A record that changes may have a box that was made again, with the files of its beginning.
                self._written_disk_use[record.id] = (text, record.version)
            except ProviderError as error:
                log.info("the use of a disk could not be written into its box", extra={"reason": error.message})
        live = {record.id for record in stored.reservations}
        self._written_disk_use = {key: text for key, text in self._written_disk_use.items() if key in live}


def _disk_use(disk: Disk, use: DiskUse) -> bytes:
    """Bytes of the disk and bytes that its files take, rounded: the file is not written for every small change."""
    step = max(disk.size_bytes // DISK_USE_STEPS, 1)
    used = -(-(use.live_bytes or 0) // step) * step
    return f"{disk.size_bytes} {min(used, disk.size_bytes)}\n".encode()


def _nearly_full(use: StorageUse, level: Level) -> Problem:
    kind = ProblemKind.STORAGE_FULL if level is Level.FULL else ProblemKind.STORAGE_LOW
    return Problem(kind=kind, free_bytes=use.free_bytes, total_bytes=use.total_bytes)
