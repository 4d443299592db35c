"""lxcfs: makes `free` and its like show a box's own limits. A process that outlives the daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from odc.adapters.engine.children import reap, start_detached

SYSTEM = Path("/var/lib/lxcfs")
START_LIMIT_S = 5.0
STOP_LIMIT_S = 3.0


def ensure_lxcfs(folder: Path) -> Path | None:
    """The folder of a running lxcfs: the system's, or one of this cloud's, started if need be; None without lxcfs.

    Running boxes look through it: it is never restarted while it answers.
    """
    for candidate in (SYSTEM, folder):
        if _answers(candidate):
            return candidate
    program = shutil.which("lxcfs")
    if program is None or not Path("/dev/fuse").exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    _unmount(folder)
    _pid_file(folder).unlink(missing_ok=True)
    start_detached([program, "-p", str(_pid_file(folder)), str(folder)], folder.with_suffix(".log"))
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if _answers(folder):
            return folder
        time.sleep(0.02)
    return None


def stop_lxcfs(folder: Path) -> None:
    """End this cloud's own lxcfs and wait for its end; only when no box is left."""
    if not os.path.ismount(folder):
        return
    _unmount(folder)
    deadline = time.monotonic() + STOP_LIMIT_S
    while _pid_file(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    reap()


def _pid_file(folder: Path) -> Path:
    """Where it notes its process; it deletes the file when it ends."""
    return folder.with_suffix(".pid")


def _answers(folder: Path) -> bool:
    try:
        return b"MemTotal" in (folder / "proc" / "meminfo").read_bytes()
    except OSError:
        return False


def _unmount(folder: Path) -> None:
    """Take away the mount of a dead or finished lxcfs; there may be none."""
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)
