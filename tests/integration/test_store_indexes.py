"""Every list of the records is read by an index, in its order: no table is scanned and nothing is sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from tests.builders import a_disk, a_reservation, a_snapshot, a_user, an_event
from tests.postgres import private_postgres

from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.paging import page_token
from odc.domain.records import Change, Subject
from odc.domain.reservation import EndReason, State

LISTS: dict[str, tuple[str, tuple[Any, ...], object]] = {
    "live None": ("list_live", (None,), 5),
    "live unix:1000": ("list_live", ("unix:1000",), 5),
    "ended None": ("list_ended", (None,), 5),
    "ended unix:1000": ("list_ended", ("unix:1000",), 5),
    "named True None train": ("list_named", ("train", None, True), 5),
    "named True unix:1000 train": ("list_named", ("train", "unix:1000", True), 5),
    "named False unix:1000 train": ("list_named", ("train", "unix:1000", False), 5),
    "prefix None ab": ("list_by_prefix", ("ab", None), "ab"),
    "prefix unix:1000 ab": ("list_by_prefix", ("ab", "unix:1000"), "ab"),
    "events reservation r": ("list_events", (Subject.reservation("r"),), 5),
    "disks None": ("list_disks", (None,), ("unix:1000", "d")),
    "disks unix:1000": ("list_disks", ("unix:1000",), ("unix:1000", "d")),
    "snapshots None": ("list_snapshots", (None,), ("d", 5)),
    "snapshots d": ("list_snapshots", ("d",), ("d", 5)),
    "users": ("list_users", (), "unix:1000"),
}
"""Listing of the page token to the method, its arguments, and a sort key to go on from."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStateStore]:
    if request.param == "sqlite":
        made = SqlStateStore(f"sqlite:///{tmp_path_factory.mktemp('records')}/odc.db")
        yield made
        made.close()
        return
    with private_postgres() as address:
        made = SqlStateStore(address)
        fill(made)
        yield made
        made.close()


def fill(store: SqlStateStore) -> None:
    """Enough rows that an index is the cheaper way."""
    live = [a_reservation(owner=f"unix:{number}") for number in range(3000)]
    ended = [
        a_reservation(owner=f"unix:{number % 300}", state=State.ENDED, ended_why=EndReason.EXPIRED)
        for number in range(3000)
    ]
    disks = [a_disk(owner=f"unix:{number}") for number in range(3000)]
    users = [a_user(principal=f"unix:{number}") for number in range(3000)]
    events = [an_event(record.id) for record in live]
    store.commit(Change(snapshots=tuple(a_snapshot(f"d{number % 100}", number=number) for number in range(3000))))
    store.commit(Change(reservations=(*live, *ended), disks=tuple(disks), users=tuple(users), events=tuple(events)))
    with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def statements_of(store: SqlStateStore, listing: str, page: str) -> list[tuple[str, Any]]:
    method, arguments, _ = LISTS[listing]
    return statements_in(store, partial(getattr(store, method), *arguments, page=page, limit=20))


def statements_in(store: SqlStateStore, read: Callable[[], object]) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            seen.append((statement, parameters))

    sa.event.listen(store._engine, "before_cursor_execute", note)
    try:
        read()
    finally:
        sa.event.remove(store._engine, "before_cursor_execute", note)
    return seen


def plan_of(store: SqlStateStore, statement: str, parameters: Any) -> str:
    word = "EXPLAIN QUERY PLAN" if store._engine.dialect.name == "sqlite" else "EXPLAIN"
    with store._engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{word} {statement}", parameters)
        return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("following", [False, True], ids=["first page", "next page"])
@pytest.mark.parametrize("listing", LISTS)
def test_a_list_is_read_by_an_index(store: SqlStateStore, listing: str, following: bool) -> None:
    page = page_token(listing, LISTS[listing][2]) if following else ""
    (found,) = statements_of(store, listing, page)
    plan = plan_of(store, *found)
    assert "TEMP B-TREE" not in plan, plan
    assert "Sort" not in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "INDEX" in plan.upper(), plan


def test_a_pass_reads_the_versions_from_an_index_that_has_them(store: SqlStateStore) -> None:
    (found,) = [each for each in statements_in(store, store.observe) if "|| reservations.id" in each[0]]
    plan = plan_of(store, *found)
    # SQLite calls an index covering only if it has the columns of its own condition, too.
    wanted = "USING INDEX" if store._engine.dialect.name == "sqlite" else "Index Only Scan using"
    assert f"{wanted} reservations_live" in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    assert "Sort" not in plan, plan
    indexes = {index["name"]: index["column_names"] for index in sa.inspect(store._engine).get_indexes("reservations")}
    assert indexes["reservations_live"] == ["place", "id", "version"]
