"""The words in which users read where a reservation and its boxes are, and why it ended."""

from __future__ import annotations

from odc.domain.open_enum import OpenEnum


class Status(OpenEnum):
    """The state of a reservation; once it has ended, how it ended."""

    QUEUED = "queued"
    PREPARING = "preparing"
    ACTIVE = "active"
    ENDING = "ending"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


LIVE = (Status.QUEUED, Status.PREPARING, Status.ACTIVE, Status.ENDING)
ENDED = (Status.EXPIRED, Status.CANCELLED, Status.FAILED)


class EndCause(OpenEnum):
    """Why a reservation ends, or goes back to the queue."""

    EXPIRED = "expired"
    """Its time is over."""
    CANCELLED = "cancelled"
    """Its owner or an operator asked for it."""
    REFUSED = "refused"
    """Its box cannot be started, and trying again would not help."""
    NOT_READY = "not_ready"
    """SSH did not answer within the limit for starting."""
    PLACE_TAKEN = "place_taken"
    """Another program took its port or its room on the node."""
    RESTART_REFUSED = "restart_refused"
    """Its box stopped and cannot be started again."""
    BOX_REMOVED = "box_removed"
    """Something other than ODC removed its box."""
    OTHER = "other"
    """Recorded by a version that stored a sentence only."""


class WaitsFor(OpenEnum):
    """The kinds of things that a queued reservation waits for."""

    DISK = "disk"
    """The snapshot of its own disk, at the end of the reservation that holds the disk."""
    QUEUE = "queue"
    """The reservation before it in the queue."""
    GPUS = "gpus"
    """The end of a reservation that has the GPUs."""


class TroubleKind(OpenEnum):
    """The kinds of problems that block a reservation, or its user's access to the box."""

    UNREACHABLE = "unreachable"
    """Users cannot reach its SSH."""
    RETRYING = "retrying"
    """A step failed, and is tried again with growing delay."""
    HOST = "host"
    """The host cannot start boxes now."""
    IMAGE = "image"
    """The image of its box is gone."""
    PORTS = "ports"
    """Its node has no free ports for another box."""
    NO_NODE = "no_node"
    """No node that is there now could ever serve it."""
    OTHER = "other"
    """Recorded by a version that stored a sentence only."""


class BoxStatus(OpenEnum):
    """The state of a box, as far as the daemon knows it."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNREACHABLE = "unreachable"
    """Its node does not answer, or users cannot reach its SSH."""
    ABSENT = "absent"
    """The list of boxes lacks it."""
