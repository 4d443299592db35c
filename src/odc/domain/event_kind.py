"""The kinds of events; so far, all are in the history of a reservation."""

from __future__ import annotations

from odc.domain.open_enum import OpenEnum


class EventKind(OpenEnum):
    """The kinds of a reservation's events, in past tense where English allows; the words are stored and sent."""

    ASKED = "asked"
    PROMISED = "promised"
    ESTIMATED = "estimated"
    IMPROVED = "improved"
    """The promise moved earlier."""
    POSTPONED = "postponed"
    """The promise moved later, or was withdrawn."""
    WAITING = "waiting"
    """Its slot has come, and something other than GPUs is not there."""
    PLACED = "placed"
    READY = "ready"
    FAULT = "fault"
    """A passing fault, which is retried."""
    RESTARTED = "restarted"
    UNREACHABLE = "unreachable"
    REACHABLE = "reachable"
    OUT_OF_MEMORY = "out of memory"
    CANCELLED = "cancelled"
    """A user or an operator asked for the end."""
    ENDING = "ending"
    STOPPED = "stopped"
    """The boxes are gone and the GPUs are free."""
    SNAPSHOT = "snapshot"
    REQUEUED = "queued again"
    ENDED = "ended"
