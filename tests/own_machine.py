"""A machine of the test's own as far as one kernel gives it: network, firewall, sysctls, mounts and engine storage.

What a test does to the host there (flush the packet filter, delete a bridge, unmount) reaches nobody else. Images are
those of the real machine, read-only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.cloud import Cloud, Done

SET_UP = """
set -e
ip link set lo up
mkdir -p /run/netns /run/libpod /run/containers /etc/containers /etc/cdi
mount -t tmpfs none /run/netns
mkdir -p "$0/shared" "$0/lib" "$0/etc" "$0/cdi"
mount --bind /var/lib/containers/storage "$0/shared"
mount --bind "$0/lib" /var/lib/containers
mount -t tmpfs none /run/libpod
mount -t tmpfs none /run/containers
cp -a /etc/containers/. "$0/etc/"
rm -rf "$0/etc/networks"
cat > "$0/etc/storage.conf" <<TEXT
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = ["$0/shared"]
TEXT
mount --bind "$0/etc" /etc/containers
mount --bind "$0/cdi" /etc/cdi
touch "$0/ready"
exec sleep infinity
"""


@dataclass
class OwnMachine:
    """The namespaces of one process, and how to run commands in them."""

    pid: int

    def command(self, *words: str) -> list[str]:
        """The command, to be run in there."""
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--wd=/", *words]

    def run(self, *words: str, check: bool = True, timeout: float = 120, **environment: str) -> Done:
        """Run a command in there as root."""
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **environment},
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def greeting(self, port: int) -> str:
        """What greets at the port of the machine's loopback within a moment; empty if nothing does."""
        text = f"exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 4 <&3"
        return self.run("timeout", "3", "bash", "-c", text, check=False).out

    def flush_packet_filter(self) -> None:
        """What `nft flush ruleset` does to every rule of iptables."""
        for table in ("filter", "nat", "mangle", "raw"):
            self.run("iptables", "-t", table, "-F")
            self.run("iptables", "-t", table, "-X")

    def rules(self) -> str:
        """The packet filter."""
        return self.run("iptables-save").out


@dataclass
class CloudOfItsOwn(Cloud):
    """A cloud on such a machine."""

    machine: OwnMachine | None = None

    def odc(self, *arguments: str, check: bool = True, **environment: str) -> Done:
        """Run `odc` as root in there."""
        assert self.machine is not None
        command = [str(self.bin / "odc"), "--config", str(self.config), *arguments]
        done = self.machine.run(*command, check=False, timeout=600, **environment)
        assert not check or done.code == 0, f"odc {' '.join(arguments)}: {done}\n{self.log()[-3000:]}"
        return done

    def boxes(self) -> list[dict[str, Any]]:
        """The engine's containers of this cloud."""
        return list(json.loads(self.podman("ps", "-a", "--format", "json", check=False) or "[]"))

    def box_log(self, container: str) -> str:
        """What the programs of a box have written."""
        assert self.machine is not None
        return self.machine.run("bash", "-c", f"podman logs {container} 2>&1", check=False).out

    def podman(self, *arguments: str, check: bool = True) -> str:
        """The machine's engine, as an operator uses it."""
        assert self.machine is not None
        settings = str(self.state / "engine/containers.conf")
        return self.machine.run("podman", *arguments, check=check, CONTAINERS_CONF=settings).out.strip()


@contextmanager
def own_machine() -> Iterator[OwnMachine]:
    """Begin one; everything in it ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="odc-machine-", dir="/var/tmp"))
    command = ["unshare", "--net", "--mount", "--propagation", "slave", "bash", "-c", SET_UP, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while not (folder / "ready").exists():
            assert process.poll() is None and time.monotonic() < deadline, "the machine does not come up"
            time.sleep(0.02)
        yield OwnMachine(process.pid)
    finally:
        _end_all_in(process.pid)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _end_all_in(pid: int) -> None:
    """End every process that shares the network of this one, and itself."""
    try:
        own = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return
    if os.path.samestat(own, Path("/proc/self/ns/net").stat()):
        # It has no network of its own yet: everything on the real machine shares this one.
        os.kill(pid, signal.SIGKILL)
        return
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        other = int(path.parent.parent.name)
        try:
            if os.path.samestat(path.stat(), own) and other != os.getpid():
                os.kill(other, signal.SIGKILL)
        except OSError:
            continue
