"""Asks many SSH servers at once whether they greet, without a thread for each."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

Place = tuple[str, int]
"""Address and port."""
BANNER = b"SSH-2.0-odc-probe\r\n"
"""Our own banner: without one the server logs an error; a client that closes after its banner is a normal line."""
_IN_PROGRESS = (0, 36, 115)  # EINPROGRESS on BSD and Linux


def answering_ssh(places: Iterable[Place], limit_s: float) -> set[Place]:
    """Return the places at which an SSH server sends its banner within the limit. Returns as soon as all have
    answered.
    """
    answered: set[Place] = set()
    with selectors.DefaultSelector() as selector:
        for place in set(places):
            _begin(selector, place)
        deadline = time.monotonic() + limit_s
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                _read_banner(selector, key, answered)
        for key in list(selector.get_map().values()):
            _close(selector, key.fileobj)
    return answered


def _begin(selector: selectors.BaseSelector, place: Place) -> None:
    probe = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    probe.setblocking(False)
    try:
        if probe.connect_ex(place) not in _IN_PROGRESS:
            probe.close()
            return
    except OSError:
        probe.close()
        return
    selector.register(probe, selectors.EVENT_READ, place)


def _read_banner(selector: selectors.BaseSelector, key: selectors.SelectorKey, answered: set[Place]) -> None:
    probe = key.fileobj
    with suppress(OSError):
        if isinstance(probe, socket.socket) and probe.recv(8).startswith(b"SSH-"):
            answered.add(key.data)
            probe.send(BANNER)
    _close(selector, probe)


def _close(selector: selectors.BaseSelector, probe: object) -> None:
    if isinstance(probe, socket.socket):
        selector.unregister(probe)
        probe.close()
