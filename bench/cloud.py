"""A cloud of the bench's own, beside any real one, on the machine's Podman; nothing of it is left afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
IMAGE = "localhost/odc/box:1"
BARE_PORT = 32599
ADDRESS = "127.0.0.1"
DEADLINE_S = 60.0
SETTINGS = """\
cloud = "bench"
state = "{folder}/state"
socket = "{folder}/odc.sock"
ports = [32600, 32699]
network = "10.91.240.0/20"
simulate = "h100=1x1"
image = "{image}"
disk_gib = 0.5
disk_file_gib = 4
[limits]
live_per_user = 50
grace_s = 2
"""


class CannotMeasure(Exception):
    """What is to be measured does not work here; the message says why."""


@dataclass(frozen=True)
class BenchCloud:
    """One cloud that is up, with one user: root, whose home and key are the bench's."""

    folder: Path

    @property
    def socket(self) -> Path:
        """Where its API listens."""
        return self.folder / "odc.sock"

    @property
    def key(self) -> Path:
        """The user's private key; the public one lies beside it."""
        return self.folder / "id_ed25519"

    @property
    def environment(self) -> dict[str, str]:
        """For its commands."""
        return {
            **os.environ,
            "HOME": str(self.folder),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ODC_CONFIG": str(self.folder / "odc.toml"),
            "GPU_DEV_ENDPOINT": f"unix://{self.socket}",
        }

    def run(self, *command: str | Path) -> str:
        """Run a command of the cloud; what it printed.

        Raises:
            CannotMeasure: it failed.
        """
        return run(command, self.environment)

    def json(self, *arguments: str) -> Any:
        """Run `gpu-dev … --json`; what it printed, decoded."""
        return json.loads(self.run("gpu-dev", *arguments, "--json"))

    def end(self, *names: str) -> None:
        """Cancel these reservations, and wait until nothing of them is left.

        Raises:
            CannotMeasure: they do not end.
        """
        for name in names:
            self.run("gpu-dev", "cancel", name, "--yes")
        end = time.monotonic() + DEADLINE_S
        while self.json("list")["reservations"]:
            if time.monotonic() > end:
                raise CannotMeasure(f"reservations do not end: {', '.join(names)}")
            time.sleep(0.05)

    def daemon_pid(self) -> int:
        """The control plane's process."""
        return int((self.folder / "state/daemon.lock").read_text())

    def engine_pid(self) -> int:
        """The process of the engine's service, which serves this cloud alone."""
        return int((self.folder / "state/engine/podman.pid").read_text())

    def await_login(self, *options: str) -> None:
        """Return when a command runs over ssh.

        Args:
            options: for ssh: where to, and how the host is known.

        Raises:
            CannotMeasure: it never does.
        """
        base = ("ssh", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR")
        end = time.monotonic() + DEADLINE_S
        while True:
            done = subprocess.run([*base, *options, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode == 0:
                return
            if time.monotonic() > end:
                raise CannotMeasure(f"no login over ssh: {done.stderr.strip()}")
            time.sleep(0.005)


def run(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> str:
    """Run a command; what it printed.

    Raises:
        CannotMeasure: it failed.
    """
    # A session of its own: Ctrl+C stops the bench, which then cleans up; it does not stop what cleans up.
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise CannotMeasure(f"{words} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


@contextmanager
def bench_cloud() -> Iterator[BenchCloud]:
    """A cloud that is up.

    Raises:
        CannotMeasure: it does not come up, or the user is not root.
    """
    if os.geteuid() != 0:
        raise CannotMeasure("a cloud is started by root: sudo make bench")
    cloud = BenchCloud(Path(tempfile.mkdtemp(prefix="odc-bench-", dir="/var/tmp")))
    try:
        (cloud.folder / "odc.toml").write_text(SETTINGS.format(folder=cloud.folder, image=IMAGE))
        cloud.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", cloud.key)
        cloud.run("odc", "up")
        cloud.run("gpu-dev", "config", "set", "ssh_key", f"{cloud.key}.pub")
        yield cloud
    finally:
        _take_away(cloud)


def _take_away(cloud: BenchCloud) -> None:
    """Also when the user is impatient: a second Ctrl+C changes nothing."""
    impatient = signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = [str(BIN / "odc"), "down", "--all", "--yes"]
    subprocess.run(
        command, env=cloud.environment, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True
    )
    shutil.rmtree(cloud.folder, ignore_errors=True)
    signal.signal(signal.SIGINT, impatient)
