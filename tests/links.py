"""The machine's network links, for tests that none of a box stays."""

from __future__ import annotations

import ipaddress
import subprocess


def links_in(network: str) -> list[str]:
    """Addresses of the machine that lie in the network, in CIDR form: one for each bridge of a box."""
    told = subprocess.run(["ip", "-o", "-4", "address"], capture_output=True, text=True, check=True).stdout
    found = (ipaddress.ip_interface(line.split()[3]) for line in told.splitlines())
    return [str(address) for address in found if address.ip in ipaddress.ip_network(network)]
