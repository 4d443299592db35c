"""The outlook of a pool: what is free, what could be had and when, and the queue. A pass makes it, queries read it.

It is stored whole, so that a query computes nothing but what depends on the time of the question: a window that is open
now begins at that time, and no start is shown that is past.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """When a count of GPUs could be had.

    Attributes:
        gpus: how many; 0 for a type without GPUs.
        is_open: the window is open since the plan was made.
        start: of a window that opens later, as planned; None if no known time serves it.
        until: end of the window; None if it has no known end.
    """

    gpus: int
    is_open: bool = False
    start: datetime | None = None
    until: datetime | None = None


class QueuedFirst(msgspec.Struct, frozen=True, kw_only=True):
    """What everybody may know of the first in the queue.

    Attributes:
        user: its owner's name.
        gpus: of all its boxes.
        waits_for: id of the reservation whose end it waits for; empty if there is none.
    """

    user: str
    gpus: int
    waits_for: str = ""


class NodeUse(NamedTuple):
    """What is in use on a node.

    Attributes:
        units: of reservations, and of boxes without a record.
        boxes: how many.
        lacking: further units that others hold or that cannot be lent.
        quarantined: of `units`, those that only boxes without a record have.
    """

    units: int = 0
    boxes: int = 0
    lacking: int = 0
    quarantined: int = 0


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The outlook of one pool.

    Attributes:
        picture: digest of the picture of the pool that it was made from.
        has_gpus: whether its boxes hold GPUs.
        live: reservations that have units.
        queue: places in line of the queued reservations, ascending.
        first: the first in the queue.
        openings: by count.
        nodes: by name, of which something is in use.
    """

    picture: str = ""
    has_gpus: bool = True
    live: int = 0
    queue: tuple[int, ...] = ()
    first: QueuedFirst | None = None
    openings: tuple[Opening, ...] = ()
    nodes: Mapping[str, NodeUse] = {}
