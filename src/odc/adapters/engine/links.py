"""Network interfaces of this process's network. The kernel is asked, as `/sys` may show those of another network."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_UP_AND_RUNNING = 0x1 | 0x40


def is_link(name: str) -> bool:
    """Whether there is an interface of this name."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def is_working(bridge: str) -> bool:
    """Whether the bridge is up, has an IPv4 address, and an interface that is up is attached to it.

    Source: netdevice(7); a bridge without such an interface has no carrier, and so is not running.
    """
    request = struct.pack("16s24x", bridge.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            (flags,) = struct.unpack_from("H", fcntl.ioctl(asked, _SIOCGIFFLAGS, request), 16)
            fcntl.ioctl(asked, _SIOCGIFADDR, request)
        except OSError:
            return False
    return bool(flags & _UP_AND_RUNNING == _UP_AND_RUNNING)
