"""Two and three real processes write to one store, on SQLite, on PostgreSQL and on DynamoDB.

Rows 10, 28 and 47 of docs/survives.md.
"""

from __future__ import annotations

import itertools
import sqlite3
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from tests import store_tasks
from tests.builders import a_reservation
from tests.dynamodb import private_dynamodb
from tests.postgres import private_postgres
from tests.writers import Writer, at_once, writers

from odc.adapters.sql import schema
from odc.domain.errors import Conflict, ProviderUnavailable
from odc.domain.records import Change

ADAPTERS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("dynamodb", marks=pytest.mark.dynamodb),
]
TIMES = 40
LENGTH_S = 0.15


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[Writer, ...]]:
    with writers(3) as made:
        yield made


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with private_postgres() as address:
        yield address


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[str]:
    with private_dynamodb() as address:
        yield address


@pytest.fixture(params=ADAPTERS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/odc.db"
    if request.param == "dynamodb":
        return f"{store_tasks.DYNAMODB}{request.getfixturevalue('dynamodb')}/odc-{uuid.uuid4().hex}"
    found: str = request.getfixturevalue("postgres")
    engine = sa.create_engine(found)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return found


@pytest.fixture
def store(address: str) -> Iterator[store_tasks.Store]:
    with store_tasks.opened(address) as opened:
        yield opened


def test_three_processes_may_open_a_new_store_at_once(address: str, three: tuple[Writer, ...]) -> None:
    assert at_once(three, store_tasks.open_and_close, [(address,)] * 3) == [0, 0, 0]


def test_no_update_is_ever_lost(address: str, store: store_tasks.Store, three: tuple[Writer, ...]) -> None:
    record = a_reservation()
    store.commit(Change(reservations=(record,)))
    at_once(three, store_tasks.count_up, [(address, record.id, TIMES)] * 3)
    after = store.find_reservation(record.id)
    assert after is not None
    assert (after.attempt, after.version) == (3 * TIMES, 3 * TIMES + 1)


def test_a_change_on_a_picture_that_another_process_has_changed_is_refused(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    record = a_reservation()
    store.commit(Change(reservations=(record,)))
    (seen,) = store.observe().reservations
    at_once(three[:1], store_tasks.count_up, [(address, record.id, 1)])
    late = a_reservation()
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(late, replace(seen, attempt=7))))
    assert store.find_reservation(late.id) is None
    assert [r.attempt for r in store.observe().reservations] == [1]


