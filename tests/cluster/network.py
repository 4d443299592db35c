"""The network of a test cluster: a bridge in a namespace of its own, with the machine and each node on it.

The bridge is not in the machine's own namespace, so that the machine's firewall rules do not see what goes from node to
node. Pods are routed: each node has a range of addresses of its own, and everybody else a route to it.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

from tests.cluster.layout import Layout
from tests.waiting import eventually

NAMESPACES = Path("/run/netns")


def create(layout: Layout) -> None:
    """Create namespaces, links and routes. `remove` removes what is there, also after half of this."""
    switch = layout.link
    _ip("netns", "add", switch)
    _ip("-n", switch, "link", "add", "nodes", "type", "bridge")
    _ip("-n", switch, "link", "set", "nodes", "up")
    _plug(layout, "", layout.link, layout.address)
    for node in layout.nodes:
        _ip("netns", "add", node.part)
        _ip("-n", node.part, "link", "set", "lo", "up")
        _plug(layout, node.part, "eth0", node.address)
        _sysctl(node.part, "net.ipv4.ip_forward", 1)
        _ip("route", "add", node.pods, "via", node.address, "dev", layout.link)
        _ip("-n", node.part, "route", "add", "default", "via", layout.address)
    for node in layout.nodes:
        for other in layout.nodes:
            if other != node:
                _ip("-n", node.part, "route", "add", other.pods, "via", other.address)


def remove(layout: Layout) -> None:
    """Remove everything that `create` makes; nothing need be there."""
    with suppress(subprocess.CalledProcessError):
        _ip("link", "delete", layout.link)
    for path in (NAMESPACES / layout.link, *(NAMESPACES / node.part for node in layout.nodes)):
        if path.exists():
            _ip("netns", "delete", path.name)
    eventually("the network of the cluster is gone", lambda: not Path("/sys/class/net", layout.link).exists())


def _plug(layout: Layout, namespace: str, name: str, address: str) -> None:
    """Connect a namespace (empty: the machine's own) to the bridge."""
    port = namespace or "machine"
    inside = ("-n", namespace) if namespace else ()
    # The kernel takes at most 15 letters for an interface; the port's name is in the bridge's namespace only.
    _ip(*inside, "link", "add", name, "type", "veth", "peer", "name", port, "netns", layout.link)
    _ip("-n", layout.link, "link", "set", port, "master", "nodes", "up")
    _ip(*inside, "address", "add", f"{address}/24", "dev", name)
    _ip(*inside, "link", "set", name, "up")


def _sysctl(namespace: str, name: str, value: int) -> None:
    _ip("netns", "exec", namespace, "sysctl", "-q", "-w", f"{name}={value}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
