"""What a user can make the records grow by: nothing by refusals, and little by anything else."""

from __future__ import annotations

import functools
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from tests.builders import a_reservation, an_event
from tests.world import ADA, BEN, HOUR, World, every_reservation

from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.errors import InvalidRequest, LimitExceeded, NotFound
from odc.domain.limits import Limits
from odc.domain.records import Change, Subject
from odc.domain.requests import Cancel, SetOwnKeys
from odc.domain.reservation import EndReason, State

pytestmark = pytest.mark.usefixtures("world_kind")


def a_past(owner: str, number: int) -> Change:
    """So many ended reservations of an owner, each with two events."""
    ended = tuple(a_reservation(owner=owner, state=State.ENDED, ended_why=EndReason.EXPIRED) for _ in range(number))
    told = tuple(an_event(record.id, kind=kind) for record in ended for kind in ("asked", "ended"))
    return Change(reservations=ended, events=told)


def test_a_refused_request_is_not_kept_and_a_repeat_is_decided_again() -> None:
    world = World()
    holder = world.reserve(disk="proj")
    request_id = uuid.uuid4().hex
    with pytest.raises(InvalidRequest, match="in use"):
        world.ask(request_id=request_id, disk="proj")
    assert world.store.find_request(request_id) is None
    world.cancel(holder)
    world.settle()
    assert world.ask(request_id=request_id, disk="proj").state is State.QUEUED
    assert len(world.all()) == 2


def test_refusals_add_nothing_to_the_database(tmp_path: Path) -> None:
    store = SqlStateStore(f"sqlite:///{tmp_path}/odc.db")
    world = World(store=store)
    before = sum(path.stat().st_size for path in tmp_path.iterdir())
    for _ in range(50):
        for refused in (
            functools.partial(world.ask, disk="x" * 120_000),
            functools.partial(world.send, Cancel(reservation="y" * 120_000)),
        ):
            with pytest.raises((InvalidRequest, NotFound)):
                refused()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == before
    store.close()


def test_requests_are_pruned_a_day_later_and_repeats_act_once_until_then() -> None:
    world = World()
    request_id = uuid.uuid4().hex
    record = world.ask(request_id=request_id, hours=24.0)
    world.pass_time(23 * HOUR, step=HOUR)
    assert world.ask(request_id=request_id, hours=24.0).id == record.id
    world.pass_time(2 * HOUR, step=HOUR)
    assert world.store.find_request(request_id) is None


def test_a_clock_that_jumped_prunes_nothing() -> None:
    world = World()
    request_id = uuid.uuid4().hex
    world.ask(request_id=request_id)
    world.clock.jump(timedelta(days=30))
    for _ in range(3):
        world.clock.advance(HOUR)
        world.pass_once()
    assert world.store.find_request(request_id) is not None
    world.accept_clock()
    world.clock.advance(HOUR)
    world.settle()
    assert world.store.find_request(request_id) is None


def test_the_newest_of_a_users_history_are_kept_and_the_rest_goes() -> None:
    world = World(store=MemoryStateStore(), limits=Limits(ended_per_user=20))
    world.store.commit(a_past(ADA.id, 100))
    world.store.commit(a_past(BEN.id, 30))
    record = world.reserve(hours=24.0)
    everything = every_reservation(world.store, ADA.id)
    world.pass_time(HOUR, step=timedelta(minutes=5))
    kept = every_reservation(world.store, ADA.id)
    assert [r.id for r in kept] == [r.id for r in everything[:21]]
    assert kept[0].id == record.id
    assert all(world.store.list_events(Subject.reservation(r.id)).items for r in kept)
    assert not any(world.store.list_events(Subject.reservation(r.id)).items for r in everything[21:])
    # Ben reserves nothing, so his history does not grow.
    assert len(every_reservation(world.store, BEN.id)) == 30


def test_a_repeat_whose_reservation_was_pruned_is_told_so() -> None:
    world = World(store=MemoryStateStore(), limits=Limits(ended_per_user=10))
    request_id = uuid.uuid4().hex
    first = world.ask(request_id=request_id)
    world.cancel(first)
    world.store.commit(a_past(ADA.id, 20))
    world.reserve(hours=24.0)
    world.pass_time(HOUR, step=timedelta(minutes=5))
    assert world.store.find_reservation(first.id) is None
    with pytest.raises(NotFound, match="pruned since"):
        world.ask(request_id=request_id)


def test_a_user_has_so_many_disks_and_no_more() -> None:
    world = World(store=MemoryStateStore(), limits=Limits(disks_per_user=3))
    for number in range(3):
        world.cancel(world.reserve(disk=f"disk{number}"))
        world.settle()
    with pytest.raises(LimitExceeded, match="you have 3 disks, the limit for one user is 3") as caught:
        world.ask(disk="one-more")
    assert caught.value.hints[-1].command.endswith("--disk none")
    assert world.reserve(disk="disk0").state is State.ACTIVE
    assert world.reserve(BEN, disk="mine").state is State.ACTIVE


def test_keys_that_are_set_again_and_again_are_one_record() -> None:
    world = World()
    for _ in range(50):
        world.send(SetOwnKeys(keys=world.queries.me(ADA).own_keys))
    assert [user.principal for user in world.store.list_users().items] == [ADA.id, BEN.id]
