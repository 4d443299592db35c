"""The step that ends the boxes of a reservation. See `phased_task`."""

from __future__ import annotations

from odc.control.box_files import box_names
from odc.control.context import Policy, Ports
from odc.control.phased_task import TaskStep
from odc.control.task_guard import TaskGuard
from odc.domain.box import BoxName, BoxSeen
from odc.domain.reservation import Reservation


class BoxStop:
    """Ends the boxes of an attempt and of earlier ones. Afterwards none of them occupies a GPU."""

    def __init__(
        self, ports: Ports, policy: Policy, guard: TaskGuard, record: Reservation, boxes: tuple[BoxSeen, ...]
    ) -> None:
        """Prepare; nothing is ended yet.

        Args:
            ports: what the step acts on.
            policy: the operator's.
            guard: of this task.
            record: ENDING.
            boxes: every box of the cloud, as the pass observed it; the last check lists again.
        """
        self._ports = ports
        self._policy = policy
        self._guard = guard
        self._record = record
        self._left = self._ours(boxes)
        # A box that the record names is deleted even if it is not listed: its GPUs are given away after this.
        named = zip(box_names(record), record.places, strict=True)
        self._left |= {place.uid: name for name, place in named if place.uid}

    def steps(self) -> list[TaskStep]:
        """The step."""
        return [TaskStep("stop", self._end_all)]

    def _end_all(self) -> str:
        self._end_left()
        if not self._left:
            # Through once a list shows none: a task of an earlier attempt may have made one after the list before. The
            # next call ends it.
            self._left = self._ours(self._ports.cluster.list_boxes())
        return "its processes are ending" if self._left else ""

    def _end_left(self) -> None:
        """Ask every box that is left to end, and forget those that are gone."""
        for uid, name in tuple(self._left.items()):
            self._guard.check_lease()
            if self._ports.cluster.end_box(name, uid, self._policy.grace):
                del self._left[uid]

    def _ours(self, boxes: tuple[BoxSeen, ...]) -> dict[str, BoxName]:
        """Return uid and name of the boxes of this attempt and of earlier ones."""
        record = self._record
        return {
            box.uid: box.name
            for box in boxes
            if box.name.reservation_id == record.id and box.name.attempt <= record.attempt
        }
