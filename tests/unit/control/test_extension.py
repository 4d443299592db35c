"""How long a reservation may be extended: the stored plan of its pool says it, and no promise breaks."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace
from tests.builders import a_node
from tests.world import BEN, HOUR, MINUTE, World

from odc.control.context import ClusterStatus
from odc.control.extension import latest_expiry
from odc.domain.records import Change
from odc.domain.reservation import Reservation, State


def latest(world: World, record: Reservation, by: timedelta) -> datetime:
    now = world.get(record)
    assert now.expires_at is not None
    status = ClusterStatus(nodes=world.cluster.list_nodes())
    wanted, stored = now.expires_at + by, world.store.observe()
    return latest_expiry(now, wanted, stored, status, world.policy.limits, world.clock.now())


def extend(world: World, record: Reservation, to: datetime) -> None:
    """As a request will."""
    version = world.store.observe().pools["h100"]
    world.store.commit(Change(pools={"h100": version}, reservations=(replace(world.get(record), expires_at=to),)))
    world.settle()


def test_it_is_extended_up_to_the_next_slot_and_not_into_it() -> None:
    world = World()
    short, long = world.reserve(gpus=4, hours=1.0), world.reserve(gpus=4, hours=3.0)
    waiting = world.reserve(BEN, gpus=8, hours=1.0)
    end, later = world.get(short).expires_at, world.get(long).expires_at
    assert end is not None
    assert later is not None
    assert latest(world, short, HOUR) == end + HOUR
    # The slot begins when the long one ends, so the short one may last as long as that.
    assert latest(world, short, 5 * HOUR) == later
    assert latest(world, long, HOUR) == later
    extend(world, short, later)
    world.pass_until(lambda: world.get(waiting).state is State.ACTIVE, 4 * HOUR)
    assert world.get(waiting).postponements == 0
    assert waiting.ready_by is not None
    assert world.clock.now() <= waiting.ready_by


def test_one_that_is_longer_by_a_minute_would_postpone_the_next_one() -> None:
    world = World()
    holder, waiting = world.reserve(gpus=8), world.reserve(BEN, gpus=8)
    extend(world, holder, latest(world, holder, HOUR) + MINUTE)
    assert world.get(waiting).postponements == 1


def test_without_a_queue_it_gets_what_it_wants_unless_its_node_takes_nothing_new() -> None:
    world = World((a_node("node-1"), a_node("node-2")))
    record = world.reserve(gpus=8)
    end = world.get(record).expires_at
    assert end is not None
    assert latest(world, record, 20 * HOUR) == end + 20 * HOUR
    node = world.get(record).places[0].node
    world.cluster.put_node(a_node(node, cordoned=True))
    assert latest(world, record, 20 * HOUR) == end
    world.cluster.take_node(node)
    assert latest(world, record, 20 * HOUR) == end


def test_gpus_that_strangers_have_on_its_node_are_not_free_for_an_extension() -> None:
    world = World((a_node("node-1", held_by_others={f"node-1-gpu-{number}": "theirs" for number in range(4)}),))
    record, waiting = world.reserve(gpus=4), world.reserve(BEN, gpus=4)
    assert waiting.state is State.QUEUED
    assert latest(world, record, HOUR) == world.get(record).expires_at
