"""Whether the processes of a run end together: how long each was idle at the end, and which files took longest."""

from __future__ import annotations

import time
from collections import defaultdict

import pytest

TOLD_S = 60.0
"""Shorter runs say nothing."""
FILES = 5


class Balance:
    """Adds a few lines to the summary of a run in several processes."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._last: dict[str, float] = {}
        self._files: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note when a process has ended a part of a test, and how long it took."""
        worker = getattr(report, "worker_id", "")
        if worker:
            self._last[worker] = time.monotonic()
            self._files[report.nodeid.partition("::")[0]] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell it."""
        if len(self._last) < 2 or time.monotonic() - self._begun < TOLD_S:
            return
        end = max(self._last.values())
        idle = ", ".join(f"{worker} {end - last:.0f} s" for worker, last in sorted(self._last.items()))
        terminalreporter.section("processes")
        terminalreporter.write_line(f"idle at the end: {idle}")
        longest = sorted(self._files.items(), key=lambda item: -item[1])[:FILES]
        terminalreporter.write_line("longest files: " + ", ".join(f"{name} {spent:.0f} s" for name, spent in longest))
