"""The tasks on boxes and disks. They run next to the passes.

A task works for one attempt in one state. Every step of it may run twice, because tasks are started again after a crash
and after a fault. Each step therefore does nothing if it is done already, and names everything that it makes after the
reservation and the attempt. No step waits for something that happens by itself: it returns what it waits for, and is
called again (`phased_task`).

The record may move on while the task runs: the user cancels, or another daemon requeues it. So the record is read again
before each step that makes something. If it has moved on, the task stops where it is (`Superseded`) and cleans up
nothing. That is the work of the task for the new state, which starts only when this one has ended.
"""

from __future__ import annotations

from datetime import timedelta

from odc.control.box_files import AppliedConfig, BoxAccess, box_config_digest
from odc.control.box_start import BoxStart, find_disk, find_host_key, specs_of
from odc.control.box_stop import BoxStop
from odc.control.context import Policy, Ports
from odc.control.disk_end import DiskEnd
from odc.control.lease import PassLease
from odc.control.phased_task import PhasedTask
from odc.control.task_guard import TaskGuard
from odc.control.task_runner import Call, Done, NotYet
from odc.domain.box import BoxSeen
from odc.domain.errors import ProviderUnavailable
from odc.domain.node import Node
from odc.domain.reservation import Reservation, UnderWay


class Tasks:
    """Makes the tasks, over the ports. A task does nothing before it is called."""

    def __init__(self, ports: Ports, policy: Policy, lease: PassLease) -> None:
        """Store the arguments.

        Args:
            ports: what the tasks act on.
            policy: the operator's.
            lease: a task whose process loses it stops before its next step.
        """
        self._ports = ports
        self._policy = policy
        self._lease = lease

    def prepare(self, record: Reservation, nodes: tuple[Node, ...], epoch: int) -> Call:
        """Make and start every box of the attempt; through when SSH answers. Its value is `Ready`.

        It also restarts a box that has stopped: the steps that are done already do nothing. The task raises
        `Superseded` if the record has moved on, and `ProviderError` with the phase in which it happened.
        """

        start = BoxStart(self._ports, self._policy, self._guard(epoch), record, nodes)
        return PhasedTask(record, self._ports.clock, start.steps(), start.ready)

    def refresh_files(self, record: Reservation, nodes: tuple[Node, ...], epoch: int) -> Call:
        """Write the boxes' files again, because the expiry time, the keys or the operator's settings have changed.

        The keys are left as they are if the owner has none: an empty list would lock out a user who works in the box.
        Its value is `box_files.AppliedConfig`.
        """

        def call() -> Done:
            user = self._ports.store.find_user(record.owner)
            if user is None:
                raise ProviderUnavailable(f"{record.user} has no record")
            access = BoxAccess(user.keys, find_host_key(self._ports, record))
            for spec in specs_of(record, nodes, access, find_disk(self._ports, record), None, self._policy):
                self._guard(epoch).check_lease()
                # `disk_use` is measured and written by the storage maintenance.
                kept = {"disk_use"} if user.keys else {"disk_use", "authorized_keys"}
                files = {path: content for path, content in spec.files.items() if path not in kept}
                self._ports.cluster.write_files(spec.name, files)
            digest = box_config_digest(record, user.keys_digest, self._policy)
            return Done(AppliedConfig(digest, user.keys_digest, record.owner_keys))

        return call

    def stop(self, record: Reservation, boxes: tuple[BoxSeen, ...], epoch: int) -> Call:
        """Stop and delete the boxes of this attempt and earlier ones. Afterwards none of them occupies a GPU.

        Args:
            record: ENDING.
            boxes: every box of the cloud, as the pass observed it.
            epoch: of the lease.
        """
        end = BoxStop(self._ports, self._policy, self._guard(epoch), record, boxes)
        return PhasedTask(record, self._ports.clock, end.steps())

    def clean(self, record: Reservation, epoch: int) -> Call:
        """Delete the attempt's network and files, detach the disk, and take its snapshot if it may have changed.

        Its value is `Cleaned`.
        """
        end = DiskEnd(self._ports, self._guard(epoch), record)
        return PhasedTask(record, self._ports.clock, end.steps(), end.cleaned)

    def remove(self, box: BoxSeen, epoch: int) -> Call:
        """Delete a box whose record has ended or is at a later attempt."""

        def call() -> Done | NotYet:
            self._guard(epoch).check_lease()
            if not self._ports.cluster.end_box(box.name, box.uid, timedelta(0)):
                return NotYet(UnderWay(name="stop", since=self._ports.clock.now()))
            self._ports.cluster.clean_up(box.name.reservation_id, box.name.attempt)
            return Done()

        return call

    def _guard(self, epoch: int) -> TaskGuard:
        return TaskGuard(self._ports.store, self._lease, epoch)