def test_passes_of_three_processes_give_no_gpu_twice(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    at_once(three, store_tasks.ask_and_pass, [(address, 1000, 3, 2), (address, 1001, 2, 2), (address, 1002, 3, 2)])
    records = store.observe().reservations
    held = [gpu for record in records if record.occupies for place in record.places for gpu in place.gpus]
    assert len(records) == 8
    assert len(held) == len(set(held)) == 8
    assert sum(record.occupies for record in records) == 4


def test_a_request_sent_by_three_processes_at_once_is_one_reservation(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    ids = [uuid.uuid4().hex for _ in range(8)]
    fields = {"disk": "none", "gpus": 1}
    answers = at_once(three, store_tasks.ask, [(address, 1000, ids, fields)] * 3)
    assert answers[0] == answers[1] == answers[2]
    assert sorted(answers[0]) == sorted(record.id for record in store.observe().reservations)
    assert len(set(answers[0])) == len(ids)


def test_a_disk_that_two_processes_ask_for_is_held_by_one_reservation(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    fields = {"disk": "proj", "gpus": 1}
    answers = at_once(three, store_tasks.ask, [(address, 1000, [uuid.uuid4().hex], fields) for _ in range(3)])
    (holder,) = store.observe().reservations
    assert sorted(text[0] == holder.id for text in answers) == [False, False, True]
    assert all("disk proj is in use" in text[0] for text in answers if text[0] != holder.id)
    assert [disk.holder for disk in store.list_disks("unix:1000").items] == [holder.id]


def test_a_users_limit_holds_for_requests_that_come_at_once(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    fields = {"disk": "none", "gpus": 8}
    ids = [[uuid.uuid4().hex for _ in range(4)] for _ in range(3)]
    answers = at_once(three, store_tasks.ask, [(address, 1000, own, fields) for own in ids])
    granted = {record.id for record in store.observe().reservations}
    refused = [text for several in answers for text in several if text not in granted]
    assert 0 < len(granted) < 12
    assert all(text.startswith("LimitExceeded") for text in refused)
    assert len(granted) + len(refused) == 12


def test_records_that_two_processes_name_crosswise_end_in_conflict_and_not_in_a_fault(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    arguments = [(address, names, 15) for names in (["x", "y"], ["y", "x"])]
    at_once(three[:2], store_tasks.rename_crosswise, arguments)
    assert store.list_live(None).items == ()


def test_the_lease_is_never_held_by_two(address: str, store: store_tasks.Store, three: tuple[Writer, ...]) -> None:
    names = ("a", "b", "c")
    had = at_once(three, store_tasks.contend, [(address, name, 1.2, LENGTH_S) for name in names])
    moments = sorted((moment, name) for name, own in zip(names, had, strict=True) for moment in own)
    assert len({name for _, name in moments}) > 1
    for (before, first), (after, second) in itertools.pairwise(moments):
        assert first == second or after - before >= timedelta(seconds=LENGTH_S)


def test_the_lease_of_a_killed_process_passes_on_when_it_is_over(address: str, store: store_tasks.Store) -> None:
    with writers(2) as (first, second):
        first.start(store_tasks.hold_lease, address, 0.4)
        first.heard()
        second.start(store_tasks.contend, address, "second", 0.6, 0.1)
        assert second.answer() == []
        renewed = max(moment for moment in (first.heard(), *first.kill()))
        second.start(store_tasks.contend, address, "second", 0.8, 0.1)
        had = second.answer()
    assert had[0] - renewed >= timedelta(seconds=0.4)


def test_clock_anchors_that_are_swapped_at_once_replace_each_other(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    assert sum(at_once(three, store_tasks.swap_anchors, [(address, TIMES)] * 3)) == 1
    assert store.swap_clock_anchor(None) is not None


def test_a_process_killed_among_its_commits_loses_nothing_that_was_acknowledged(
    address: str, store: store_tasks.Store
) -> None:
    with writers(2) as several:
        for writer in several:
            writer.start(store_tasks.commit_until_killed, address)
        said = [writer.heard() for writer in several for _ in range(9)]
        for writer in several:
            said += writer.kill()
    for reservation_id in said:
        assert all(store_tasks.traces_of(store, reservation_id))
    for record in store.observe().reservations:
        assert all(store_tasks.traces_of(store, record.id))
    if address.startswith("sqlite"):
        with sqlite3.connect(address.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_a_process_killed_at_any_statement_of_a_commit_has_written_all_of_it_or_nothing(
    address: str, store: store_tasks.Store, three: tuple[Writer, ...]
) -> None:
    (deaths,) = at_once(three[:1], store_tasks.die_at_every_statement, [(address,)])
    traces = [store_tasks.traces_of(store, reservation_id) for reservation_id in deaths]
    # DynamoDB takes a change in two calls: the numbers for its places in line, and the transaction.
    assert len(deaths) >= (3 if address.startswith(store_tasks.DYNAMODB) else 7)
    assert not any(any(found) for found in traces[:-1])
    assert all(traces[-1])
    for reservation_id in deaths[:-1]:
        store.commit(store_tasks.whole_change(reservation_id))


def test_a_sqlite_writer_waits_for_another_and_readers_do_not(tmp_path: Path, three: tuple[Writer, ...]) -> None:
    path = tmp_path / "odc.db"
    address = f"sqlite:///{path}"
    record = a_reservation()
    with store_tasks.opened(address) as store:
        store.commit(Change(reservations=(record,)))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        three[0].start(store_tasks.count_up, address, record.id, 1)
        three[1].start(store_tasks.open_and_close, address)
        assert three[1].answer(10) == 1
        with pytest.raises(AssertionError, match="says nothing"):
            three[0].answer(1)
        other.execute("ROLLBACK")
        other.close()
        assert three[0].answer() == 0
        after = store.find_reservation(record.id)
    assert after is not None
    assert after.attempt == 1


def test_a_sqlite_writer_that_waited_too_long_says_so_and_has_written_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.3)
    path = tmp_path / "odc.db"
    record = a_reservation()
    with store_tasks.opened(f"sqlite:///{path}") as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ProviderUnavailable, match="locked"):
            store.commit(Change(reservations=(record,)))
        other.execute("ROLLBACK")
        other.close()
        assert store.observe().reservations == ()
        store.commit(Change(reservations=(record,)))


@pytest.mark.postgresql
def test_a_server_that_cut_the_connections_is_asked_anew(postgres: str) -> None:
    with store_tasks.opened(postgres) as store:
        store.observe()
        engine = sa.create_engine(postgres)
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        engine.dispose()
        store.commit(Change(reservations=(a_reservation(),)))
