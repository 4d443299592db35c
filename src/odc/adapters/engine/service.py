"""The engine's API service: a process of ODC's own, next to the daemon. Boxes keep running when either of them dies.

It runs with a private configuration, chosen by what the machine has, so that the host's own engine settings stay as
they are.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from odc.adapters.engine.box_limits import limit_engine
from odc.adapters.engine.network_namespaces import share_namespaces
from odc.adapters.engine.podman_api import PodmanApi
from odc.adapters.engine.processes import end_process, start_detached
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable
from odc.host import PidFile, locked, poll_until, write_atomically

log = logging.getLogger(__name__)

START_LIMIT_S = 15.0
STOP_LIMIT_S = 5.0
ANSWER_LIMIT_S = 10.0
REVIVE_PAUSE_S = 5.0
_CHOSEN = Path("/var/lib/containers/storage/defaultNetworkBackend")
# Podman lowers its own process limit to this, and no box may have more than its engine.
PROCESSES = 32768
OPEN_FILES = 1_048_576
# ssh sends its first messages in small pieces and waits for the acknowledgement of each, which the kernel delays by
# 40 ms on interactive connections. With a higher threshold the kernel assumes that later: a login is 40 ms faster.
# The boxes' networks have IPv4 only. A link-local IPv6 address would reach services of the host that listen on all
# addresses, and would let one box fill the kernel's table of IPv6 neighbours, which all network namespaces share.
# Boxes have no raw sockets: every group of theirs may ping by the kernel's own kind of socket.
SYSCTLS = {
    "net.ipv4.tcp_pingpong_thresh": "16",
    "net.ipv6.conf.default.disable_ipv6": "1",
    "net.ipv4.ping_group_range": "0\t65535",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the machine on which the engine's configuration and the boxes depend.

    Attributes:
        systemd: it is the init system.
        cgroup_v2: the only cgroup hierarchy is the unified one.
        runtime: the OCI runtime.
        open_files: limit for each process.
        processes: limit for each user.
        pids: the kernel's limit of processes and threads.
        sysctls: the network settings of boxes that this kernel supports, by name.
    """

    systemd: bool
    cgroup_v2: bool
    runtime: str
    open_files: int
    processes: int
    pids: int
    sysctls: Mapping[str, str]


def inspect_machine() -> Machine:
    """Read the facts about the machine. Without systemd and cgroup v2, the engine uses runc and plain cgroup folders.

    Raises:
        ProviderRefused: no container runtime is installed.
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
        pids=min(int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max")),
        sysctls={name: value for name, value in SYSCTLS.items() if Path("/proc/sys", *name.split(".")).exists()},
    )


def configuration(machine: Machine) -> str:
    """The engine's private `containers.conf`."""
    manager = "systemd" if machine.systemd and machine.cgroup_v2 else "cgroupfs"
    events = "journald" if machine.systemd else "file"
    return (
        "[containers]\n"
        f'default_ulimits = ["nofile={machine.open_files}:{machine.open_files}", '
        f'"nproc={machine.processes}:{machine.processes}"]\n'
        "[engine]\n"
        f'cgroup_manager = "{manager}"\nevents_logger = "{events}"\nruntime = "{machine.runtime}"\n'
        "[network]\n"
        'network_backend = "netavark"\n'
    )


def _choose_network_backend(environment: Mapping[str, str]) -> None:
    """Let the host's own engine choose how it makes networks while its storage is empty, as its first command does.

    With an image or a box in the storage it would choose the older way, and `podman rm` by hand could not take a box's
    network away. Source: Podman 4.3, `libpod/network/network.go` (defaultNetworkBackend).
    """
    program = shutil.which("podman")
    if program is not None and not _CHOSEN.exists():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([program, "network", "ls"], env=environment, capture_output=True, timeout=START_LIMIT_S)


