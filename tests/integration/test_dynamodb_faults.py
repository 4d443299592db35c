"""Records in DynamoDB when it throttles, loses answers, or a process dies between two calls."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from tests.builders import a_reservation, a_user, an_event
from tests.dynamodb import Network, new_table, private_dynamodb
from tests.world import ADA, HOUR, MINUTE, World, every_reservation

from odc.adapters.dynamodb.state_store import DynamoStateStore
from odc.domain.errors import Conflict, InvariantError, ProviderUnavailable
from odc.domain.records import MAX_ITEMS, Change, Handover, Subject
from odc.domain.reservation import EndReason, State

pytestmark = pytest.mark.dynamodb


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with private_dynamodb() as found:
        yield found


@pytest.fixture
def store(address: str) -> Iterator[DynamoStateStore]:
    # Two attempts: the pauses between them are real time.
    made = new_table(address, attempts=2)
    yield made
    made.close()


def test_a_table_that_throttles_for_a_minute_delays_and_loses_nothing(store: DynamoStateStore) -> None:
    world, network = World(store=store), Network(store)
    first = world.reserve(disk="proj")
    asked = uuid.uuid4().hex
    network.throttled = True
    for _ in range(2):
        world.clock.advance(MINUTE / 2)
        with pytest.raises(ProviderUnavailable, match="ThrottlingException"):
            world.plane.reconciler.reconcile_once()
        with pytest.raises(ProviderUnavailable):
            world.ask(name="second", request_id=asked)
    network.throttled = False
    second = world.ask(name="second", request_id=asked)
    world.settle()
    assert [world.get(record).state for record in (first, second)] == [State.ACTIVE, State.ACTIVE]
    assert world.get(first).expires_at == first.expires_at
    world.clock.advance(HOUR)
    world.settle()
    assert [record.ended_why for record in world.all()] == [EndReason.EXPIRED, EndReason.EXPIRED]
    assert world.disk("proj").holder is None


def test_a_change_whose_answer_is_lost_is_written_once(store: DynamoStateStore) -> None:
    network = Network(store)
    network.lost_answers["TransactWriteItems"] = 1
    record = a_reservation()
    store.commit(Change(pools={"h100": 0}, reservations=(record,), events=(an_event(record.id),)))
    assert network.calls.count("TransactWriteItems") == 2
    (written,) = store.observe().reservations
    assert written.version == 1
    assert store.observe().pools == {"h100": 1}
    assert len(store.list_events(Subject.reservation(record.id)).items) == 1


def test_a_change_of_too_many_items_is_refused_before_anything_is_written(store: DynamoStateStore) -> None:
    records = tuple(a_reservation() for _ in range(MAX_ITEMS // 2 + 1))
    with pytest.raises(InvariantError, match="102 items"):
        store.commit(Change(reservations=records))
    store.commit(Change(reservations=records[1:]))
    assert len(store.observe().reservations) == MAX_ITEMS // 2


def test_a_change_never_has_more_items_than_it_says(store: DynamoStateStore) -> None:
    network = Network(store)
    record, ended = a_reservation(), a_reservation()
    changes = [Change(reservations=(record, ended), events=(an_event(record.id), an_event(record.id)))]
    sizes: list[tuple[int, int]] = []

    def note(params: dict[str, object], **_: object) -> None:
        items = params["TransactItems"]
        assert isinstance(items, list)
        sizes.append((len(items), changes[-1].items))

    store._table.client.meta.events.register("before-parameter-build.dynamodb.TransactWriteItems", note)
    store.commit(changes[-1])
    for state in (State.ACTIVE, State.ENDING, State.ENDED):
        read = store.find_reservation(ended.id)
        assert read is not None
        why = None if state is State.ACTIVE else EndReason.CANCELLED
        changes.append(Change(reservations=(replace(read, state=state, ended_why=why),), events=(an_event(read.id),)))
        store.commit(changes[-1])
    assert len(sizes) == 4
    assert all(written <= declared for written, declared in sizes), sizes
    assert network.calls


def with_ended(store: DynamoStateStore, number: int) -> None:
    for _ in range(number // 25):
        store.commit(
            Change(
                reservations=tuple(
                    a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED, owner=ADA.id) for _ in range(25)
                )
            )
        )


def test_a_handover_of_more_than_a_transaction_holds_is_finished_after_a_crash(store: DynamoStateStore) -> None:
    with_ended(store, 125)
    store.commit(Change(users=(a_user(principal=ADA.id),)))
    user = store.find_user(ADA.id)
    assert user is not None
    given = 0

    def die(**_: object) -> None:
        nonlocal given
        given += 1
        if given == 50:
            raise KeyboardInterrupt

    events = store._table.client.meta.events
    events.register("before-call.dynamodb.UpdateItem", die)
    with pytest.raises(KeyboardInterrupt):
        store.commit(Change(handover=Handover(user=user, to="former:1000:a")))
    events.unregister("before-call.dynamodb.UpdateItem", die)
    assert 0 < len(every_reservation(store, ADA.id)) < 125
    # Somebody with the same uid comes before the next pass: theirs stays theirs.
    theirs = a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED, owner=ADA.id)
    store.commit(Change(reservations=(theirs,)))
    store.observe()
    assert [record.id for record in every_reservation(store, ADA.id)] == [theirs.id]
    assert len(every_reservation(store, "former:1000:a")) == 125
    with pytest.raises(Conflict):
        store.commit(Change(handover=Handover(user=user, to="former:1000:b")))


def test_more_live_records_than_one_answer_holds_are_observed(store: DynamoStateStore) -> None:
    text = "x" * 20_000
    for _ in range(4):
        store.commit(Change(reservations=tuple(a_reservation(end_detail=text) for _ in range(25))))
    network = Network(store)
    assert len(store.observe().reservations) == 100
    assert network.calls.count("Query") >= 5
    assert len(every_reservation(store)) == 100
