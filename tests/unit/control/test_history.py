"""What a pass reads and does grows with what is live, never with what has ended.

Row 17 of docs/survives.md.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders import a_node, a_reservation, a_secret, an_event
from tests.world import ADA, BEN, HOUR, World

from odc.adapters.memory.state_store import MemoryStateStore
from odc.domain.errors import LimitExceeded
from odc.domain.records import Change
from odc.domain.reservation import EndReason, State


class Counted:
    """A store that counts the calls, and the rows that come back."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()
        self.rows = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            answer = found(*arguments, **options)
            self.calls[name] += 1
            if name == "observe":
                self.rows += len(answer.reservations) + len(answer.disks)
            elif isinstance(answer, Sequence):
                self.rows += len(answer)
            elif answer is not None:
                self.rows += 1
            return answer

        return call


def counted(world: World) -> Counted:
    """What a process reads from its start over a quiet pass, one more life, and the questions of its owner."""
    store = Counted(world.store)
    world.build(lambda port, adapter: store if port == "store" else adapter)
    world.settle()
    record = world.reserve(disk="proj", name="one-more")
    world.queries.reservations(ADA, "me", ended=False, statuses=frozenset())
    world.queries.availability()
    world.cancel(record)
    world.settle()
    return store


def with_ended(world: World, number: int) -> None:
    ended = [
        a_reservation(
            owner=ADA.id,
            user="ada",
            name="one-more",
            state=State.ENDED,
            ended_why=EndReason.EXPIRED,
            attempt=1,
            ended_at=world.clock.now(),
        )
        for _ in range(number)
    ]
    told = [an_event(record.id, kind=kind) for record in ended for kind in ("asked", "placed", "ready", "ended")]
    world.store.commit(Change(reservations=tuple(ended), events=tuple(told)))


def give_known_ids(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Ids of reservations and disks come from the seed. Those whose ids are alike share a document, so that with other
    ids a pass may read one document more.
    """
    dice = random.Random(seed)
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(int=dice.getrandbits(128), version=4))


def test_a_pass_reads_the_same_with_no_ended_reservation_and_with_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, old = World(), World(store=MemoryStateStore())
    for world in (fresh, old):
        give_known_ids(monkeypatch, 1)
        world.reserve(BEN, gpus=2)
    give_known_ids(monkeypatch, 2)
    with_ended(old, 3000)
    found = []
    for world in (fresh, old):
        give_known_ids(monkeypatch, 3)
        found.append(counted(world))
    few, many = found
    assert many.calls == few.calls
    assert many.rows == few.rows
    assert many.calls["list_events"] == 0


@pytest.mark.one_process("a process that lives on does not ask again when a sweep is due, and keeps the clock's anchor")
def test_a_quiet_pass_reads_the_records_once_and_writes_nothing() -> None:
    world = World()
    world.reserve(gpus=4, disk="proj")
    world.reserve(BEN, gpus=8)
    store = Counted(world.store)
    world.build(lambda port, adapter: store if port == "store" else adapter)
    world.settle()
    world.pass_once()
    store.calls.clear()
    world.pass_once()
    # `room` asks the file system only.
    assert store.calls == {"observe": 1, "list_document_versions": 1, "room": 1}


def test_every_live_reservation_is_seen_in_each_pass() -> None:
    """More than any list shows at once; each of them ends at its time in one pass."""
    world = World([a_node(f"node-{number}") for number in range(80)], store=MemoryStateStore())
    records = [
        a_reservation(
            owner=BEN.id, user="ben", spec=replace(a_reservation().spec, gpus=1), created_at=world.clock.now()
        )
        for _ in range(640)
    ]
    world.store.commit(Change(reservations=tuple(records), secrets=tuple(map(a_secret, records))))
    world.settle()
    assert {world.get(record).state for record in records} == {State.ACTIVE}
    assert len(world.queries.reservations(ADA, "all", ended=False, statuses=frozenset())) == 640
    assert len(world.queries.reservations(ADA, "ben", ended=True, statuses=frozenset())) == 640
    world.clock.advance(HOUR)
    world.settle()
    assert {world.get(record).ended_why for record in records} == {EndReason.EXPIRED}
    assert world.cluster.peek() == ()


def test_a_thousand_requests_of_one_user_do_not_fill_the_queue() -> None:
    world = World()
    refused = 0
    for number in range(1000):
        try:
            world.ask(gpus=8, name=f"n{number}")
        except LimitExceeded as error:
            assert "the limit for one user is 10" in error.message
            refused += 1
    assert refused == 990
    assert world.reserve(BEN, gpus=8).state is State.QUEUED
    assert len(world.store.observe().reservations) == 11
