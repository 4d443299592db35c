"""A runner whose tasks run when the test lets them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from odc.control import host_monitor, record_pruning, storage_maintenance
from odc.control.task_runner import Call, InlineRunner, Outcome, TaskId


class HeldRunner:
    """Tasks run when the test lets them."""

    def __init__(self) -> None:
        self._inline = InlineRunner()
        self._held: dict[str, tuple[TaskId, Call]] = {}

    def start(self, key: str, task: TaskId, call: Call) -> None:
        if key in (storage_maintenance.TASK_KEY, record_pruning.TASK_KEY, host_monitor.TASK_KEY):
            self._inline.start(key, task, call)
            return
        assert key not in self._held, f"{task} was started while {self._held[key][0]} runs"
        self._held[key] = (task, call)

    def busy(self) -> frozenset[str]:
        return frozenset(self._held)

    def collect(self) -> Mapping[str, Outcome]:
        return self._inline.collect()

    def join(self, limit: timedelta) -> bool:
        return self._inline.join(limit)

    def running(self) -> list[str]:
        return [task.name for task, _ in self._held.values()]

    def finish(self) -> None:
        """Every task that runs comes to its end."""
        held, self._held = self._held, {}
        for key, (task, call) in held.items():
            self._inline.start(key, task, call)
