"""How long a reservation may be extended: up to the next slot that needs its units, on each of its nodes.

It is answered from the allocations and slots of one node, so nothing is planned for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from odc.scheduling.model import PoolNode
from odc.scheduling.node_timelines import from_micros, to_micros
from odc.scheduling.timeline import FOREVER, Timeline


class Claim(NamedTuple):
    """Units of one node that another allocation or a slot has.

    Attributes:
        units: of the node.
        start: when they are taken; of an allocation, any time that is not later than now.
        end: when they are free at the latest; None if that is unknown.
    """

    units: int
    start: datetime
    end: datetime | None


def latest_end(
    node: PoolNode, claims: Iterable[Claim], units: int, current_end: datetime, wanted_end: datetime
) -> datetime:
    """Return the latest end in `[current_end, wanted_end]` for an allocation of a node that breaks no slot.

    Args:
        node: on one that accepts nothing new, nothing is extended.
        claims: every other allocation of the node, and every slot on it.
        units: of the allocation.
        current_end: when it ends at the latest now.
        wanted_end: when it is to end.

    Cost: grows with the claims of the node.
    """
    if not node.usable:
        return current_end
    timeline = Timeline(0, node.units, to_micros(current_end))
    for claim in claims:
        timeline.change(to_micros(claim.start), FOREVER if claim.end is None else to_micros(claim.end), -claim.units)
    lack = timeline.first_lack(to_micros(current_end), units)
    # Not from_micros(FOREVER): the year would be too large for a datetime.
    return wanted_end if lack >= FOREVER else min(wanted_end, max(current_end, from_micros(lack)))
