"""A node: a machine that runs boxes, as the cluster shows it now; and the GPUs that a machine has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from odc.domain.resources import Capacity


@dataclass(frozen=True, slots=True)
class FoundGpu:
    """A GPU of the machine: its identity, what the vendor's library calls it, its memory in GiB, and its device file;
    that is empty if the library does not say."""

    uuid: str
    name: str
    memory_gib: float
    device: str = ""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node, at the time of a list.

    Attributes:
        name: unique in the cluster.
        gpu_type: the pool that the node belongs to.
        gpus: identities of its GPUs, in the node's order; empty for a node without GPUs.
        units: number of units: its GPUs, or for a type without GPUs its shares.
        capacity: all its resources.
        allocatable: the part that boxes may use.
        zone: all nodes of a gang are in one zone.
        ready: False while the node is silent: it takes nothing new and keeps all its claims.
        cordoned: takes nothing new.
        profiling: takes only requests that ask for profiling.
        simulated: its GPUs are simulated; every screen that shows them says so.
        address: where SSH to its boxes is reached.
        held_by_others: GPU to its holder, for GPUs that are used outside this cloud now: they are not lent.
        unusable: GPU to the cause, for GPUs that do not answer or that the engine cannot pass to a box: they are not
            lent.
    """

    name: str
    gpu_type: str
    gpus: tuple[str, ...] = ()
    units: int
    capacity: Capacity
    allocatable: Capacity
    zone: str = ""
    ready: bool = True
    cordoned: bool = False
    profiling: bool = False
    simulated: bool = False
    address: str = "127.0.0.1"
    held_by_others: Mapping[str, str] = {}
    unusable: Mapping[str, str] = {}

    @property
    def usable(self) -> bool:
        """Whether the node takes new boxes."""
        return self.ready and not self.cordoned
