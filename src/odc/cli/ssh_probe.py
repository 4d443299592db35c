"""Whether an SSH server answers on an address."""

from __future__ import annotations

import ipaddress
import socket

BANNER = b"SSH-"


def answers(host: str, port: int, timeout_s: float) -> bool:
    """Whether an SSH server sends its banner on this address; a port that accepts connections only does not count.

    Args:
        host: name or address.
        port: the port.
        timeout_s: how long to wait for the connection, and then for the banner, in seconds.
    """
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            return connection.recv(len(BANNER)) == BANNER
    except OSError:
        return False


def is_closed(host: str, port: int) -> bool:
    """Whether nothing listens on this port of the local machine."""
    try:
        socket.create_connection((host, port), 1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def is_loopback(host: str) -> bool:
    """Whether this is an address of the local machine; False for every name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
