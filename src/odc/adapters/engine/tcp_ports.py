"""Which ports of the machine are in use."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable


def taken_ports(listen: str, ports: Iterable[int]) -> list[int]:
    """Those of the ports at which somebody listens, in order. Cost: one bind for each."""
    return [port for port in ports if not is_free(listen, port)]


def has_address(address: str) -> bool:
    """Whether the address is this machine's. False only if the kernel says so."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def is_free(address: str, port: int) -> bool:
    """Whether the engine could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # As the engine binds: what is only left of closed connections does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
