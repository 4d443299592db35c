"""Which ports of the machine are in use."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from pathlib import Path

from odc.domain.box import BOX_PORTS
from odc.domain.errors import InvalidRequest, ProviderRefused
from odc.ports.cluster import Cluster


def taken_ports(listen: str, ports: Iterable[int]) -> list[int]:
    """Return the ports at which a program listens, in order. Cost: one bind for each port."""
    return [port for port in ports if not is_free(listen, port)]


def has_address(address: str) -> bool:
    """Whether the address belongs to this machine. False only if the kernel reports that it does not."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def is_free(address: str, port: int) -> bool:
    """Whether the engine could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # With the engine's socket option, so that connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def check_listen(listen: str) -> None:
    """Whether the machine has the address at which boxes' SSH is to listen.

    Raises:
        InvalidRequest: it has not.
    """
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((listen, 0))
        except OSError as error:
            text = f'listen = "{listen}": this machine has no such address ({error.strerror})'
            raise InvalidRequest(text, ("its addresses", "ip -brief address")) from error


def check_ports(listen: str, ports: tuple[int, int], cluster: Cluster) -> None:
    """Whether a box can get ports, or boxes of this cloud have some.

    Raises:
        ProviderRefused: strangers have all ports.
    """
    first, last = ports
    free = last - first + 1 - len(taken_ports(listen, range(first, last + 1)))
    if free < len(BOX_PORTS) and not cluster.list_boxes():
        raise ProviderRefused(
            f"ports {first} to {last} on {listen} are all taken, so no box could be reached",
            ("who has them", f"ss -ltnp 'sport >= {first} and sport <= {last}'"),
            ("choose others", "ports = [FIRST, LAST] in the settings"),
        )


def ephemeral_ports() -> tuple[int, int]:
    """The ports that the kernel gives to outgoing connections, first and last. Source: ip(7)."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(first), int(last)
