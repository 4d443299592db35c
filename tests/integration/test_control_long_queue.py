"""Long queues on the memory cluster: an outage, a crash in the middle of a pass, and many ends at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from tests.builders import a_node, a_reservation, a_secret, a_spec
from tests.cold_world import COLD
from tests.world import HOUR, SECOND, Fuse, World

from odc.adapters.memory.state_store import MemoryStateStore
from odc.control.queueing import MAX_TOLD
from odc.domain.limits import Limits
from odc.domain.promise import ready_by
from odc.domain.records import MAX_ITEMS, Change
from odc.domain.reservation import Reservation, State

pytestmark = pytest.mark.usefixtures("world_kind")

NODES, QUEUED, ENDING, BEHIND = 100, 10_000, 1000, 250
BATCH = MAX_ITEMS // 3
LIMITS = Limits(live_per_user=QUEUED)


class Counting(MemoryStateStore):
    """Remembers how many items each change had."""

    def __init__(self) -> None:
        super().__init__(MAX_ITEMS)
        self.items: list[int] = []

    def commit(self, change: Change) -> None:
        super().commit(change)
        self.items.append(change.items)


def write(store: Counting, records: list[Reservation]) -> None:
    for first in range(0, len(records), BATCH):
        part = records[first : first + BATCH]
        new = tuple(a_secret(record) for record in part if not record.version)
        store.commit(Change(reservations=tuple(part), secrets=new))


def requests(number: int, hours: float | None = None) -> Iterator[Reservation]:
    """Requests of up to a whole node; without `hours`, for five minutes to a day."""
    dice = random.Random(1)
    for _ in range(number):
        gpus = dice.choice([1, 1, 2, 2, 4, 8]) if hours is None else 1
        length = dice.randrange(300, 86400) / 3600 if hours is None else hours
        yield a_reservation(spec=a_spec(gpus=gpus, units=gpus, hours=length))


def queue_of(world: World) -> list[Reservation]:
    return [record for record in world.store.observe().reservations if record.state is State.QUEUED]


def full_cloud(nodes: int, queued: int) -> tuple[World, Counting]:
    """Every node is full, and each that waits was told when it starts, as hundreds of passes would."""
    store = Counting()
    world = World([a_node(f"node-{number:03}") for number in range(nodes)], store=store, limits=LIMITS)
    write(store, list(requests(queued)))
    # What starts at once is active, which lets all slots behind it begin a little earlier.
    for _ in range(5):
        world.pass_once()
    slots = store.observe().plans["h100"].slots
    write(store, [replace(r, ready_by=ready_by(slots[r.order].start, LIMITS)) for r in queue_of(world)])
    world.settle()
    store.items.clear()
    return world, store


def test_after_six_hours_without_a_daemon_no_promise_of_ten_thousand_moves_without_a_cause() -> None:
    # Ten thousand take longer than 20 s where every pass is two, each by a process that plans from the records.
    nodes, queued = (NODES // 5, QUEUED // 10) if COLD.get() else (NODES, QUEUED)
    world, store = full_cloud(nodes, queued)
    told = {record.id: record.ready_by for record in queue_of(world)}
    assert len(told) > queued - nodes * 8
    world.clock.advance(6 * HOUR)
    world.crash()
    for _ in range(10):
        world.pass_once()
        check_promises(world, told)
        # What ends or starts is at most what is on the nodes; of the others, each pass tells a few something, with a
        # record and an event. In a cold world, passes run here until no task has more to do: five at most.
        assert max(store.items, default=0) <= MAX_ITEMS
        assert sum(store.items) <= 5 * 2 * MAX_TOLD + 8 * nodes * 4
        store.items.clear()
    assert any(world.get(record).postponements for record in queue_of(world))


def check_promises(world: World, told: dict[str, datetime | None]) -> None:
    """Each is kept by the plan, or was told with its cause, or the plan has the cause until it is told."""
    stored = world.store.observe()
    plan = stored.plans["h100"]
    for record in stored.reservations:
        before, now = told.get(record.id), record.ready_by
        if record.state is not State.QUEUED or before is None or now is None:
            continue
        if now > before:
            causes = [event.text for event in world.events(record) if event.kind == "postponed"]
            assert causes
            assert not any("does not know" in text for text in causes)
        slot = plan.slots[record.order]
        assert ready_by(slot.start, LIMITS) <= now or plan.causes[record.order]


@pytest.mark.parametrize("number", [1, 2, 10, 20, 40])
def test_a_crash_between_the_transactions_of_a_pass_loses_no_news(number: int) -> None:
    """The plan is whole in the first one, and what owners were not told yet is told by the next passes."""
    world, _ = full_cloud(nodes=20, queued=500)
    told = {record.id: record.ready_by for record in queue_of(world)}
    world.clock.advance(6 * HOUR)
    fuse = Fuse(number, after=True, blow=crash, ports=("store",), method="commit")
    world.build(fuse)
    with pytest.raises(Crash):
        world.settle()
    check_promises(world, told)
    world.crash()
    for _ in range(3):
        world.pass_once()
        check_promises(world, told)


class Crash(BaseException):
    """Nothing catches it."""


def crash() -> None:
    raise Crash


def test_a_thousand_that_end_in_one_minute_are_gone_a_minute_after_the_last_grace() -> None:
    """And nobody behind them starts later than promised."""
    store = Counting()
    world = World([a_node(f"node-{number:03}") for number in range(ENDING // 8)], store=store, limits=LIMITS)
    write(store, list(requests(ENDING, hours=1.0)))
    world.settle(most=100)
    live = store.observe().reservations
    assert {record.state for record in live} == {State.ACTIVE}
    dice = random.Random(1)
    ends = [world.clock.now() + timedelta(minutes=1 + dice.random()) for _ in live]
    write(store, [replace(record, expires_at=end) for record, end in zip(live, ends, strict=True)])
    write(store, list(requests(BEHIND, hours=1.0)))
    world.settle(most=100)
    behind = queue_of(world)
    assert len([record.ready_by for record in behind if record.ready_by]) == BEHIND
    world.cluster.use_grace(world.clock)
    ending = {record.id for record in live}
    while any(record.id in ending or record.state is not State.ACTIVE for record in store.observe().reservations):
        assert world.clock.now() <= max(ends) + world.policy.grace + timedelta(minutes=1)
        world.clock.advance(5 * SECOND)
        world.pass_once()
    assert len(world.cluster.peek()) == BEHIND
    for told in behind:
        record = world.get(told)
        assert record.postponements == 0
        assert record.active_at is not None
        assert told.ready_by is not None
        assert record.active_at <= told.ready_by
