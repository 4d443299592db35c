"""Finds the DNS servers for boxes.

A host often asks a resolver on its own loopback (systemd-resolved on 127.0.0.53, dnsmasq, unbound), which boxes cannot
reach. Podman then gives boxes 8.8.8.8, which a closed lab cannot reach either. So the upstream servers of the host's
resolver are read from its files. Boxes have IPv4 only, so servers with IPv6 addresses do not count.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from odc.domain.dns import is_reachable

HOST_FILE = "etc/resolv.conf"
UPSTREAM_FILES = (
    "run/systemd/resolve/resolv.conf",  # systemd-resolved(8)
    "run/NetworkManager/no-stub-resolv.conf",  # NetworkManager.conf(5), `rc-manager`
    "run/dnsmasq/resolv.conf",  # resolvconf(8), for dnsmasq
    "run/resolvconf/resolv.conf",
    "etc/resolv.dnsmasq.conf",
    "etc/resolv.conf.upstream",
)
"""resolv.conf files in which resolvers on the loopback keep the servers that they ask, the surest first."""
DNSMASQ_FILES = (
    "etc/dnsmasq.conf",
    "etc/dnsmasq.d/*",
    "etc/NetworkManager/dnsmasq.d/*",
    "run/NetworkManager/dnsmasq.d/*",
)
UNBOUND_FILES = ("etc/unbound/unbound.conf", "etc/unbound/unbound.conf.d/*")
MOST_SERVERS, MOST_SEARCH = 3, 6
"""More are not read by the C library. Source: resolv.conf(5), `MAXNS`."""
PUBLIC = ("8.8.8.8", "8.8.4.4")
"""Podman's default servers for boxes if it finds none."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """The contents of a box's `/etc/resolv.conf`.

    Attributes:
        servers: IPv4 addresses; empty: none is known, and the engine gives `PUBLIC`.
        search: domains that short names are looked up in; empty: the host's.
        source: where the servers were found: `the setting dns`, or a file.
    """

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    source: str = ""


def find_resolver(servers: Sequence[str], search: Sequence[str], root: Path = Path("/")) -> Resolver:
    """Return the servers for new boxes, from the host's current files: it may have moved to another network.

    Args:
        servers: of the setting; empty: the host's.
        search: of the setting; empty: the host's.
        root: of the host's files.
    """
    if servers:
        return Resolver(tuple(servers), tuple(search), "the setting dns")
    host = _read(root / HOST_FILE)
    domains = tuple(search) or _search(host)
    for name in (HOST_FILE, *UPSTREAM_FILES):
        lines = _read(root / name)
        found = _usable(line[1] for line in lines if line[0] == "nameserver")
        if found:
            return Resolver(found, domains or _search(lines), f"/{name}")
    for name, found in (*_dnsmasq(root), *_unbound(root)):
        if found:
            return Resolver(found, domains, f"/{name}")
    return Resolver(search=domains)


def _read(path: Path) -> list[list[str]]:
    """Yield the words of each line that is not empty or a comment."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split("#")[0].split(";")[0].split() for line in lines]
    return [line for line in words if len(line) > 1]


def _search(lines: Iterable[list[str]]) -> tuple[str, ...]:
    """The last `search` or `domain` counts; the root alone does not count. Source: resolv.conf(5)."""
    found: tuple[str, ...] = ()
    for line in lines:
        if line[0] in ("search", "domain"):
            found = tuple(word for word in line[1:] if word != ".")
    return found[:MOST_SEARCH]


def _usable(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the servers that a box can reach, in order, without duplicates."""
    found = dict.fromkeys(text for text in addresses if is_reachable(text))
    return tuple(found)[:MOST_SERVERS]


def _files(root: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(root.glob(pattern)) if path.is_file()]


def _dnsmasq(root: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return the upstream servers of dnsmasq: `server=ADDRESS[#PORT]` for every name, `resolv-file=PATH`. Source:
    dnsmasq(8).
    """
    found = []
    for path in _files(root, DNSMASQ_FILES):
        for line in path.read_text(errors="replace").splitlines():
            key, _, value = line.strip().partition("=")
            if key == "server" and "/" not in value:
                found.append((str(path.relative_to(root)), _usable([value.removesuffix("#53")])))
            elif key == "resolv-file":
                name = value.strip().lstrip("/")
                servers = _usable(line[1] for line in _read(root / name) if line[0] == "nameserver")
                found.append((name, servers))
    return _merged(found)


def _unbound(root: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return the upstream servers of unbound: `forward-addr: ADDRESS`. Source: unbound.conf(5)."""
    found = []
    for path in _files(root, UNBOUND_FILES):
        servers = _usable(line[1] for line in _read(path) if line[0] == "forward-addr:")
        found.append((str(path.relative_to(root)), servers))
    return found


def _merged(found: Iterable[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """The servers of one file together."""
    together: dict[str, tuple[str, ...]] = {}
    for name, servers in found:
        together[name] = _usable((*together.get(name, ()), *servers))
    return list(together.items())


def answers(server: str, port: int = 53, timeout_s: float = 2.0) -> bool:
    """Whether a DNS server answers at all; a refusal is an answer. It is asked for the root's name servers.

    Source: RFC 1035, section 4.1.
    """
    number = secrets.token_bytes(2)
    question = number + b"\x01\x00" + b"\x00\x01" + b"\x00\x00" * 3 + b"\x00" + b"\x00\x02" + b"\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(timeout_s)
        for _ in range(2):  # a datagram may be lost
            try:
                asking.connect((server, port))
                asking.send(question)
                if asking.recv(512)[:2] == number:
                    return True
            except OSError:
                continue
    return False
