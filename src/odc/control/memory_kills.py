"""Processes that the kernel killed because a box was out of memory: counted in the record, with an event. Pure.

A box's own counter starts at 0 with each start, so the record has the start that was counted last, and its count. The
count and the event are one transaction, so a crash cannot make a kill count twice.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from odc.control.observation import Observation
from odc.control.steps import Step
from odc.domain.box import BoxSeen, BoxState
from odc.domain.event_kind import EventKind
from odc.domain.reservation import OutOfMemory, Reservation

IMMEDIATE_KILLS = 10
"""Kills that are noted as soon as they are seen; later ones at most once in `NOTE_INTERVAL`, so that a box that keeps
running out of memory does not fill the records."""
NOTE_INTERVAL = timedelta(minutes=1)


def note_kills(record: Reservation, seen: Observation) -> Step | None:
    """Return the step that adds uncounted kills to the record, with an event; None if there are none."""
    before = record.out_of_memory
    boxes = [seen.by_uid.get(place.uid) for place in record.places]
    fresh = [_fresh(before, rank, box) for rank, box in enumerate(boxes)]
    count = sum(fresh)
    if count == 0:
        return None
    stopped = any(number and box and box.state is BoxState.EXITED for number, box in zip(fresh, boxes, strict=True))
    if not stopped and _is_soon(before, seen):
        return None
    known = [box.memory_kills for number, box in zip(fresh, boxes, strict=True) if number and box and box.memory_kills]
    last = max(known, key=lambda kills: (kills.last_at is not None, kills.last_at or seen.now))
    # The kernel's log may lag behind its counter, or drop lines: then the last kill in it is an old one.
    is_old = last.last_at is not None and last.last_at == before.last_at
    counted = OutOfMemory(
        kills=before.kills + count,
        last_at=seen.now if is_old else last.last_at or seen.now,
        command="" if is_old else last.command,
        stopped=stopped,
        noted_at=seen.now,
        counted=tuple(_counted(before, rank, box) for rank, box in enumerate(boxes)),
    )
    step = Step(record=replace(record, out_of_memory=counted))
    step.add_event(record, seen.now, EventKind.OUT_OF_MEMORY, _sentence(count, counted))
    return step


def _before(before: OutOfMemory, rank: int) -> tuple[str, int]:
    return before.counted[rank] if rank < len(before.counted) else ("", 0)


def _counted(before: OutOfMemory, rank: int, box: BoxSeen | None) -> tuple[str, int]:
    kills = box.memory_kills if box else None
    return (kills.life, kills.count) if kills else _before(before, rank)


def _fresh(before: OutOfMemory, rank: int, box: BoxSeen | None) -> int:
    """Kills of this box that are not counted yet."""
    kills = box.memory_kills if box else None
    if kills is None:
        return 0
    life, count = _before(before, rank)
    return max(kills.count - count, 0) if life == kills.life else kills.count


def _is_soon(before: OutOfMemory, seen: Observation) -> bool:
    noted = before.noted_at
    return before.kills >= IMMEDIATE_KILLS and noted is not None and timedelta(0) <= seen.now - noted < NOTE_INTERVAL


def _sentence(count: int, counted: OutOfMemory) -> str:
    one = counted.command or "a process"
    what = one if count == 1 else f"{count} processes" + (f", the last one {one}" if counted.command else "")
    then = "the box stopped and is started again" if counted.stopped else "the box went on"
    return f"out of memory: the kernel killed {what}; {then}"
