"""lxcfs: makes `free` and its like show a box's own limits. A process that outlives the daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

SYSTEM = Path("/var/lib/lxcfs")
START_LIMIT_S = 5.0


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
    subprocess.Popen(
        [program, "-p", str(folder.with_suffix(".pid")), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if _answers(folder):
            return folder
        time.sleep(0.05)
    return None


def stop_lxcfs(folder: Path) -> None:
    """End this cloud's own lxcfs; only when no box is left."""
    if os.path.ismount(folder):
        _unmount(folder)


def _answers(folder: Path) -> bool:
    try:
        return b"MemTotal" in (folder / "proc" / "meminfo").read_bytes()
    except OSError:
        return False


def _unmount(folder: Path) -> None:
    """Take away the mount of a dead or finished lxcfs; there may be none."""
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)
