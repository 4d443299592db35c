"""The ports of the machine that lead to this cloud's boxes: which box has which, and which are free.

The containers' labels are the record; this object is a copy of them, so that a start needs no additional call of the
engine. It learns from each list, and from what this process makes itself.

The addresses of an attempt's network follow from the SSH port of its first box (`container.subnet_of`). So a port whose
addresses a network still has is not given to a box of another attempt as its SSH port.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from odc.adapters.engine.tcp_ports import has_address, is_free
from odc.domain.box import BOX_PORTS, SSH, BoxName, BoxSeen
from odc.domain.errors import PlaceTaken

_MAKING = 2**63


@dataclass(frozen=True, slots=True)
class _Entry:
    """The ports of a box, and the number of the change by which they were noted; `_MAKING` while it is being made."""

    ports: Mapping[str, int]
    number: int


class HostPorts:
    """See the module. Any method may be called by several threads at once."""

    def __init__(self, listen: str, ports: tuple[int, int]) -> None:
        """Begin without any box.

        Args:
            listen: the address at which the ports are opened.
            ports: the first and the last port.
        """
        self._listen = listen
        self._range = range(ports[0], ports[1] + 1)
        self._lock = threading.Lock()
        self._boxes: dict[BoxName, _Entry] = {}
        self._networks: dict[tuple[str, int], int] = {}
        self._strangers: set[int] = set()
        self._number = 0

    @property
    def number(self) -> int:
        """The number of the newest change; see `learn`."""
        with self._lock:
            return self._number

    def learn(self, boxes: Iterable[BoxSeen], number: int) -> None:
        """Take over the ports of every box.

        Args:
            boxes: every box of the cloud.
            number: of the newest change before they were listed; what was noted after it stays.
        """
        with self._lock:
            newer = {name: entry for name, entry in self._boxes.items() if entry.number > number}
            self._boxes = {box.name: _Entry(box.ports, number) for box in boxes} | newer

    def note_network(self, reservation_id: str, attempt: int, port: int) -> None:
        """The network of the attempt has the addresses that belong to this port."""
        with self._lock:
            self._networks[reservation_id, attempt] = port

    def knows_network(self, reservation_id: str, attempt: int) -> bool:
        """Whether it is known which addresses the network of the attempt has."""
        with self._lock:
            return (reservation_id, attempt) in self._networks

    def forget_networks(self, reservation_id: str, attempt: int) -> None:
        """The networks of the attempts up to this one are gone."""
        with self._lock:
            self._networks = {
                (owner, number): port
                for (owner, number), port in self._networks.items()
                if owner != reservation_id or number > attempt
            }

    def give(self, name: BoxName, wanted: Sequence[str]) -> Mapping[str, int]:
        """Give ports to a box; those that it has already, if it is known. The caller then calls `confirm`.

        Args:
            name: of the box.
            wanted: the names of its ports.

        Returns:
            Name to port.

        Raises:
            PlaceTaken: there are not enough free ports.
        """
        with self._lock:
            known = self._boxes.get(name)
            if known is not None:
                return known.ports
            ports = self._choose(name, wanted)
            self._boxes[name] = _Entry(ports, _MAKING)
            return ports

    def confirm(self, name: BoxName, ports: Mapping[str, int]) -> None:
        """The box was made, or may have been made: it has these ports until a later list does not show it."""
        with self._lock:
            self._number += 1
            self._boxes[name] = _Entry(ports, self._number)

    def take_back(self, name: BoxName, refused: bool = False) -> None:
        """The box has no ports any more.

        Args:
            name: of the box.
            refused: another program has one of them; they are given only when no others are left.
        """
        with self._lock:
            entry = self._boxes.pop(name, None)
            if entry is not None and refused:
                self._strangers |= set(entry.ports.values())

    def shortage(self) -> str:
        """Return that there are not enough free ports for one more box; empty if there are.

        Cost: one bind for each port that another program had when it was last tried, if few ports are left.
        """
        with self._lock:
            rest = set(self._range) - self._used()
            if len(rest - self._strangers) >= len(BOX_PORTS):
                return ""
            free = {port for port in rest if self._is_free(port)}
            return "" if len(free) >= len(BOX_PORTS) else self._all_used()

    def _used(self) -> set[int]:
        return {port for entry in self._boxes.values() for port in entry.ports.values()}

    def _choose(self, name: BoxName, wanted: Sequence[str]) -> Mapping[str, int]:
        """Return consecutive ports, which the engine publishes faster; single ones where none are left."""
        used = self._used()
        attempt = (name.reservation_id, name.attempt)
        others = {port for owner, port in self._networks.items() if owner != attempt}
        turn = self._in_turn(name)
        for first in turn:
            block = range(first, first + len(wanted))
            # Blocks that begin at any port would leave gaps.
            begins = (first - self._range[0]) % len(wanted) == 0 and block[-1] in self._range
            if begins and first not in others and used.isdisjoint(block) and all(map(self._is_free, block)):
                return dict(zip(wanted, block, strict=True))
        chosen: dict[str, int] = {}
        for want in wanted:
            taken = used | others if want == SSH else used
            port = next((port for port in turn if port not in taken and self._is_free(port)), None)
            if port is None:
                raise PlaceTaken(self._all_used())
            chosen[want] = port
            used.add(port)
        return chosen

    def _is_free(self, port: int) -> bool:
        """Whether no other program has the port now."""
        found = is_free(self._listen, port)
        (self._strangers.discard if found else self._strangers.add)(port)
        return found

    def _in_turn(self, name: BoxName) -> list[int]:
        """Return all ports: that of the attempt's network first, then from one that depends on the name, so that
        another attempt does not begin with the same; those that others had when they were last tried come last.
        """
        own = self._networks.get((name.reservation_id, name.attempt))
        start = zlib.crc32(str(name).encode()) % len(self._range)
        turn = [*self._range[start:], *self._range[:start]]
        return sorted(turn, key=lambda port: (port in self._strangers, port != own))

    def _all_used(self) -> str:
        if not has_address(self._listen):
            return f"the machine has no address {self._listen} now, at which boxes listen"
        text = f"all ports from {self._range[0]} to {self._range[-1]} are in use"
        others = len(self._strangers - self._used())
        return f"{text}, {others} of them by other programs" if others else text
