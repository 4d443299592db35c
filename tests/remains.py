"""What tests may leave on the machine: finds it, says whose it is, and removes it.

A thing belongs to a run if it carries the name, an address or a folder of one of the run's lanes, or if it is a process
that the run has started. What cannot be attributed counts only on a machine that nothing else uses.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import lifecycle
from tests.cluster.layout import Layout
from tests.lane import LANES, RUN_VARIABLE, RUNS, WORKERS, networks_of, pattern_of
from tests.loops import loop_devices

ADDRESSED = ("address", "rule", "chain")
"""Kinds that may have nothing but an address to tell whose they are."""
_OF_ACCOUNT = f"{pwd.getpwuid(os.geteuid()).pw_dir}/.gpu-dev"
"""What `gpu-dev` keeps for this account, whatever HOME is: tests give it another account's home."""
_FOLDERS = (
    ("/run/odc/clouds", "*.json"),
    ("/run/odc", "*.json"),
    ("/etc/cdi", "*"),
    ("/var/tmp", "odc-*"),
    (_OF_ACCOUNT, "*"),
)
_READ = ("/run/odc/clouds", _OF_ACCOUNT)
"""Folders with files whose contents tell whose they are."""
_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")
_NETWORK_CHAIN = re.compile(r"NETAVARK-(?:DN-)?([0-9A-F]{13})\b")
"""A chain that the engine has for one network, and its hash."""
_ANY_LANE = pattern_of(range(RUNS * WORKERS))


@dataclass(frozen=True)
class Remain:
    """One thing on the machine.

    Attributes:
        kind: a key of `REMOVE`.
        name: what its remover takes.
        text: what tells whose it is.
    """

    kind: str
    name: str
    text: str

    def __str__(self) -> str:
        told = self.text if self.name in self.text or self.name.startswith("-t ") else f"{self.name} {self.text}"
        return f"{self.kind} {told}"


@dataclass(frozen=True)
class Owner:
    """A run, by what its things have in common.

    Attributes:
        run: the value of `RUN_VARIABLE`.
        folder: where its tests have their files.
        lanes: of its processes.
    """

    run: str
    folder: str
    lanes: tuple[int, ...] = LANES

    def is_named_by(self, remain: Remain) -> bool:
        """Whether this carries a name of its lanes, its folder or its id."""
        if pattern_of(self.lanes).search(remain.text) or _is_in(remain.text, self.folder):
            return True
        if not self.run:
            return False
        if remain.kind == "process":
            return remain.name in started_by(self.run)
        return remain.kind == "Kubernetes cluster" and self.run in remain.text.split()

    def is_addressed_by(self, remain: Remain) -> bool:
        """Whether this is of the network and has an address of its lanes."""
        return remain.kind in ADDRESSED and _is_addressed(remain.text, networks_of(self.lanes))

    def has(self, remain: Remain) -> bool:
        """Whether it made this, given that it was not there before."""
        return self.is_named_by(remain) or self.is_addressed_by(remain)


def list_remains() -> list[Remain]:
    """Everything on the machine that tests could have made, in the order in which it can be removed."""
    return [Remain(kind, name, text) for kind, find in FIND.items() for name, text in find()]


def is_quiet(remains: Collection[Remain], owner: Owner) -> bool:
    """Whether nothing but this run uses containers, clouds or test clusters on the machine."""
    others = [remain for remain in remains if not owner.has(remain)]
    users = ("Kubernetes cluster", "container")
    used = any(remain.kind in users or remain.name.startswith("/run/odc/clouds/") for remain in others)
    return not used and not any(_ANY_LANE.search(remain.text) for remain in others)


def remove_after(killed: Owner) -> None:
    """Remove what a run left that was killed: what carries its names, then the engine's rules for its networks.

    A rule has no name of ours. One for a network whose bridge is gone serves nobody.
    """
    remove(remain for remain in list_remains() if killed.is_named_by(remain))
    addressed = [remain for remain in list_remains() if killed.is_addressed_by(remain)]
    if not any(remain.kind == "address" for remain in addressed):
        remove(remain for remain in addressed if "NETAVARK" in remain.name)


def remove(remains: Iterable[Remain]) -> None:
    """Take these things away by force; what resists stays."""
    for remain in sorted(remains, key=lambda remain: list(FIND).index(remain.kind)):
        with suppress(OSError, AssertionError):
            REMOVE[remain.kind](remain.name)


def started_by(run: str) -> set[str]:
    """The processes with this run's id in their environment, without the caller and its parents."""
    wanted = f"{RUN_VARIABLE}={run}".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                found.add(path.parent.name)
    return found - set(_own_line())


