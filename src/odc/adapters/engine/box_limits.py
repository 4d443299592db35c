"""Limits of each box for resources that the kernel counts for all boxes together."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from odc.adapters.engine.kernel_limits import NOTED, TERMINALS, terminals_of_a_box
from odc.adapters.engine.seccomp import write_profile
from odc.domain.node import Node

UNLIMITED = resource.RLIM_INFINITY
SIGNALS = 2048
"""Timers and queued signals that each user of a box has at least."""
SOCKET_BYTES = 32 * 2**20
"""Memory of network sockets that each GPU or unit of a box has at least."""
SOCKET_LIMIT = "/sys/fs/cgroup/memory/libpod_parent/libpod-{uid}/memory.kmem.tcp.limit_in_bytes"
"""Where cgroup v1 limits a box's sockets, as the engine's manager `cgroupfs` names it."""
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_CAP_SYS_RESOURCE = 24


@dataclass(frozen=True, slots=True)
class BoxLimits:
    """Limits of each box.

    Attributes:
        terminals: pseudo-terminals of the box.
        locked_memory: bytes that each process may lock; `UNLIMITED`: only the box's memory limit applies.
        signals: timers and queued signals of each user.
        seccomp: profile of system calls; None: the engine's own.
        kernel: limits of the kernel that must be so high while boxes run, by name.
        socket_bytes_per_unit: memory of network sockets, for each GPU or unit of the box.
        noted: the machine's file with the previous values of raised limits.
    """

    terminals: int = TERMINALS
    locked_memory: int = UNLIMITED
    signals: int = SIGNALS
    seccomp: Path | None = None
    kernel: Mapping[str, int] = field(default_factory=dict)
    socket_bytes_per_unit: int = 2**30
    noted: Path = NOTED


def box_limits(nodes: Iterable[Node], profile: Path, nested: bool, kernel: Mapping[str, int]) -> BoxLimits:
    """The limits that this machine allows.

    Args:
        nodes: all nodes of the machine.
        profile: file to write the profile of system calls to.
        nested: whether boxes may make user namespaces.
        kernel: limits of the kernel, which were raised before.

    Raises:
        ProviderUnavailable: the profile cannot be written.
    """
    boxes = most_boxes(nodes)
    together = signals_of_all_boxes()
    return BoxLimits(
        terminals=terminals_of_a_box(boxes),
        locked_memory=locked_memory(),
        signals=SIGNALS if together is None else min(max(together // boxes, SIGNALS), together),
        seccomp=write_profile(profile, nested),
        kernel=kernel,
        socket_bytes_per_unit=max(_socket_bytes_of_all() * 3 // 4 // boxes, SOCKET_BYTES),
    )


def _socket_bytes_of_all() -> int:
    """Return the socket memory above which the kernel slows every TCP socket of the machine. Source: tcp(7),
    `tcp_mem`.
    """
    try:
        pages = int(Path("/proc/sys/net/ipv4/tcp_mem").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def limit_sockets(uid: str, most: int) -> None:
    """Limit the memory of a running box's network sockets, which cgroup v1 does not count as the box's memory.

    With cgroup v2 it counts, and nothing is to be done; where the kernel cannot limit it, nothing is done either.

    Args:
        uid: the engine's id of the box.
        most: bytes.
    """
    with contextlib.suppress(OSError), Path(SOCKET_LIMIT.format(uid=uid)).open("r+") as file:
        file.write(str(most))


def most_boxes(nodes: Iterable[Node]) -> int:
    """Return how many boxes may run at once: one for each GPU or unit."""
    return max(sum(node.units for node in nodes), 1)


def locked_memory() -> int:
    """Return the bytes that a process of a box may lock: unlimited if this process may set that."""
    return UNLIMITED if may_raise() else resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]


def may_raise() -> bool:
    """Whether this process may raise hard limits (CAP_SYS_RESOURCE)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def signals_of_all_boxes() -> int | None:
    """Return the limit of timers and queued signals of all boxes together: a quarter is left to root of the host, for
    whom the kernel counts them too. None without any limit.
    """
    limit = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]
    return None if limit == UNLIMITED else limit * 3 // 4


def core_limit(pattern: Path = CORE_PATTERN) -> int | None:
    """Return the largest core file of a box's process in bytes; None for the engine's default.

    The kernel has one pattern for all processes of the machine. One that begins with `|` or `@` passes the memory of a
    crashed process to a program or socket of the host, which uses the host's rights, cores and storage. The kernel does
    that for every limit except 1. A process may lower the limit to 0: then the program is run, and told not to store
    anything. Source: core(5), `fs/coredump.c`.
    """
    try:
        leaves = pattern.read_bytes()[:1] in (b"|", b"@")
    except OSError:
        return None
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    return None if not leaves else 1 if hard == UNLIMITED else min(hard, 1)


def limit_engine(pid: int) -> None:
    """Set the limits of the engine's service that every user namespace made by it inherits.

    The kernel keeps the soft limits of the process that makes a namespace, and compares them with the usage of the
    namespace's users together with root of the host, and with all other boxes. Source: user_namespaces(7),
    `kernel/ucount.c`.
    """
    for kind, share in ((resource.RLIMIT_SIGPENDING, (3, 4)), (resource.RLIMIT_MSGQUEUE, (3, 4))):
        soft, hard = resource.prlimit(pid, kind)
        if soft != UNLIMITED:
            resource.prlimit(pid, kind, (soft * share[0] // share[1], hard))
    allowed = locked_memory()
    resource.prlimit(pid, resource.RLIMIT_MEMLOCK, (allowed, allowed))
