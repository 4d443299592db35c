"""The engine's API service: a process of ODC's own beside the daemon. Boxes go on when either of them dies.

It runs with a private configuration, chosen by what the machine has, so that the host's own engine settings stay as
they are.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from odc.adapters.engine.api import PodmanApi
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable

START_LIMIT_S = 15.0
# Podman lowers its own process limit to this, and no box may have more than its engine.
PROCESSES = 32768
OPEN_FILES = 1_048_576


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine has that the engine's configuration depends on."""

    systemd: bool
    cgroup_v2: bool
    runtime: str
    open_files: int
    processes: int


def look_at_machine() -> Machine:
    """Find out. With systemd and cgroup v2 the usual choices stand; otherwise runc and plain cgroup folders.

    Raises:
        ProviderRefused: there is no runtime for containers.
    """
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    wanted = ("crun", "runc") if unified else ("runc",)
    runtime = next((name for name in wanted if shutil.which(name)), None)
    if runtime is None:
        raise ProviderRefused(
            f"no container runtime: {' or '.join(wanted)}", ("install it", "sudo apt-get install runc")
        )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return Machine(
        systemd=Path("/run/systemd/system").exists(),
        cgroup_v2=unified,
        runtime=runtime,
        open_files=OPEN_FILES if files == resource.RLIM_INFINITY else min(files, OPEN_FILES),
        processes=PROCESSES if processes == resource.RLIM_INFINITY else min(processes, PROCESSES),
    )


def configuration(machine: Machine) -> str:
    """The engine's private `containers.conf`."""
    manager = "systemd" if machine.systemd and machine.cgroup_v2 else "cgroupfs"
    events = "journald" if machine.systemd else "file"
    return (
        "[containers]\n"
        f'default_ulimits = ["nofile={machine.open_files}:{machine.open_files}"]\n'
        "[engine]\n"
        f'cgroup_manager = "{manager}"\nevents_logger = "{events}"\nruntime = "{machine.runtime}"\n'
        "[network]\n"
        'network_backend = "netavark"\n'
    )


class EngineService:
    """Starts, finds and stops the service of one cloud."""

    def __init__(self, folder: Path) -> None:
        """Name the service's folder: its socket, configuration and log."""
        self._folder = folder
        self.socket = folder / "podman.sock"
        self._pid_file = folder / "podman.pid"

    @property
    def environment(self) -> dict[str, str]:
        """For the engine's own commands, so that they see what the service sees."""
        return {**os.environ, "CONTAINERS_CONF": str(self._folder / "containers.conf")}

    def ensure(self) -> PodmanApi:
        """The service's API; started if it does not answer.

        Raises:
            ProviderRefused: Podman is not installed, or does not start; with its last words.
        """
        api = PodmanApi(self.socket)
        if self._answers(api):
            return api
        if shutil.which("podman") is None:
            raise ProviderRefused("Podman is not installed", ("install it", "sudo apt-get install podman"))
        self._start()
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers(api):
            if time.monotonic() > deadline:
                raise ProviderUnavailable(f"Podman's service does not come up: {self._last_words()}")
            time.sleep(0.05)
        return api

    def stop(self) -> None:
        """End the service; boxes go on. Nothing to stop is no error."""
        pid = self._pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def _answers(self, api: PodmanApi) -> bool:
        if not self.socket.exists():
            return False
        try:
            return api.get("/info") is not None
        except ProviderError:
            return False

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.stop()
        (self._folder / "containers.conf").write_text(configuration(look_at_machine()))
        with (self._folder / "podman.log").open("ab") as log:
            process = subprocess.Popen(
                ["podman", "system", "service", "--time", "0", f"unix://{self.socket}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._pid_file.write_text(str(process.pid))

    def _pid(self) -> int | None:
        """The running service's process, if the noted one is really it."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self.socket).encode() in command else None

    def _last_words(self) -> str:
        log = self._folder / "podman.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1] if lines else "it says nothing"
