"""lxcfs: makes `free` and its like show a box's own limits. A process that outlives the daemon.

Boxes read its files, which are mounted when they start. If it dies, those files fail until the box is started again; a
new lxcfs serves boxes started from then on. If it hangs, readers of its files block until it ends. So its files are
read here only with a time limit, and an lxcfs that does not answer in time is killed.
"""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from enum import Enum
from pathlib import Path

from odc.adapters.engine.processes import is_running, reap, start_detached
from odc.host import PidFile, locked, poll_until

log = logging.getLogger(__name__)

SYSTEM = Path("/var/lib/lxcfs")
START_LIMIT_S = 5.0
STOP_LIMIT_S = 3.0
ANSWER_LIMIT_S = 10.0
"""After so long without an answer it hangs. It usually answers within a millisecond."""
_FILES = ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg")


def lxcfs_files(folder: Path | None) -> dict[str, Path]:
    """Return the files that replace the kernel's in a box: path in the box to path on the host.

    A dead lxcfs is started again; if none can be started, the result is empty.

    Args:
        folder: of this cloud's own lxcfs; None: no lxcfs is used.
    """
    running = None if folder is None else ensure_lxcfs(folder)
    if running is None:
        return {}
    files = {f"/proc/{name}": running / "proc" / name for name in _FILES}
    with suppress(OSError):  # it died just now
        return {target: source for target, source in files.items() if source.exists()}
    return {}


def ensure_lxcfs(folder: Path) -> Path | None:
    """Return the folder of a running lxcfs: the system's, or this cloud's, which is started if needed; None without
    lxcfs.

    It is never restarted while it answers, since running boxes use it. This cloud's own is killed if it hangs.
    Several processes may call at once.
    """
    found = _running(folder)
    program = shutil.which("lxcfs")
    if found is not None or program is None or not Path("/dev/fuse").exists():
        return found
    try:
        with locked(folder.with_suffix(".lock")):
            return _running(folder) or _start(program, folder)
    except OSError as error:
        log.warning("lxcfs cannot be started: %s", error)
        return None


def _running(folder: Path) -> Path | None:
    return next((candidate for candidate in (SYSTEM, folder) if _state(candidate) is _State.ANSWERS), None)


def _start(program: str, folder: Path) -> Path | None:
    _end_if_hung(folder)
    _unmount(folder)
    folder.mkdir(parents=True, exist_ok=True)
    noted = _pid_file(folder)
    noted.remove()
    pid = start_detached([program, "-p", str(noted.path), str(folder)], folder.with_suffix(".log"))
    poll_until(lambda: _state(folder) is _State.ANSWERS or not is_running(pid), START_LIMIT_S)
    if _state(folder) is _State.ANSWERS:
        return folder
    log.warning("lxcfs did not start; see %s", folder.with_suffix(".log"))
    return None


def has_died(folder: Path) -> bool:
    """Whether boxes were started with an lxcfs of this cloud that is dead or hangs; True only until the next one is
    started."""
    return _state(folder) in (_State.DEAD, _State.HANGS)


def stop_lxcfs(folder: Path) -> None:
    """Stop this cloud's own lxcfs, alive or dead, and wait until it has ended. No box may be left."""
    _end_if_hung(folder)
    _unmount(folder)
    # It ends by itself once its mount is gone, unless others still see the mount.
    noted = _pid_file(folder)

    def has_ended() -> bool:
        reap()
        return noted.running() is None

    while not poll_until(has_ended, STOP_LIMIT_S):
        noted.signal(signal.SIGKILL)
    noted.remove()


def _pid_file(folder: Path) -> PidFile:
    """Return the file in which lxcfs writes its process id; it deletes the file when it ends."""
    return PidFile(folder.with_suffix(".pid"), str(folder))


class _State(Enum):
    """The state of an lxcfs."""

    ANSWERS = "answers"
    DEAD = "dead"
    HANGS = "hangs"
    ABSENT = "absent"


class _Look:
    """One read of an lxcfs's files, in a separate thread, which may block until the process ends."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "proc" / "meminfo"
        self._found = _State.HANGS
        self.thread = threading.Thread(target=self._read, daemon=True, name="lxcfs")
        self.thread.start()

    def _read(self) -> None:
        try:
            answers = b"MemTotal" in self._file.read_bytes()
            self._found = _State.ANSWERS if answers else _State.ABSENT
        except OSError as error:
            self._found = _State.DEAD if error.errno == errno.ENOTCONN else _State.ABSENT

    def wait(self, seconds: float) -> _State:
        """Return the state; `HANGS` if it is not known in time."""
        self.thread.join(seconds)
        return self._found


_hung: dict[Path, _Look] = {}
"""Reads that still block: another one would block too."""


def _state(folder: Path) -> _State:
    earlier = _hung.get(folder)
    if earlier is not None and earlier.thread.is_alive():
        return _State.HANGS
    _hung.pop(folder, None)
    look = _Look(folder)
    found = look.wait(ANSWER_LIMIT_S)
    if found is _State.HANGS:
        log.warning("lxcfs in %s does not answer", folder)
        _hung[folder] = look
    return found


def _end_if_hung(folder: Path) -> None:
    """Kill this cloud's own lxcfs if it hangs; blocked readers, here and in boxes, then get an error."""
    noted = _pid_file(folder)
    if noted.running() is None or _state(folder) is not _State.HANGS:
        return
    noted.signal(signal.SIGKILL)
    if (look := _hung.get(folder)) is not None:
        look.wait(STOP_LIMIT_S)
    reap()


def _unmount(folder: Path) -> None:
    """Remove every mount of a dead or finished lxcfs; there may be none."""
    while subprocess.run(["umount", "-l", str(folder)], capture_output=True).returncode == 0:
        pass
