"""A node: a machine that runs boxes, as the cluster shows it now; what requests may need of it; a machine's GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import msgspec

from odc.domain.resources import Capacity


@dataclass(frozen=True, slots=True)
class FoundGpu:
    """A GPU of the machine.

    Attributes:
        uuid: its identity.
        name: what the vendor's library calls it.
        memory_gib: its memory.
        device: its device file; empty if the library does not say.
        island: name of the group of GPUs that it reaches faster than others; empty if unknown.
    """

    uuid: str
    name: str
    memory_gib: float
    device: str = ""
    island: str = ""


class Needs(msgspec.Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a request needs of its nodes, in addition to units of its type. Part of no cycle, so without `gc`.

    A record with an unknown need cannot be read: to ignore the need would be wrong.

    Attributes:
        labels: that the node must have, with these values.
        arch: of its processors, such as `amd64`; empty: any.
        zone: of the node; empty: any.
        profiling: a node for profiling, alone.
    """

    labels: Mapping[str, str] = {}
    arch: str = ""
    zone: str = ""
    profiling: bool = False


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node, at the time of a list.

    Attributes:
        name: unique in the cluster.
        gpu_type: the pool that the node belongs to.
        gpus: identities of its GPUs, in the node's order; empty for a node without GPUs, and for one whose cluster only
            counts them and decides by itself which GPUs a box gets.
        units: number of units: its GPUs, or for a type without GPUs its shares.
        islands: groups of its GPUs, by identity, that reach each other faster than others, by NVLink or in one NUMA
            node; empty if unknown, or if all are equal. A GPU is in one at most.
        capacity: all its resources.
        allocatable: the part that boxes may use.
        zone: all nodes of a gang are in one zone.
        labels: the node's labels, key to value.
        arch: of its processors, as Kubernetes names it: `amd64` or `arm64`; empty if unknown.
        ready: False while the node is silent: it takes nothing new and keeps all its claims.
        cordoned: takes nothing new.
        profiling: takes only requests that ask for profiling.
        simulated: its GPUs are simulated; every screen that shows them says so.
        address: where SSH to its boxes is reached.
        full: why it takes no more boxes although it may have free units, as when its ports are used up; empty if it
            takes more.
        held_by_others: GPU to its holder, for GPUs that are used outside this cloud now: they are not lent.
        held_units: further units that are used outside this cloud now, where the cluster knows only their number.
        unusable: GPU to the cause, for GPUs that do not answer or that the engine cannot pass to a box: they are not
            lent.
    """

    name: str
    gpu_type: str
    gpus: tuple[str, ...] = ()
    units: int
    islands: tuple[tuple[str, ...], ...] = ()
    capacity: Capacity
    allocatable: Capacity
    zone: str = ""
    labels: Mapping[str, str] = {}
    arch: str = ""
    ready: bool = True
    cordoned: bool = False
    profiling: bool = False
    simulated: bool = False
    address: str = "127.0.0.1"
    full: str = ""
    held_by_others: Mapping[str, str] = {}
    held_units: int = 0
    unusable: Mapping[str, str] = {}

    @property
    def usable(self) -> bool:
        """Whether the node takes new boxes."""
        return self.ready and not self.cordoned

    def not_lent(self, ours: Set[str] = frozenset()) -> int:
        """Return how many units are not lent: others hold them, or they cannot be used.

        Args:
            ours: identities of GPUs that this cloud has given to boxes; they are not counted.
        """
        if not (self.held_by_others or self.unusable):
            return self.held_units
        return len((self.held_by_others.keys() | self.unusable.keys()) - ours) + self.held_units


def choose_gpus(free: Sequence[str], islands: Sequence[Sequence[str]], count: int) -> tuple[str, ...]:
    """Choose GPUs for a box so that islands stay whole for later boxes.

    If they fit in one island, it is the one with the fewest free GPUs that has enough; else as few islands as possible
    are used.

    Args:
        free: identities of the node's free GPUs, in its order; at least `count`.
        islands: the node's islands; GPUs in none of them count as one more.
        count: how many to choose.

    Returns:
        In the node's order.
    """
    known = {gpu for island in islands for gpu in island}
    groups = [[gpu for gpu in free if gpu in island] for island in islands]
    groups = [group for group in (*groups, [gpu for gpu in free if gpu not in known]) if group]
    chosen: set[str] = set()
    while len(chosen) < count:
        missing = count - len(chosen)
        enough = [group for group in groups if len(group) >= missing]
        # The first of equals, so that GPUs are given in the node's order.
        group = min(enough, key=len) if enough else max(groups, key=len)
        groups.remove(group)
        chosen.update(group[:missing])
    return tuple(gpu for gpu in free if gpu in chosen)