class EngineService:
    """Starts, finds and stops the service of one cloud. Several processes may do so at once."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Name the service's folder.

        Args:
            folder: of its socket, configuration and log.
            environment: for the engine, without variables that lead it elsewhere.
        """
        self._folder = folder
        self._environment = environment
        self.socket = folder / "podman.sock"
        self._lock = folder / "lock"
        self._pid_file = PidFile(folder / "podman.pid", f"unix://{self.socket}")
        self._revived_at = -math.inf

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the engine's commands, so that they use the service's configuration."""
        return {**self._environment, "CONTAINERS_CONF": str(self._folder / "containers.conf")}

    def ensure(self, renew: bool = False) -> PodmanApi:
        """The service's API; started if it does not answer. If it dies later, the next failing call starts it again.

        Args:
            renew: start it again also if the engine's program was replaced since, as by an upgrade.

        Raises:
            ProviderRefused: Podman is not installed, or does not start; with its last message.
        """
        api = PodmanApi(self.socket, self.revive)
        self._make_folder()
        with locked(self._lock):
            if not self.answers() or (renew and self.is_outdated()):
                self._start()
                self._await_answer()
        return api

    def is_outdated(self) -> bool:
        """Whether the engine's program was replaced since the service was started, as by an upgrade."""
        pid = self._pid_file.running()
        try:
            return pid is not None and os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")  # noqa: PTH115
        except OSError:
            return False

    def configure(self) -> None:
        """Write down the engine's configuration, for its own commands; they need no service."""
        self._make_folder()
        with locked(self._lock):
            self._write_configuration()

    def _make_folder(self) -> None:
        # Whichever command is the first: the folder around it, with the records, is closed to others too.
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def revive(self) -> None:
        """Start the service if its socket refuses connections, at most once in a few seconds.

        Waits neither for the service nor for another process that is starting it.
        """
        if time.monotonic() - self._revived_at < REVIVE_PAUSE_S or not self._folder.is_dir():
            return
        self._revived_at = time.monotonic()
        with contextlib.suppress(ProviderError, OSError), locked(self._lock, wait_s=0):
            if not self._listens():
                log.warning("the engine's service is not running; restarting it")
                self._start()

    def stop(self) -> None:
        """Stop the service, if it runs, and wait for its end; boxes keep running."""
        end_process(self._pid_file, STOP_LIMIT_S)
        self._pid_file.remove()
        self.socket.unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether the service runs, and does not hang; it is not started."""
        try:
            return self.socket.exists() and bool(PodmanApi(self.socket).text("/_ping", ANSWER_LIMIT_S))
        except ProviderError:
            return False

    def _listens(self) -> bool:
        """Whether somebody accepts connections, however slow they are to answer."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            return probe.connect_ex(str(self.socket)) in (0, errno.EAGAIN)

    def _await_answer(self) -> None:
        if not poll_until(self.answers, START_LIMIT_S):
            raise ProviderUnavailable(f"Podman's service did not start: {self._last_log_line()}")

    def _start(self) -> None:
        program = shutil.which("podman")
        if program is None:
            raise ProviderRefused("Podman is not installed", ("install it", "sudo apt-get install podman"))
        self.stop()
        share_namespaces()
        self._write_configuration()
        command = [program, "system", "service", "--time", "0", f"unix://{self.socket}"]
        pid = start_detached(command, self._folder / "podman.log", self.environment)
        with contextlib.suppress(ProcessLookupError):  # it has ended; its log has the reason
            limit_engine(pid)
        self._pid_file.write(pid)

    def _write_configuration(self) -> None:
        _choose_network_backend(self._environment)
        write_atomically(self._folder / "containers.conf", configuration(inspect_machine()).encode(), 0o644)

    def _last_log_line(self) -> str:
        said = self._folder / "podman.log"
        lines = said.read_text(errors="replace").strip().splitlines() if said.exists() else []
        return lines[-1] if lines else "its log is empty"
