"""The nodes of an engine on one machine: the machine itself, or simulated ones that share its cores and memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from odc.domain.catalog import Catalog
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest, NotFound
from odc.domain.node import FoundGpu, Node
from odc.domain.resources import Capacity, allocatable

MAX_NODES = 64
MAX_UNITS = 64
DIGITS = 4
TWO_SOCKETS = 8
"""GPUs from which a simulated node has two islands."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EXAMPLE = ("for example", odc("up --simulate h100=2x8,t4=1x4"))


@dataclass(frozen=True, slots=True)
class _Division:
    """A machine that is divided among nodes, in so many equal units.

    Attributes:
        machine: all of it.
        kept: the host's part of it.
        total: units.
    """

    machine: Capacity
    kept: Capacity
    total: int

    def node(
        self,
        name: str,
        gpu_type: str,
        gpus: tuple[str, ...],
        units: int,
        islands: tuple[tuple[str, ...], ...] = (),
        simulated: bool = False,
    ) -> Node:
        """The node that has these units of it."""
        whole, host = self._part(self.machine, units), self._part(self.kept, units)
        return Node(
            name=name,
            gpu_type=gpu_type,
            gpus=gpus,
            units=units,
            islands=islands,
            arch=_ARCHITECTURES.get(platform.machine(), platform.machine()),
            capacity=whole,
            allocatable=allocatable(whole, host),
            simulated=simulated,
        )

    def _part(self, capacity: Capacity, units: int) -> Capacity:
        return Capacity(
            cpu_millis=capacity.cpu_millis * units // self.total,
            memory_bytes=capacity.memory_bytes * units // self.total,
        )


def machine_capacity() -> Capacity:
    """Return the machine's resources: the cores that this process may use, and all memory."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Capacity(cpu_millis=len(os.sched_getaffinity(0)) * 1000, memory_bytes=pages)


def simulated_nodes(text: str, catalog: Catalog, machine: Capacity, kept: Capacity) -> tuple[Node, ...]:
    """Return simulated nodes.

    Args:
        text: `TYPE=NODESxUNITS`, joined by commas: `h100=2x8,t4=1x4` is two nodes of eight h100 and one of four t4.
        catalog: the known types.
        machine: the resources that are divided among the nodes, by their units.
        kept: the host's part of it.

    Raises:
        InvalidRequest: the text does not have that form, or has no units or too many.
    """
    wanted = [_parse(part, catalog) for part in text.split(",") if part.strip()]
    if not wanted:
        raise InvalidRequest(f"nothing to simulate in {text[:40]!r}", _EXAMPLE)
    names = [name for name, *_ in wanted]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"{name} is given twice; give each type once", _EXAMPLE)
    total = sum(count * units for _, count, units, _ in wanted)
    if sum(count for _, count, _, _ in wanted) > MAX_NODES:
        raise InvalidRequest(f"at most {MAX_NODES} nodes can be simulated", _EXAMPLE)
    division = _Division(machine, kept, total)
    nodes = []
    for name, count, units, has_gpus in wanted:
        for number in range(1, count + 1):
            node = f"{name}-node-{number}"
            gpus = tuple(f"SIM-{node}-{index}" for index in range(units)) if has_gpus else ()
            # As in servers with two processors: each has half of the GPUs.
            halves = (gpus[: units // 2], gpus[units // 2 :]) if len(gpus) >= TWO_SOCKETS else ()
            nodes.append(division.node(node, name, gpus, units, halves, simulated=True))
    return tuple(sorted(nodes, key=lambda node: node.name))


def _parse(part: str, catalog: Catalog) -> tuple[str, int, int, bool]:
    """The type, nodes, units of each, and whether it has GPUs."""
    name, equals, shape = part.strip().partition("=")
    count, cross, units = shape.partition("x")
    if not (equals and cross and count.isascii() and count.isdigit() and units.isascii() and units.isdigit()):
        raise InvalidRequest(f"{part.strip()[:40]!r} is not TYPE=NODESxGPUS", _EXAMPLE)
    try:
        gpu_type = catalog.get_type(name)
    except NotFound as error:
        raise InvalidRequest(error.message, _EXAMPLE) from error
    in_range = len(count) <= DIGITS and len(units) <= DIGITS
    if not (in_range and 1 <= int(count) <= MAX_NODES and 1 <= int(units) <= MAX_UNITS):
        raise InvalidRequest(f"{part.strip()[:40]!r}: from 1 to {MAX_NODES} nodes of 1 to {MAX_UNITS}", _EXAMPLE)
    return name, int(count), int(units), gpu_type.has_gpus


def machine_nodes(
    gpus: Iterable[FoundGpu],
    catalog: Catalog,
    machine: Capacity,
    kept: Capacity,
    kept_types: Collection[str] = (),
    known: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Node, ...]:
    """Return the machine as nodes: one for each type of GPU that it lends, since a node has one type.

    Cores and memory are divided among them by their GPUs. The node of the most frequent type gets the machine's name,
    the others that and their type. A machine that lends no GPU serves the CPU type of its processor.

    Args:
        gpus: the GPUs of the machine.
        catalog: the known types.
        machine: the resources that are divided among the nodes.
        kept: the host's part of it.
        kept_types: types that are not lent, such as that of the machine's display.
        known: type to name, of earlier nodes: boxes run on them, so they keep their names if the machine is renamed or
            GPUs are added.

    Returns:
        By name.
    """
    lent = {name: found for name, found in by_type(gpus, catalog).items() if name not in kept_types}
    host = platform.node() or "node-1"
    if not lent:
        cpu_type = "cpu-arm" if platform.machine() in ("aarch64", "arm64") else "cpu-x86"
        units = catalog.get_type(cpu_type).units_per_node
        name = _names([cpu_type], host, known)[cpu_type]
        return (_Division(machine, kept, units).node(name, cpu_type, (), units),)
    division = _Division(machine, kept, sum(map(len, lent.values())))
    names = _names(sorted(lent, key=lambda name: -len(lent[name])), host, known)
    nodes = [
        division.node(names[name], name, tuple(gpu.uuid for gpu in found), len(found), _islands(found))
        for name, found in lent.items()
    ]
    return tuple(sorted(nodes, key=lambda node: node.name))


def _islands(gpus: Iterable[FoundGpu]) -> tuple[tuple[str, ...], ...]:
    """The GPUs of each island, in the driver's order; none if it is unknown for some, or if all are in one."""
    islands: dict[str, list[str]] = {}
    for gpu in gpus:
        islands.setdefault(gpu.island, []).append(gpu.uuid)
    known = "" not in islands and len(islands) > 1
    return tuple(tuple(island) for island in islands.values()) if known else ()


def _names(types: Iterable[str], host: str, known: Mapping[str, str]) -> dict[str, str]:
    """Type to node; the first that is new gets the machine's own name, if no node has it."""
    names: dict[str, str] = {}
    for name in types:
        taken = {*known.values(), *names.values()}
        names[name] = known.get(name) or (f"{host}-{name}" if host in taken else host)
    return names


def by_type(gpus: Iterable[FoundGpu], catalog: Catalog) -> dict[str, list[FoundGpu]]:
    """The GPUs of each type, in the driver's order; the types by name."""
    types: dict[str, list[FoundGpu]] = {}
    for gpu in gpus:
        types.setdefault(catalog.type_of_gpu(gpu.name, gpu.memory_gib), []).append(gpu)
    return dict(sorted(types.items()))
