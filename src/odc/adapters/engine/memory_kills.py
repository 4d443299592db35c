"""How often the kernel killed a box's processes for memory: from the box's memory cgroup and from the kernel's log.

The cgroup's counter is exact and belongs to one start of the box: it is gone with the first process. The log
(/dev/kmsg) has the command and the time, also of the kill that ended the box, but it drops lines under load and may
not be readable. The engine's own flag `OOMKilled` stays false when a child of the first process is killed.

Sources: cgroup-v1/memory.rst (`memory.oom_control`), cgroup-v2.rst (`memory.events`), dev-kmsg(5).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from odc.domain.box import MemoryKills

KERNEL_LOG = Path("/dev/kmsg")
RECORD_BYTES = 8192
MOST_RECORDS = 100_000
"""Of the log, in one go: more than any kernel keeps."""
MOST_BOXES = 1000
"""Containers whose kills are remembered; those of this machine's other containers are among them."""
# The command is last and chosen by its user: everything before it is matched first.
_KILL = re.compile(r"oom-kill:.*?,task_memcg=[^,]*?([0-9a-f]{64})[^,]*,task=(.*),pid=\d+,uid=-?\d+$")


def counter_file(pid: int, uid: str, proc: Path = Path("/proc")) -> Path | None:
    """Return the file with the kill counter of a box; None if there is none.

    Args:
        pid: of the box's first process.
        uid: the engine's id of the box; it is part of the name of the box's cgroup.
        proc: where the kernel's process files are.
    """
    try:
        groups = [line.split(":", 2) for line in (proc / str(pid) / "cgroup").read_text().splitlines()]
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    by_controller = {name: path for _, names, path in (g for g in groups if len(g) == 3) for name in names.split(",")}
    if "memory" in by_controller:
        folder = _folder(mounts, "cgroup", "memory", by_controller["memory"])
        return folder / "memory.oom_control" if folder else None
    # In v2 the counter includes everything below: the engine may put the first process into a group below the box's.
    whole = _cut_behind(by_controller.get("", ""), uid)
    folder = _folder(mounts, "cgroup2", "", whole) if whole else None
    return folder / "memory.events" if folder else None


def _cut_behind(path: str, uid: str) -> str:
    """The path up to the first component that names the box; the whole path if none does."""
    parts = path.split("/")
    found = next((index for index, part in enumerate(parts) if uid in part), len(parts) - 1)
    return "/".join(parts[: found + 1])


def _folder(mounts: list[str], kind: str, controller: str, path: str) -> Path | None:
    """Return the folder of a cgroup in the file system, by the lines of `mountinfo`. Source: proc(5)."""
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields, words = left.split(), right.split()
        if len(fields) < 5 or len(words) < 3 or words[0] != kind:
            continue
        if controller and controller not in words[2].split(","):
            continue
        root = fields[3].rstrip("/")
        if path == root or path.startswith(f"{root}/"):
            return Path(fields[4]) / path.removeprefix(root).lstrip("/")
    return None


def read_count(path: Path) -> int | None:
    """The counter `oom_kill` of `memory.oom_control` or `memory.events`; None if it cannot be read."""
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        pass
    return None


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill as the kernel's log has it: seconds since the epoch, and the name of the process."""

    at: float
    command: str


class KernelLog:
    """The kills in the kernel's log, by container id. Several threads may call at once."""

    def __init__(self, path: Path = KERNEL_LOG) -> None:
        """Store the path; the log is opened by the first `update`."""
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._kills: dict[str, list[Kill]] = {}

    def kills(self, uid: str) -> tuple[Kill, ...]:
        """Return the kills of this container, oldest first; none if the log cannot be read. Call `update` first."""
        with self._lock:
            return tuple(self._kills.get(uid, ()))

    def update(self) -> None:
        """Read the lines that were logged since the last call."""
        with self._lock:
            live = self._descriptor is not None
            if self._descriptor is None:
                try:
                    self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    return
            for _ in range(MOST_RECORDS):
                try:
                    record = os.read(self._descriptor, RECORD_BYTES)
                except BrokenPipeError:  # records were overwritten before they were read
                    continue
                except OSError:
                    return
                if not record:
                    return
                for line in record.decode(errors="replace").splitlines():
                    self._take(line, live)

    def _take(self, line: str, live: bool) -> None:
        """Record a line, `priority,number,microseconds since boot,…;text`, if it reports a kill in a container.

        The log's clock drifts from the wall clock by up to a minute a month, so a line that was just logged gets the
        current time.
        """
        head, _, text = line.partition(";")
        found = _KILL.match(text)
        if found is None:
            return
        since_boot = int(head.split(",")[2]) / 1e6
        at = time.time() - (0 if live else time.clock_gettime(time.CLOCK_MONOTONIC) - since_boot)
        uid, command = found[1], re.sub(r"[^\x20-\x7e]", "?", found[2])[:64]
        self._kills.setdefault(uid, []).append(Kill(at, command))
        del self._kills[uid][:-MOST_BOXES]
        while len(self._kills) > MOST_BOXES:
            del self._kills[next(iter(self._kills))]


class MemoryWatch:
    """Counts the memory kills of each box since its last start."""

    def __init__(self, log: KernelLog | None = None) -> None:
        """Nothing is read yet."""
        self._log = log or KernelLog()
        self._files: dict[str, tuple[int, Path | None]] = {}

    def begin(self, uids: frozenset[str]) -> None:
        """Read the log for a list of boxes, and forget boxes that are not in it."""
        self._log.update()
        self._files = {uid: known for uid, known in self._files.items() if uid in uids}

    def of(self, entry: Mapping[str, Any], was_killed: Callable[[], bool]) -> MemoryKills | None:
        """Return the kills of one box; None if they are unknown, as for a box that was never started.

        Args:
            entry: of the engine's list.
            was_killed: asks the engine whether the box ended for lack of memory; called if there is no other source.
        """
        uid, started = str(entry["Id"]), entry.get("StartedAt") or 0
        if started <= 0:
            return None
        told = [kill for kill in self._log.kills(uid) if kill.at >= started]
        count = self._count(uid, int(entry.get("Pid") or 0))
        if count is None:
            count = len(told) or int(entry.get("ExitCode") == 137 and was_killed())
        last = told[-1] if told and count else None
        return MemoryKills(
            life=str(started),
            count=count,
            last_at=datetime.fromtimestamp(last.at, UTC) if last else None,
            command=last.command if last else "",
        )

    def _count(self, uid: str, pid: int) -> int | None:
        if pid <= 0:
            return None
        known = self._files.get(uid)
        if known is None or known[0] != pid:
            known = (pid, counter_file(pid, uid))
            self._files[uid] = known
        return read_count(known[1]) if known[1] else None
