"""Which DNS servers boxes can ask."""

from __future__ import annotations

import ipaddress


def is_reachable(text: str) -> bool:
    """Whether boxes can reach a server of this address: IPv4, and not the machine's own loopback."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)
