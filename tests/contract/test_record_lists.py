"""The lists of the records: their order and their pages. For every adapter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders import a_disk, a_reservation, a_snapshot, a_user, an_event
from tests.records import Records

from odc.domain.errors import InvalidRequest
from odc.domain.paging import Page, all_pages
from odc.domain.records import Change, Subject
from odc.domain.reservation import EndReason, Reservation, State


def _ids(page: Page[Reservation]) -> list[str]:
    return [record.id for record in page.items]


def test_lists_have_the_matching_reservations_newest_first(store: Records) -> None:
    a = a_reservation(id="a" * 32, name="one")
    b = a_reservation(id="ab" + "0" * 30, name="two", state=State.ACTIVE)
    c = a_reservation(id="c" * 32, name="one", owner="unix:1001")
    d = a_reservation(id="d" * 32, name="one", state=State.ENDED, ended_why=EndReason.EXPIRED)
    e = a_reservation(id="ac" + "0" * 30, name="one", state=State.ENDED, ended_why=EndReason.EXPIRED)
    for record in (a, b, c, d, e):
        store.commit(Change(reservations=(record,)))
    assert _ids(store.list_live(None)) == [c.id, b.id, a.id]
    assert _ids(store.list_live("unix:1000")) == [b.id, a.id]
    assert _ids(store.list_ended(None)) == _ids(store.list_ended("unix:1000")) == [e.id, d.id]
    assert _ids(store.list_ended("unix:1001")) == []
    assert _ids(store.list_named("one", None, live=True)) == [c.id, a.id]
    assert _ids(store.list_named("one", "unix:1000", live=True)) == [a.id]
    assert _ids(store.list_named("one", "unix:1000", live=False)) == [e.id, d.id]
    assert _ids(store.list_named("one\0", None, live=True)) == []
    assert _ids(store.list_by_prefix("a", None)) == [a.id, b.id, e.id]
    assert _ids(store.list_by_prefix("ab", None)) == [b.id]
    assert _ids(store.list_by_prefix("c", "unix:1000")) == []


def _filled(store: Records) -> dict[str, Callable[[str, int], Page[Any]]]:
    """Write several of everything; each list by name."""
    live = [a_reservation(id=f"{number:032x}", name="same", owner=f"unix:{number}") for number in range(1, 6)]
    ended = [a_reservation(name="old", state=State.ENDED, ended_why=EndReason.EXPIRED) for _ in range(5)]
    for record in (*live, *ended):
        store.commit(Change(reservations=(record,)))
    for number in range(5):
        event = an_event(live[0].id, text=f"number {number}")
        disks = (a_disk(owner="unix:1000"), a_disk(owner=f"unix:{number}"))
        snapshots = (
            a_snapshot(disks[0].id),
            *(a_snapshot("d", number=place) for place in (2 * number, 2 * number + 1)),
        )
        user = a_user(principal=f"unix:{number}")
        store.commit(Change(events=(event,), disks=disks, users=(user,), snapshots=snapshots))
    return _lists(store, live[0].id)


def _lists(store: Records, reservation_id: str) -> dict[str, Callable[[str, int], Page[Any]]]:
    return {
        "live": partial(store.list_live, None),
        "ended": partial(store.list_ended, "unix:1000"),
        "everyone's ended": partial(store.list_ended, None),
        "named": partial(store.list_named, "same", None, True),
        "prefix": partial(store.list_by_prefix, "0000", None),
        "events": partial(store.list_events, Subject.reservation(reservation_id)),
        "disks": partial(store.list_disks, "unix:1000"),
        "everyone's disks": partial(store.list_disks, None),
        "snapshots": partial(store.list_snapshots, "d"),
        "everyone's snapshots": partial(store.list_snapshots, None),
        "users": store.list_users,
    }


def test_pages_of_any_size_have_everything_once_and_in_order(store: Records) -> None:
    for name, listing in _filled(store).items():
        whole = listing("", 1000).items
        assert len(whole) >= 5, name
        for limit in (1, 2, 5):
            sizes: list[int] = []

            def fetch(token: str, limit: int = limit, sizes: list[int] = sizes) -> Page[Any]:
                page = listing(token, limit)  # noqa: B023
                sizes.append(len(page.items))
                return page

            assert tuple(all_pages(fetch)) == whole, name
            assert max(sizes) == limit


def test_what_is_written_between_two_pages_shifts_nothing(store: Records) -> None:
    records = [a_reservation() for _ in range(4)]
    for record in records:
        store.commit(Change(reservations=(record,)))
    first = store.list_live(None, limit=2)
    last = first.items[-1]
    ended = replace(last, state=State.ENDED, ended_why=EndReason.EXPIRED)
    store.commit(Change(reservations=(a_reservation(), ended)))
    second = store.list_live(None, first.next, 2)
    assert [*_ids(first), *_ids(second)] == [record.id for record in reversed(records)]
    assert second.next == ""


def test_a_page_token_of_another_list_is_refused(store: Records) -> None:
    lists = _filled(store)
    tokens = {name: listing("", 1).next for name, listing in lists.items()}
    assert all(tokens.values())
    for name, listing in lists.items():
        for other, token in tokens.items():
            if other == name:
                continue
            with pytest.raises(InvalidRequest, match="page token"):
                listing(token, 1)
        for wrong in ("x", "AAAA", "\u00e9", tokens[name][:-2], "." + tokens[name]):
            with pytest.raises(InvalidRequest, match="page token"):
                listing(wrong, 1)
