"""What was promised is kept; what cannot be kept is told, once, with its cause.

Rows 27, 28, 49 and 50 of docs/survives.md.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from tests.builders import a_node
from tests.world import ADA, BEN, HOUR, MINUTE, OPERATOR, SECOND, World, spec_of

from odc.adapters.memory.cluster import NEVER
from odc.domain.errors import ProviderUnavailable
from odc.domain.reservation import Reservation, State

FAULT = ProviderUnavailable("the engine hangs")


def ready_at(world: World, record: Reservation) -> timedelta:
    """How long after its promise SSH answered; negative: before."""
    now = world.get(record)
    assert now.active_at is not None
    assert record.ready_by is not None
    return now.active_at - record.ready_by


def test_a_queued_reservation_is_promised_the_latest_time_and_starts_by_it() -> None:
    world = World()
    holder = world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    limits = world.policy.limits
    assert holder.expires_at is not None
    assert waiting.ready_by == holder.expires_at + limits.stop + limits.prepare
    world.pass_until(lambda: world.get(waiting).state is State.ACTIVE, 2 * HOUR)
    assert ready_at(world, waiting) <= timedelta(0)
    assert world.get(waiting).postponements == 0


def test_the_next_one_starts_as_soon_as_the_box_is_gone() -> None:
    world = World()
    holder = world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    world.cancel(holder)
    world.settle()
    assert world.get(waiting).state is State.ACTIVE
    assert world.get(waiting).active_at == world.clock.now()


def test_the_gpus_are_free_after_the_stop_and_do_not_wait_for_the_snapshot() -> None:
    world = World()
    holder = world.reserve(gpus=8, disk="proj")
    waiting = world.reserve(BEN, gpus=8)
    world.volumes.faults.add("snapshot", ProviderUnavailable("the disks are full"), NEVER)
    world.cancel(holder)
    world.settle()
    assert world.get(holder).state is State.ENDING
    assert world.get(waiting).state is State.ACTIVE
    assert world.disk("proj").holder == holder.id


def test_a_large_request_at_the_head_is_not_starved_by_small_ones() -> None:
    world = World()
    world.reserve(gpus=4)
    large = world.reserve(BEN, gpus=8)
    for _ in range(8):
        world.ask(gpus=1, hours=0.5)
        world.ask(BEN, gpus=1, hours=8.0)
        world.pass_time(10 * MINUTE, step=5 * MINUTE)
    assert world.get(large).state is State.ACTIVE
    assert ready_at(world, large) <= timedelta(0)


def test_two_that_ask_for_the_last_gpus_do_not_both_get_them() -> None:
    world = World()
    world.reserve(gpus=4)
    first, second = world.ask(gpus=4), world.ask(BEN, gpus=4)
    world.settle()
    assert world.get(first).state is State.ACTIVE
    assert world.get(second).state is State.QUEUED
    third = world.reserve(BEN, gpus=1)
    assert world.get(third).state is State.QUEUED


@pytest.mark.parametrize("seed", range(6))
def test_without_a_fault_no_promise_is_ever_postponed(seed: int) -> None:
    """A random day of two users on two nodes: reservations of all sizes, early ends, passes that come late."""
    chance = random.Random(seed)
    world = World((a_node("node-1", units=4), a_node("node-2", units=8)))
    asked: list[Reservation] = []
    for _ in range(120):
        if chance.random() < 0.5:
            fields: dict[str, Any] = {
                "gpus": chance.choice((1, 1, 2, 4, 8)),
                "hours": chance.choice((0.25, 0.5, 1.0, 2.0)),
            }
            try:
                asked.append(world.ask(chance.choice((ADA, BEN)), **fields))
            except Exception as error:
                assert "limit for one user" in str(error)
        live = [record for record in asked if world.get(record).live]
        if live and chance.random() < 0.15:
            world.cancel(chance.choice(live), OPERATOR)
        world.cluster.delay_ssh(chance.choice((0, 0, 1, 3)))
        world.pass_time(timedelta(seconds=chance.randint(1, 600)), step=timedelta(seconds=chance.randint(1, 25)))
    told = [record for record in asked if "promised" in world.story(record)]
    assert len(told) > 10
    for record in asked:
        now = world.get(record)
        assert now.postponements == 0
        assert "postponed" not in world.story(record)
        promises = [e.when for e in world.events(record) if e.kind in ("promised", "improved", "placed") and e.when]
        assert promises == sorted(promises, reverse=True)
        if now.active_at is not None and promises:
            assert now.active_at <= promises[-1]


def test_a_stop_that_hangs_postpones_a_few_times_and_always_with_its_cause() -> None:
    world = World()
    holder = world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    world.cluster.faults.add("end_box", FAULT, NEVER)
    world.pass_time(5 * HOUR, step=20 * SECOND)
    assert world.get(holder).state is State.ENDING
    told = [event for event in world.events(waiting) if event.kind == "postponed"]
    assert 2 <= len(told) <= 8
    assert len(told) == world.get(waiting).postponements
    assert all("longer than its limit" in event.text for event in told)
    now = world.get(waiting)
    assert now.ready_by is not None
    assert now.ready_by > world.clock.now()
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(waiting).state is State.ACTIVE


def test_a_holder_of_others_slots_is_not_moved_by_one_late_teardown() -> None:
    """Two nodes: the fault on one postpones who waits for it, and not who waits for the other."""
    world = World((a_node("node-1"), a_node("node-2")))
    first = world.reserve(gpus=8, hours=1.0)
    world.reserve(gpus=8, hours=2.0)
    behind = world.reserve(BEN, gpus=8, hours=24.0)
    other = world.reserve(BEN, gpus=8, hours=24.0)
    assert world.get(behind).ready_by != world.get(other).ready_by
    name = next(box.name for box in world.cluster.peek() if box.name.reservation_id == first.id)
    world.pass_time(HOUR - 10 * SECOND, step=10 * MINUTE)
    world.cluster.faults.add("end_box", FAULT, NEVER)
    world.pass_time(20 * MINUTE, step=20 * SECOND)
    assert name in [box.name for box in world.cluster.peek()]
    assert world.get(behind).postponements >= 1
    assert world.get(other).postponements == 0
    assert world.get(other).ready_by == other.ready_by


def test_after_six_hours_without_a_daemon_every_postponement_is_told_with_its_cause() -> None:
    world = World()
    world.reserve(gpus=8, hours=1.0)
    second = world.reserve(BEN, gpus=8, hours=1.0)
    third = world.reserve(gpus=8, hours=1.0)
    assert second.ready_by is not None
    assert third.ready_by is not None
    assert second.ready_by < third.ready_by
    world.clock.advance(6 * HOUR)
    world.crash()
    world.settle()
    assert world.get(second).state is State.ACTIVE
    assert world.get(second).postponements == 1
    assert world.get(third).postponements == 1
    for record in (second, third):
        told = next(event for event in world.events(record) if event.kind == "postponed")
        assert "the cloud did not run" in told.text
        assert told.when is not None
        assert told.when > world.clock.now()
    assert world.get(third).state is State.QUEUED
    now = world.get(third)
    assert now.ready_by is not None
    world.pass_until(lambda: world.get(third).state is State.ACTIVE, 2 * HOUR)
    active = world.get(third).active_at
    assert active is not None
    assert active <= now.ready_by


def test_slots_in_the_past_are_laid_anew_in_promise_order() -> None:
    world = World()
    world.reserve(gpus=8, hours=4.0)
    late = world.reserve(BEN, gpus=8, hours=8.0)
    backfilled = [world.reserve(gpus=8, hours=1.0, name=f"r{number}") for number in range(3)]
    order = sorted((late, *backfilled), key=lambda record: str(world.get(record).ready_by))
    world.clock.advance(timedelta(days=3))
    world.crash()
    world.settle()
    after = sorted((late, *backfilled), key=lambda record: str(world.get(record).ready_by))
    assert [record.id for record in after] == [record.id for record in order]


def test_a_start_that_fails_for_a_passing_reason_is_told_when_it_breaks_the_promise() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    world.pass_until(lambda: world.get(record).attempt == 2, 10 * MINUTE)
    told = next(event for event in world.events(record) if event.kind == "postponed")
    assert "ssh took longer than 120 s: the box runs" in told.text
    assert world.get(record).postponements == 1
    now = world.get(record)
    assert now.ready_by is not None
    assert now.ready_by > world.clock.now()


def test_a_lost_node_withdraws_the_promise_and_its_return_gives_a_new_one() -> None:
    world = World()
    world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    world.cluster.silence("node-1")
    world.settle()
    now = world.get(waiting)
    assert (now.ready_by, now.slot, now.postponements) == (None, None, 1)
    world.pass_time(10 * MINUTE)
    assert world.story(waiting).count("postponed") == 1
    world.cluster.heal()
    world.settle()
    assert world.get(waiting).ready_by is not None
    assert world.story(waiting)[-1] == "promised"


def test_a_slot_without_a_free_port_is_waited_for_without_a_write_at_every_pass() -> None:
    world = World(ports=(30000, 30001))
    holder = world.reserve(hours=2.0)
    waiting = world.reserve(BEN)
    version = world.get(waiting).version
    world.pass_time(2 * MINUTE, step=2 * SECOND)
    assert world.get(waiting).version == version
    world.pass_time(30 * MINUTE, step=10 * SECOND)
    told = [event for event in world.events(waiting) if event.kind == "postponed"]
    assert 1 <= len(told) <= 11
    assert all("all ports from 30000 to 30001 are in use" in event.text for event in told)
    world.cancel(holder)
    world.settle()
    assert world.get(waiting).state is State.ACTIVE


def test_a_gpu_under_a_box_that_cannot_be_removed_yet_is_not_given() -> None:
    world = World((a_node("node-1", units=1),))
    record = world.reserve()
    box = world.cluster.peek()[0]
    world.cancel(record)
    world.settle()
    world.cluster.put_stranger(spec_of(box), box.state)
    world.cluster.faults.add("end_box", FAULT, NEVER)
    world.pass_once()
    waiting = world.reserve(BEN)
    world.pass_time(10 * MINUTE)
    assert world.get(waiting).state is State.QUEUED
    world.cluster.heal()
    world.settle()
    assert world.get(waiting).state is State.ACTIVE
    assert box.name not in [seen.name for seen in world.cluster.peek()]
