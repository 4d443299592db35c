"""Ended reservations are deleted after some days, and their events are exported first."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta

import pytest
from tests.builders import an_event
from tests.world import OUTSIDE, Fuse, World

from odc.control.record_pruning import INTERVAL
from odc.domain.errors import ProviderUnavailable
from odc.domain.limits import Limits
from odc.domain.records import AuditEvent, Change, Subject, SubjectKind
from odc.domain.reservation import Reservation, State

DAY = timedelta(days=1)


class Exported:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.is_full = False

    def append(self, events: Sequence[AuditEvent]) -> None:
        if self.is_full:
            raise ProviderUnavailable("no space left")
        self.events += events


def with_history(number: int = 3, **limits: float) -> tuple[World, Exported, list[Reservation]]:
    """A world with so many ended reservations, and its audit log."""
    world, exported = World(limits=Limits(**{"ended_days": 90, **limits})), Exported()  # type: ignore[arg-type]
    world.audit_log = exported
    world.build()
    records = [world.reserve(name=f"r{place}") for place in range(number)]
    for record in records:
        world.cancel(record)
    world.settle()
    assert all(world.get(record).state is State.ENDED for record in records)
    return world, exported, records


def left(world: World) -> set[str]:
    return {record.id for record in world.all()}


def test_an_ended_reservation_is_deleted_after_its_days_and_its_events_are_exported() -> None:
    world, exported, records = with_history()
    told = [event for record in records for event in world.events(record)]
    world.pass_time(89 * DAY, step=DAY)
    assert left(world) == {record.id for record in records}
    assert exported.events == []
    world.pass_time(2 * DAY, step=DAY)
    assert left(world) == set()
    assert sorted(exported.events, key=told.index) == told
    for record in records:
        assert world.events(record) == ()
        assert world.store.find_secrets(record.id) is None


def test_a_live_reservation_is_kept_however_old_it_is() -> None:
    world, _, _ = with_history(ended_days=0.01)
    record = world.reserve(hours=24.0)
    world.pass_time(timedelta(hours=20), step=timedelta(hours=1))
    assert left(world) == {record.id}


def test_nothing_is_deleted_for_its_age_without_a_limit_or_a_trusted_clock() -> None:
    world, _, records = with_history(ended_days=0)
    world.pass_time(400 * DAY, step=10 * DAY)
    assert len(left(world)) == len(records)
    world, _, records = with_history()
    world.clock.jump(400 * DAY)
    world.pass_time(timedelta(hours=1), step=INTERVAL)
    assert len(left(world)) == len(records)


def test_nothing_is_deleted_while_the_audit_log_cannot_be_written() -> None:
    world, exported, records = with_history(ended_days=1)
    exported.is_full = True
    world.pass_time(3 * DAY, step=DAY)
    assert len(left(world)) == len(records)
    exported.is_full = False
    world.pass_time(DAY, step=INTERVAL * 50)
    assert left(world) == set()
    assert exported.events


def test_events_of_disks_nodes_and_users_are_exported_and_deleted_after_the_same_days() -> None:
    world, exported, _ = with_history(0)
    subjects = [Subject(kind, "one") for kind in SubjectKind if kind is not SubjectKind.RESERVATION]
    told = [an_event("one", subject_kind=subject.kind, at=world.clock.now()) for subject in subjects]
    world.store.commit(Change(events=tuple(told)))
    world.pass_time(89 * DAY, step=DAY)
    later = an_event("one", subject_kind=subjects[0].kind, at=world.clock.now(), text="later")
    world.store.commit(Change(events=(later,)))
    assert exported.events == []
    exported.is_full = True
    world.pass_time(2 * DAY, step=DAY)
    assert [world.store.list_events(subject).items for subject in subjects] == [(told[0], later), *zip(told[1:])]
    exported.is_full = False
    world.pass_time(timedelta(hours=1), step=INTERVAL)
    assert [world.store.list_events(subject).items for subject in subjects] == [(later,), (), ()]
    assert sorted(exported.events, key=told.index) == told


def test_events_are_kept_without_a_limit() -> None:
    world, _, _ = with_history(0, ended_days=0)
    event = an_event("ada", subject_kind=SubjectKind.USER, at=world.clock.now())
    world.store.commit(Change(events=(event,)))
    world.pass_time(400 * DAY, step=10 * DAY)
    assert world.store.list_events(event.subject).items == (event,)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_event_is_exported_at_least_once_whatever_call_is_the_last(after: bool) -> None:
    number, seen, blown = 0, set(), True
    while blown:
        number += 1
        world, exported, records = with_history(2, ended_days=1)
        told = {event for record in records for event in world.events(record)}
        world.clock.advance(2 * DAY)
        fuse = Fuse(number, after, killed, (*OUTSIDE, "audit_log"))
        world.build(fuse)
        with contextlib.suppress(Killed):
            world.settle()
        blown = fuse.blown
        assert {event for record in records for event in world.events(record)} | set(exported.events) >= told
        world.crash()
        world.clock.advance(INTERVAL)
        world.settle()
        assert left(world) == set()
        assert set(exported.events) == told
        seen.add(fuse.where.partition(" ")[2])
    assert {"audit_log.append", "store.delete_ended", "store.list_events"} <= seen


class Killed(BaseException):
    """`kill -9`."""


def killed() -> None:
    raise Killed
