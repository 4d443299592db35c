"""The steps after the boxes of an attempt are gone: clean up, detach the disk, take its snapshot. See `phased_task`."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from odc.control.box_files import holder_of
from odc.control.box_start import find_disk
from odc.control.context import Ports
from odc.control.phased_task import TaskStep
from odc.control.task_guard import TaskGuard
from odc.domain.disk import Snapshot, snapshot_id
from odc.domain.errors import InvariantError, ProviderRefused, ProviderUnavailable
from odc.domain.reservation import Phase, Reservation


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Result of a clean-up.

    Attributes:
        snapshot: the disk's new one, if one was made.
        unlisted: why its files are not listed; empty if they are.
        phases: those that are not in the record, with how long they took.
    """

    snapshot: Snapshot | None = None
    unlisted: str = ""
    phases: tuple[Phase, ...] = ()


class DiskEnd:
    """One clean-up of an attempt."""

    def __init__(self, ports: Ports, guard: TaskGuard, record: Reservation) -> None:
        """Prepare; nothing is changed yet.

        Args:
            ports: what the steps act on.
            guard: of this task.
            record: ENDING, its boxes gone.
        """
        self._ports = ports
        self._guard = guard
        self._record = record
        self._snapshot: Snapshot | None = None
        self._unlisted = ""

    def steps(self) -> list[TaskStep]:
        """The steps, in order."""
        record = self._record
        steps = [TaskStep("", self._clean_up)]
        if record.disk_id is not None:
            steps.append(TaskStep("detach", self._detach))
            # A box that was never ready has not changed its disk.
            if not record.requeue and record.active_at is not None:
                steps.append(TaskStep("snapshot", self._take_snapshot))
                steps.append(TaskStep("listing", self._list_files, lambda: self._unlisted))
        return steps

    def cleaned(self, phases: tuple[Phase, ...]) -> Cleaned:
        """The result, after the last step."""
        return Cleaned(snapshot=self._snapshot, unlisted=self._unlisted, phases=phases)

    def _clean_up(self) -> str:
        self._guard.check_lease()
        self._ports.cluster.clean_up(self._record.id, self._record.attempt)
        find_disk(self._ports, self._record)
        return ""

    def _detach(self) -> str:
        self._guard.check_lease()
        through = self._ports.volumes.detach(self._record.disk_id or "", holder_of(self._record))
        return "" if through else "its volume is being detached"

    def _take_snapshot(self) -> str:
        self._guard.check_lease()
        # Named after the attempt, so that a second run returns the snapshot of the first.
        name = snapshot_id(holder_of(self._record))
        self._snapshot = self._ports.volumes.snapshot(self._record.disk_id or "", name)
        return "" if self._snapshot else "the disk is being copied"

    def _list_files(self) -> str:
        if self._snapshot is None:
            raise InvariantError(f"{self._record.id}: its snapshot comes before its listing")
        self._guard.check_lease()
        disk_id = self._record.disk_id or ""
        listing = f"listings/{disk_id}/{self._snapshot.id}"
        try:
            if not self._ports.volumes.write_listing(disk_id, self._snapshot.id, listing):
                return "the files are being listed"
        except ProviderRefused as error:
            self._check_snapshot(disk_id, self._snapshot.id)
            # The listing only informs. A lasting fault of it must not keep the disk from its next reservation.
            self._unlisted = error.message
            return ""
        self._snapshot = replace(self._snapshot, listing=listing)
        return ""

    def _check_snapshot(self, disk_id: str, snapshot: str) -> None:
        """Check that the snapshot was not deleted meanwhile; the task then starts again and takes another one."""
        if all(one.id != snapshot for one in self._ports.volumes.list_snapshots(disk_id)):
            raise ProviderUnavailable(f"snapshot {snapshot} of disk {disk_id} was deleted before its files were listed")
