"""The processes of a test cluster: they live on without their starter and are found by their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.layout import Layout, Node
from tests.cluster.programs import program_path
from tests.lane import RUN_VARIABLE
from tests.waiting import eventually

CLUSTER = "ODC_CLUSTER_STATE"
"""In the environment of every process of a cluster: its state folder."""
PART = "ODC_CLUSTER_PART"
"""What the process is: `kubelet-1`, `etcd`."""
EXECUTING_S = 0.002
"""The pause between two looks at a process that executes a program."""
NO_PLACE = ["0", "0"]
"""Of an environment that the kernel has not set up yet."""


def start(layout: Layout, part: str, command: Sequence[str], node: Node | None = None) -> None:
    """Start a process that lives on; its output goes to its log.

    Args:
        layout: of the cluster.
        part: what it is; unique in the cluster.
        command: the program and its arguments.
        node: on which it runs; None for the machine itself.
    """
    environment = {"PATH": program_path(), "HOME": "/", CLUSTER: str(layout.state), PART: part}
    environment |= {name: value for name, value in os.environ.items() if name == RUN_VARIABLE}
    inside = ["setsid", "--fork", *(entering(node) if node else []), *command]
    with (layout.logs / f"{part}.log").open("ab") as log:
        subprocess.run(inside, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=True)


def entering(node: Node) -> list[str]:
    """The words before a command that runs it on a node.

    Raises:
        AssertionError: the node is not running.
    """
    init = find_init(node)
    assert init, f"{node.name} is not running"
    # `ip netns exec` would mount another /sys, without the cgroups.
    return ["nsenter", f"--target={init}", "--mount", "--pid", "--net", "--"]


def run_inside(node: Node, *command: str) -> str:
    """What a command prints that runs on a node, with the node's own programs."""
    environment = {"PATH": program_path(), "HOME": "/"}
    done = subprocess.run(
        [*entering(node), *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(command)} on {node.name}: {done.stdout}{done.stderr}"
    return done.stdout


def find_init(node: Node) -> int:
    """The first process of a node, whose death ends all others of it; 0 without one."""
    for pid in _marked(Layout(node.cluster), node.part):
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if any(line.split()[2:] == ["1"] for line in status.splitlines() if line.startswith("NSpid:")):
                return pid
    return 0


def find(layout: Layout, part: str, program: str) -> list[int]:
    """The processes of a part that run this program."""
    found = []
    for pid in _marked(layout, part):
        with suppress(OSError):
            if Path(f"/proc/{pid}/exe").readlink().name == program:
                found.append(pid)
    return found


def stop(layout: Layout, part: str, program: str, number: int = signal.SIGKILL) -> None:
    """End the process of a part and wait until it is gone. Those that it has started live on.

    Args:
        layout: of the cluster.
        part: as at its start.
        program: the name of its executable file.
        number: the signal. After SIGTERM the API server goes on for a minute, until its watches end.
    """
    for pid in find(layout, part, program):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    eventually(f"{part} has ended", lambda: not find(layout, part, program))


def kill_all(layout: Layout) -> None:
    """Kill every process of the cluster, also those that an earlier starter left, and those of pods.

    Pods' processes are in the nodes' process namespaces: the kernel kills them with the first process. `unshare`, which
    started it, ends when the last one is gone.
    """

    def gone() -> bool:
        pids = list(_marked(layout))
        for pid in pids:
            with suppress(OSError):
                if Path(f"/proc/{pid}/exe").readlink().name != "unshare":
                    os.kill(pid, signal.SIGKILL)
        return not pids

    eventually("all processes of the cluster have ended", gone)


def is_alive(layout: Layout, part: str = "") -> bool:
    """Whether a process of the cluster, or of this part, runs."""
    return any(True for _ in _marked(layout, part))


def _marked(layout: Layout, part: str = "") -> Iterator[int]:
    wanted = {f"{CLUSTER}={layout.state}".encode()}
    if part:
        wanted.add(f"{PART}={part}".encode())
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted <= set(_environment(path).split(b"\0")):
                yield int(path.parent.name)


def _environment(path: Path) -> bytes:
    """The environment of a process. While it executes a program it has none for a moment: that moment is waited for."""
    if found := path.read_bytes():
        return found
    while True:
        before = _place_of_environment(path.parent)
        if found := path.read_bytes():
            return found
        if before != NO_PLACE and before == _place_of_environment(path.parent):
            return b""
        time.sleep(EXECUTING_S)


def _place_of_environment(process: Path) -> list[str]:
    """Where it is in the process's memory, which is another place for each program.

    Source: proc_pid_stat(5), fields 50 and 51.

    Raises:
        OSError: the process has ended, or is the kernel's.
    """
    (process / "exe").readlink()
    return (process / "stat").read_text().rpartition(")")[2].split()[47:49]


def check_running(layout: Layout, part: str) -> None:
    """Check that a process of a part runs, or is about to.

    Raises:
        AssertionError: it does not; with the end of its log.
    """
    if not is_alive(layout, part):
        log = (layout.logs / f"{part}.log").read_text(errors="replace").splitlines()
        raise AssertionError(f"{part} has ended:\n" + "\n".join(log[-20:]))
