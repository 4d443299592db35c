"""What could be had, by GPU type: the stored outlooks at the time of the question. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from odc.control.context import ClusterStatus, Policy
from odc.domain.limits import Limits
from odc.domain.node import Node
from odc.domain.outlook import Opening, Outlook
from odc.domain.promise import ready_by
from odc.scheduling import OpenWindow


@dataclass(frozen=True, slots=True)
class TypeAvailability:
    """One GPU type.

    Attributes:
        name: of the type.
        nodes: its nodes.
        outlook: as the last pass has stored it.
        choices: when each count of GPUs could be had; key: GPUs, or 0 for a type without.
    """

    name: str
    nodes: tuple[Node, ...]
    outlook: Outlook
    choices: Mapping[int, OpenWindow]


def availability(status: ClusterStatus, policy: Policy, now: datetime) -> tuple[TypeAvailability, ...]:
    """Return every type that has nodes or live reservations: in the catalog's order, then the machine's own; last,
    those without GPUs.
    """
    known = [*policy.catalog.types]
    order = {name: place for place, name in enumerate(known)}
    nodes: dict[str, list[Node]] = {}
    for node in status.nodes:
        nodes.setdefault(node.gpu_type, []).append(node)
    return tuple(
        TypeAvailability(
            name=name,
            nodes=tuple(nodes.get(name, ())),
            outlook=outlook,
            choices={opening.gpus: _window(opening, policy.limits, now) for opening in outlook.openings},
        )
        for name, outlook in sorted(
            status.outlooks.items(), key=lambda one: (not one[1].has_gpus, order.get(one[0], len(known)), one[0])
        )
    )


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
