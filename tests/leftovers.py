"""A run leaves nothing behind: checked when it ends, also after failures. Remains of a killed run go at the start."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from tests.lane import LOCKS, RUN_LANE, RUN_VARIABLE
from tests.loops import is_kept_elsewhere
from tests.remains import Owner, Remain, is_quiet, list_remains, remove, remove_after

ROOT = Path(__file__).parent
OF_THE_ENGINE = ("/run/netns", "/var/lib/containers/storage/overlay")
"""Mounts that the engine makes once, with the machine's first container, and keeps."""
GRACE_S = 10.0
"""How long something may take to go by itself after the last test."""


def uses_the_machine(config: pytest.Config) -> bool:
    """Whether tests of real components may run: as root, and not only unit tests and those of the docs."""
    if os.geteuid() != 0 or config.option.collectonly:
        return False
    places = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    return not all(any(place.is_relative_to(ROOT / tier) for tier in ("unit", "docs")) for place in places)


class Leftovers:
    """Compares the machine after a run with the machine before it.

    Another run of the same lane at the same time would be taken for a part of this one: then nothing is compared.
    """

    def __init__(self) -> None:
        self.owner = Owner(run=uuid.uuid4().hex, folder="")
        self.found: list[Remain] = []
        self._before: set[Remain] = set()
        os.environ[RUN_VARIABLE] = self.owner.run
        LOCKS.mkdir(mode=0o755, exist_ok=True)
        self._record: IO[str] | None = (LOCKS / f"lane-{RUN_LANE}").open("a+")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remove what a run of this lane left that was killed, and note what there is."""
        assert self._record is not None
        folders: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        self.owner = replace(self.owner, folder=str(folders.getbasetemp()))
        try:
            fcntl.flock(self._record, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._record.close()
            self._record = None
            return
        self._record.seek(0)
        run, _, folder = self._record.read().partition(" ")
        remove_after(Owner(run=run, folder=folder))
        self._record.truncate(0)
        self._record.write(f"{self.owner.run} {self.owner.folder}")
        self._record.flush()
        self._before = set(list_remains())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look again, and let the run fail if something is left."""
        if self._record is None:
            return
        end = time.monotonic() + GRACE_S
        while (found := self._left()) and time.monotonic() < end:
            time.sleep(0.2)
        self.found = found
        remove(remain for remain in found if self.owner.has(remain))
        if found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List what was left."""
        if self._record is None:
            terminalreporter.write_line(f"Leftovers were not looked for: lane {RUN_LANE} has another run.")
        elif self.found:
            terminalreporter.section("left behind by this run", red=True)
            for remain in self.found:
                terminalreporter.write_line(str(remain))

    def _left(self) -> list[Remain]:
        now = list_remains()
        quiet = is_quiet(self._before, self.owner) and is_quiet(now, self.owner)
        new = [remain for remain in now if remain not in self._before]
        return [
            remain for remain in new if (quiet and _counts(remain)) or (self.owner.has(remain) and _is_sure(remain))
        ]


def _counts(remain: Remain) -> bool:
    """Whether it is a leftover although nothing says whose it is: processes and rules come and go."""
    return remain.kind not in ("process", "rule", "chain") and remain.name not in OF_THE_ENGINE


def _is_sure(remain: Remain) -> bool:
    """Whether no container of another run keeps it."""
    return remain.kind != "loop device" or not is_kept_elsewhere(remain.name)
