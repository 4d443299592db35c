"""A box's share of its node: CPU, memory and shared memory.

Rule (user guide, CPU and Memory Allocation): `share = GPUs asked for / GPUs of the node`, of the node's actual
resources less the part that the operator keeps for the host. Requests are 90 % of the share, limits 150 %, never above
the node. Types without GPUs are divided into units instead.
"""

from __future__ import annotations

import math

import msgspec

REQUEST_PERCENT = 90
LIMIT_PERCENT = 150


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """CPU in thousandths of a core, memory in bytes."""

    cpu_millis: int
    memory_bytes: int

    @property
    def memory_gib(self) -> float:
        """GiB for people: rounded down to a tenth, so that it never exceeds the actual memory."""
        return self.memory_bytes * 10 // 2**30 / 10


class BoxResources(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of one box.

    Attributes:
        request: guaranteed.
        limit: the maximum, which the box may use while other boxes leave it free.
        shm_bytes: the size of `/dev/shm`, half of the memory share.
        cpus: the output of `nproc`: the CPU limit, rounded up, at least 1 and at most the node's.
    """

    request: Capacity
    limit: Capacity
    shm_bytes: int
    cpus: int


def allocatable(node: Capacity, kept_for_host: Capacity) -> Capacity:
    """Return the part of a node that boxes may use: all but the host's part, and at least a tenth of the node."""
    return Capacity(
        cpu_millis=max(node.cpu_millis - kept_for_host.cpu_millis, node.cpu_millis // 10, 1),
        memory_bytes=max(node.memory_bytes - kept_for_host.memory_bytes, node.memory_bytes // 10, 1),
    )


def share_of(available: Capacity, units: int, node_units: int) -> BoxResources:
    """The resources of a box that holds `units` of the node's `node_units` GPUs (or units).

    Args:
        available: the node's allocatable capacity.
        units: 1 to `node_units`.
        node_units: the node's GPUs, or its units if it has none.
    """
    cpu = available.cpu_millis * units // node_units
    memory = available.memory_bytes * units // node_units
    limit = Capacity(
        cpu_millis=max(min(cpu * LIMIT_PERCENT // 100, available.cpu_millis), 1),
        memory_bytes=max(min(memory * LIMIT_PERCENT // 100, available.memory_bytes), 1),
    )
    return BoxResources(
        request=Capacity(
            cpu_millis=max(cpu * REQUEST_PERCENT // 100, 1),
            memory_bytes=max(memory * REQUEST_PERCENT // 100, 1),
        ),
        limit=limit,
        shm_bytes=memory // 2,
        cpus=max(1, math.ceil(limit.cpu_millis / 1000)),
    )
