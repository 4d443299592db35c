"""What could be had, by GPU type: the stored outlooks at the time of the question. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from odc.control.context import ClusterStatus, Policy
from odc.domain.limits import Limits
from odc.domain.node import Node
from odc.domain.outlook import NodeUse, Opening, Outlook
from odc.domain.promise import ready_by
from odc.scheduling import OpenWindow


class UnitCounts(NamedTuple):
    """How the GPUs (or units) of a node or of a type are used. The other numbers add up to `total`.

    Attributes:
        total: all of them.
        free: a reservation could have them now.
        held: of reservations.
        quarantined: of boxes without a record.
        others: used by something other than this cloud, or unusable.
        unavailable: the rest of nodes that are silent or cordoned.
    """

    total: int = 0
    free: int = 0
    held: int = 0
    quarantined: int = 0
    others: int = 0
    unavailable: int = 0


def node_counts(node: Node, use: NodeUse) -> UnitCounts:
    """Return how the units of a node are used.

    If more are in use than the node has, as after one of its GPUs was removed, the surplus is not counted.
    """
    held = min(use.units - use.quarantined, node.units)
    quarantined = min(use.quarantined, node.units - held)
    others = min(use.lacking, node.units - held - quarantined)
    rest = node.units - held - quarantined - others
    free = rest if node.usable else 0
    return UnitCounts(node.units, free, held, quarantined, others, rest - free)


@dataclass(frozen=True, slots=True)
class TypeAvailability:
    """One GPU type.

    Attributes:
        name: of the type.
        nodes: its nodes.
        outlook: as the last pass has stored it.
        choices: when each count of GPUs could be had; key: GPUs, or 0 for a type without.
        use: what is in use on its nodes, also by boxes of other types; key: node, only those of which something is.
    """

    name: str
    nodes: tuple[Node, ...]
    outlook: Outlook
    choices: Mapping[int, OpenWindow]
    use: Mapping[str, NodeUse]

    @property
    def counts(self) -> UnitCounts:
        """How the units of all its nodes are used."""
        of_nodes = [node_counts(node, self.use.get(node.name, NodeUse())) for node in self.nodes]
        return UnitCounts(*(sum(column) for column in zip(UnitCounts(), *of_nodes, strict=True)))


def availability(status: ClusterStatus, policy: Policy, now: datetime) -> tuple[TypeAvailability, ...]:
    """Return every type that has nodes or live reservations: in the catalog's order, then the machine's own; last,
    those without GPUs.
    """
    known = [*policy.catalog.types]
    order = {name: place for place, name in enumerate(known)}
    nodes: dict[str, list[Node]] = {}
    for node in status.nodes:
        nodes.setdefault(node.gpu_type, []).append(node)
    use = _use(status.outlooks.values())
    return tuple(
        TypeAvailability(
            name=name,
            nodes=tuple(nodes.get(name, ())),
            outlook=outlook,
            choices={opening.gpus: _window(opening, policy.limits, now) for opening in outlook.openings},
            use={node.name: use[node.name] for node in nodes.get(name, ()) if node.name in use},
        )
        for name, outlook in sorted(
            status.outlooks.items(), key=lambda one: (not one[1].has_gpus, order.get(one[0], len(known)), one[0])
        )
    )


def _use(outlooks: Iterable[Outlook]) -> dict[str, NodeUse]:
    """Return what is in use on each node. Boxes of several types may be on one whose type was changed."""
    found: dict[str, NodeUse] = {}
    for name, use in (one for outlook in outlooks for one in outlook.nodes.items()):
        known = found.get(name)
        found[name] = NodeUse(*map(sum, zip(known, use, strict=True))) if known else use
    return found


def _window(opening: Opening, limits: Limits, now: datetime) -> OpenWindow:
    """Return the window that a user's reservation could use: from now, or from the promise that it would get, and
    without the time limits of preparing and stopping.
    """
    until = None if opening.until is None else opening.until - limits.prepare - limits.stop
    if opening.is_open:
        return OpenWindow(start=now, until=until)
    if opening.start is None:
        return OpenWindow(start=None, until=until)
    # Where passes do not run, its time may have gone by.
    return OpenWindow(start=max(ready_by(opening.start, limits), now), until=until)
