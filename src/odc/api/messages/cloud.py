"""GPU types, nodes, and the state of the daemon."""

from __future__ import annotations

from datetime import datetime

import msgspec

from odc.api.messages.problems import ProblemView
from odc.api.messages.reservations import PublicView


class ChoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """When a count of GPUs is available.

    Attributes:
        gpus: on one node; 0 for a type without GPUs.
        start: when SSH would answer at the latest; equal to the answer's `now` for at once; None if it never fits.
        until: a reservation that starts then must end by this time; None if there is no limit.
    """

    gpus: int
    start: datetime | None
    until: datetime | None = None


class TypeView(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU type of the cloud. `free`, `held`, `quarantined`, `held_by_others` and `unavailable` add up to `total`.

    Attributes:
        name: the type.
        has_gpus: False for a type whose boxes take units instead.
        free: GPUs (or units) that are free now.
        total: GPUs (or units) of all its nodes.
        cordoned: of them, those on cordoned nodes.
        live: reservations that hold some.
        queued: reservations that wait.
        first_queued: the first in line; None if the queue is empty.
        waiting: the same for people: `user, 8 x h100`.
        simulated: its GPUs are simulated.
        node_units: GPUs (or units) of its largest node.
        choices: for 1, 2, 4, 8, … up to a node's GPUs.
        held: GPUs (or units) of reservations.
        quarantined: GPUs (or units) of boxes without a record.
        held_by_others: GPUs that something other than this cloud uses, or that are unusable; they are not lent.
        unavailable: GPUs (or units) that are not in use, on nodes that are silent or cordoned.
    """

    name: str
    has_gpus: bool
    free: int
    total: int
    cordoned: int
    live: int
    queued: int
    first_queued: PublicView | None = None
    waiting: str
    simulated: bool
    node_units: int
    choices: tuple[ChoiceView, ...]
    held: int = 0
    quarantined: int = 0
    held_by_others: int = 0
    unavailable: int = 0


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """Availability by type, from the same plan as the promises.

    Attributes:
        now: the server's clock.
        types: in the catalog's order.
    """

    now: datetime
    types: tuple[TypeView, ...]


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `free`, `held`, `quarantined`, `held_by_others` and `unavailable` add up to `total`.

    Attributes:
        name: of the node.
        gpu_type: its type.
        total: GPUs, or units of a type without GPUs.
        free: of them, now; 0 if the node is silent or cordoned.
        ready: it answers.
        cordoned: nothing new starts there.
        simulated: its GPUs are simulated.
        boxes: that run there.
        held_by_others: GPUs that something other than this cloud uses, or that are unusable; they are not lent.
        held: GPUs (or units) of reservations.
        quarantined: GPUs (or units) of boxes without a record.
        unavailable: GPUs (or units) that are not in use, while the node is silent or cordoned.
    """

    name: str
    gpu_type: str
    total: int
    free: int
    ready: bool
    cordoned: bool
    simulated: bool
    boxes: int
    held_by_others: int = 0
    held: int = 0
    quarantined: int = 0
    unavailable: int = 0


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud as a whole.

    Attributes:
        now: the server's clock.
        types: every type that has nodes or live reservations.
        nodes: every node by name.
        quarantined: boxes without a record, as sentences; they are counted as occupied and left alone.
        warnings: problems and recent repairs, as sentences.
        problem_details: the same as data, in the same order.
    """

    now: datetime
    types: tuple[TypeView, ...]
    nodes: tuple[NodeView, ...]
    quarantined: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem_details: tuple[ProblemView, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the daemon accepts requests, and the components of the cloud.

    Attributes:
        ready: a pass has seen the cluster.
        version: of ODC.
        cloud: the cloud's name.
        types: GPUs (or units) by type.
        simulated: some GPUs are simulated.
        storage: the kind of disk storage, in words.
        engine: the container engine, in words.
        problems: problems and recent repairs, as sentences; while it is not ready, they say why.
        problem_details: the same as data, in the same order.
    """

    ready: bool
    version: str
    cloud: str
    types: dict[str, int]
    simulated: bool
    storage: str
    engine: str
    problems: tuple[str, ...] = ()
    problem_details: tuple[ProblemView, ...] = ()
