"""Active reservations that need no step as long as nothing about them changes. Pure: decisions are the same without it.

Most of a thousand active reservations are as they were in the pass before: the same record, equal boxes, the same nodes
and the same check of the host. `advance` has found nothing to do for them, and would find nothing again until they
expire. Whatever else depends on the time is not quiet: a fault, a missing box, a phase under way, many memory kills.
"""

from __future__ import annotations

from collections.abc import Iterator

from odc.control.advance import advance
from odc.control.context import Policy
from odc.control.memory_kills import IMMEDIATE_KILLS
from odc.control.observation import Observation
from odc.control.steps import Step
from odc.domain.reservation import Reservation, State


class QuietReservations:
    """Remembers them from pass to pass. Not for use by several threads at once."""

    def __init__(self) -> None:
        """Begin without any."""
        self._seen: Observation | None = None
        self._quiet: dict[str, Reservation] = {}

    def steps(self, seen: Observation, policy: Policy) -> Iterator[tuple[Reservation, Step]]:
        """Return the placed reservations that have a step now, each with its step.

        Args:
            seen: the observation.
            policy: the operator's, the same in each pass.
        """
        before, self._seen = self._seen, seen
        known = self._quiet if before is not None and _is_same_world(before, seen) else {}
        changed = _changed_boxes(before, seen) if before is not None and known else frozenset()
        with_task = seen.outcomes.keys() | seen.busy | seen.waiting.keys()
        self._quiet = {}
        for record in seen.all_placed:
            is_free = record.id not in with_task
            if is_free and known.get(record.id) is record and not _has_news(record, changed, seen):
                self._quiet[record.id] = record
                continue
            step = advance(record, seen, policy)
            if step is not None:
                yield record, step
            elif is_free and _may_be_quiet(record):
                self._quiet[record.id] = record


def _is_same_world(before: Observation, now: Observation) -> bool:
    """Whether what concerns every reservation is the same."""
    if before.nodes is not now.nodes or (before.boxes is None) != (now.boxes is None):
        return False
    return before.frozen == now.frozen and (before.host is now.host or before.host == now.host)


def _changed_boxes(before: Observation, now: Observation) -> frozenset[str]:
    """Return the uids of boxes that are new, gone, or differ."""
    if before.boxes is now.boxes:
        return frozenset()
    older, newer = before.by_uid, now.by_uid
    differ = (uid for uid, box in newer.items() if older.get(uid) != box)
    return frozenset([*differ, *(older.keys() - newer.keys())])


def _has_news(record: Reservation, changed: frozenset[str], seen: Observation) -> bool:
    """Whether a reservation that was quiet has expired, or has a box that changed."""
    if record.expires_at is not None and record.expires_at <= seen.now:
        return True
    return bool(changed) and any(place.uid in changed for place in record.places)


def _may_be_quiet(record: Reservation) -> bool:
    """Whether nothing about it but its expiry depends on the time."""
    return (
        record.state is State.ACTIVE
        and record.fault is None
        and record.missing_since is None
        and record.under_way is None
        and record.out_of_memory.kills < IMMEDIATE_KILLS
    )
