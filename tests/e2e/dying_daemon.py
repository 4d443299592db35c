"""The daemon with a bomb in it: kills itself with SIGKILL right before its Nth side effect, counted by a file.

Run by the environment that the cloud is installed in: `python dying_daemon.py SETTINGS_FILE FUSE`. The file FUSE says
how many side effects are left; FUSE.lock is held while it is read or changed. Without it the daemon is an ordinary one.
It is deleted before the kill, so that the daemon that comes next goes on.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from odc.entrypoints.bootstrap.cloud import MachineCloud
from odc.entrypoints.bootstrap.local import LocalBackend
from odc.entrypoints.bootstrap.machine import serve
from odc.operator.logs import set_up_logs
from odc.operator.settings import Settings
from odc.operator.settings_file import read_settings

EFFECTS = {
    "store": {"commit"},
    "cluster": {"create_box", "start_box", "write_files", "end_box", "clean_up"},
    "volumes": {"create", "attach", "detach", "snapshot", "write_listing"},
}


class Bomb:
    """Counts side effects of all threads while there is a fuse; the last does not happen."""

    def __init__(self, fuse: Path) -> None:
        self._fuse = fuse
        self._lock = threading.Lock()
        self._shared = fuse.with_suffix(".lock").open("w")

    def tick(self, what: str) -> None:
        """Before a side effect."""
        with self._lock:
            fcntl.flock(self._shared, fcntl.LOCK_EX)
            try:
                self._burn(what)
            finally:
                fcntl.flock(self._shared, fcntl.LOCK_UN)

    def _burn(self, what: str) -> None:
        if not self._fuse.exists():
            return
        left = int(self._fuse.read_text()) - 1
        if left > 0:
            self._fuse.write_text(str(left))
            return
        self._fuse.unlink()
        print(f"killed before {what}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Mined:
    """One adapter whose side effects tick."""

    def __init__(self, adapter: Any, port: str, bomb: Bomb) -> None:
        self._adapter, self._port, self._bomb = adapter, port, bomb

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        if name not in EFFECTS[self._port]:
            return found

        def ticking(*arguments: Any, **options: Any) -> Any:
            self._bomb.tick(f"{self._port}.{name}")
            return found(*arguments, **options)

        return ticking


class MinedBackend(LocalBackend):
    """Builds the cloud with the bomb in every port that acts on the outside."""

    def __init__(self, settings: Settings, bomb: Bomb) -> None:
        super().__init__(settings, os.environ)
        self._bomb = bomb

    def build(self) -> MachineCloud:
        """The cloud of these settings."""
        cloud = super().build()
        ports = {port: Mined(getattr(cloud.ports, port), port, self._bomb) for port in EFFECTS}
        return dataclasses.replace(cloud, ports=dataclasses.replace(cloud.ports, **ports))


if __name__ == "__main__":
    set_up_logs()
    read = read_settings(Path(sys.argv[1]), {})
    serve(read, MinedBackend(read, Bomb(Path(sys.argv[2]))))
