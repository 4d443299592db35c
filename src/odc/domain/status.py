"""The words in which users read where a reservation and its boxes are."""

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


class BoxStatus(OpenEnum):
    """The state of a box, as far as the daemon knows it."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNREACHABLE = "unreachable"
    """Its node does not answer, or users cannot reach its SSH."""
    ABSENT = "absent"
    """The list of boxes lacks it."""