def _own_line() -> Iterator[str]:
    """This process and those that led to it."""
    pid = os.getpid()
    while pid > 1:
        yield str(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_in(text: str, folder: str) -> bool:
    return bool(folder) and re.search(rf"{re.escape(folder)}(?![^/\s])", text) is not None


def _is_addressed(text: str, networks: Iterable[str]) -> bool:
    inside = [ipaddress.ip_network(network) for network in networks]
    return any(ipaddress.ip_address(address) in network for address in _ADDRESS.findall(text) for network in inside)


def _lines(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        return []
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.splitlines()


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)


def _processes() -> Iterator[tuple[str, str]]:
    own = set(_own_line())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if words and path.parent.name not in own:
                yield path.parent.name, words


def _clusters() -> Iterator[tuple[str, str]]:
    for layout, run in lifecycle.list_all():
        yield str(layout.number), f"{layout.state} {run}".strip()


def _containers() -> Iterator[tuple[str, str]]:
    for line in _lines("podman", "ps", "-a", "--external", "--format", "{{.ID}} {{.Names}}"):
        container, _, name = line.partition(" ")
        yield container, name


def _networks() -> Iterator[tuple[str, str]]:
    for name in _lines("podman", "network", "ls", "--format", "{{.Name}}"):
        yield name, name


def _addresses() -> Iterator[tuple[str, str]]:
    for line in _lines("ip", "-o", "-4", "address"):
        words = line.split()
        yield words[1], words[3]


def _links() -> Iterator[tuple[str, str]]:
    for line in _lines("ip", "-o", "link"):
        name = line.split()[1].rstrip(":").partition("@")[0]
        yield name, name


def _packet_filter() -> list[tuple[str, str, str]]:
    """Table, line and the addresses that all lines about the same network of the engine name, for each line."""
    lines, table = [], ""
    addresses: dict[str, set[str]] = {}
    for line in _lines("iptables-save"):
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A ")):
            lines.append((table, line))
            for network in _NETWORK_CHAIN.findall(line):
                addresses.setdefault(network, set()).update(_ADDRESS.findall(line))
    return [
        (table, line, " ".join(sorted(set().union(*(addresses[network] for network in _NETWORK_CHAIN.findall(line))))))
        for table, line in lines
    ]


def _rules() -> Iterator[tuple[str, str]]:
    for table, line, addresses in _packet_filter():
        if line.startswith("-A "):
            yield f"-t {table} -D {line.removeprefix('-A ')}", f"{line} {addresses}".strip()


def _chains() -> Iterator[tuple[str, str]]:
    for table, line, addresses in _packet_filter():
        if line.startswith(":"):
            chain = line[1:].split()[0]
            yield f"-t {table} -X {chain}", f"{chain} {addresses}".strip()


def _mounts() -> Iterator[tuple[str, str]]:
    # The last one first: it may be on top of, or below, an earlier one.
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        words = line.split()
        yield words[4], f"{words[4]} {words[3]}"


def _loops() -> Iterator[tuple[str, str]]:
    yield from loop_devices().items()


def _users() -> Iterator[tuple[str, str]]:
    for entry in pwd.getpwall():
        if entry.pw_name.startswith("odc-"):
            yield entry.pw_name, entry.pw_name


def _files() -> Iterator[tuple[str, str]]:
    for folder, names in _FOLDERS:
        for path in Path(folder).glob(names):
            with suppress(OSError):
                content = path.read_text(errors="replace") if folder in _READ else ""
                yield str(path), f"{path} {content}".strip()


def _remove_link(name: str) -> None:
    if name.startswith(("podman", "veth", "odc")):
        _run("ip", "link", "delete", name)


def _remove_user(name: str) -> None:
    _run("pkill", "-9", "-u", name)
    _run("userdel", name)


FIND: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "Kubernetes cluster": _clusters,
    "process": _processes,
    "container": _containers,
    "network": _networks,
    "address": _addresses,
    "link": _links,
    "rule": _rules,
    "chain": _chains,
    "mount": _mounts,
    "loop device": _loops,
    "user": _users,
    "file": _files,
}
REMOVE: dict[str, Callable[[str], None]] = {
    "Kubernetes cluster": lambda name: lifecycle.down(Layout(int(name))),
    "process": lambda name: os.kill(int(name), signal.SIGKILL),
    "container": lambda name: _run("podman", "rm", "-f", "-t", "0", name),
    "network": lambda name: _run("podman", "network", "rm", "-f", name),
    "address": _remove_link,
    "link": _remove_link,
    "rule": lambda name: _run("iptables", "-w", *shlex.split(name)),
    "chain": lambda name: _run("iptables", "-w", *shlex.split(name)),
    "mount": lambda name: _run("umount", "-l", name),
    "loop device": lambda name: _run("losetup", "-d", name),
    "user": _remove_user,
    "file": lambda name: _run("rm", "-rf", "--one-file-system", name),
}
