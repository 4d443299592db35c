"""The client puts the pages of a list together."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from tests.builders import a_reservation
from tests.world import ADA, BEN, World

from odc.api import views
from odc.api.client import Client
from odc.api.messages.reservations import ReservationPage
from odc.domain.errors import InvalidRequest
from odc.domain.records import Change
from odc.domain.reservation import EndReason, State

ANY: frozenset[str] = frozenset()


class DirectClient(Client):
    """A client that asks a control plane in this process, with pages of two."""

    def __init__(self, world: World) -> None:
        super().__init__("unix:///nowhere")
        self.world = world
        self.pages = 0

    def _ask(self, method: str, path: str, kind: Any, body: Any = None, expected_s: float = 0) -> Any:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
        statuses = frozenset(asked["status"].split(",")) if "status" in asked else ANY
        page = self.world.queries.reservation_page(
            ADA, asked["user"], asked["all"] == "true", statuses, asked.get("page", ""), 2
        )
        self.pages += 1
        shown = tuple(views.reservation_view(detail, ADA, self.world.queries.status) for detail in page.items)
        sent = ReservationPage(
            now=self.world.clock.now(), reservations=shown, next=page.next, ended_read=page.ended_read
        )
        return msgspec.json.decode(msgspec.json.encode(sent), type=kind)


def filled() -> World:
    world = World()
    for who in (ADA, BEN):
        for number in range(3):
            world.clock.advance(world.policy.grace)
            ended = {"state": State.ENDED, "ended_why": EndReason.EXPIRED, "ended_at": world.clock.now()}
            for name, fields in ((f"old{number}", ended), (f"new{number}", {})):
                record = a_reservation(owner=who.id, user=who.user, name=name, created_at=world.clock.now(), **fields)
                world.store.commit(Change(reservations=(record,)))
    return world


@pytest.mark.parametrize("user", ["me", "all", "ben"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_client_that_follows_pages_shows_what_one_answer_has(user: str, ended: bool) -> None:
    world = filled()
    client = DirectClient(world)
    listed = client.reservations(user, ended).reservations
    whole = world.queries.reservations(ADA, user, ended, ANY)
    assert {view.id for view in listed} == {detail.record.id for detail in whole}
    assert [view.created_at for view in listed] == [detail.record.created_at for detail in whole]
    assert client.pages > 1


def test_a_client_stops_after_so_many_that_were_read_and_not_after_so_many_that_match(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("odc.api.client.PAGE_ITEMS", 2)
    client = DirectClient(filled())
    assert client.reservations("all", status="failed").reservations == ()
    live = 3
    assert client.pages == live + 1


@pytest.mark.parametrize("page", ["live.x", "x", "other.", "ended.AAAA"])
def test_a_token_of_nobody_is_refused(page: str) -> None:
    with pytest.raises(InvalidRequest, match="page token"):
        filled().queries.reservation_page(ADA, "me", True, ANY, page, 2)


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_page_has_a_limit(limit: int) -> None:
    with pytest.raises(InvalidRequest, match="limit must be 1 to 500"):
        filled().queries.reservation_page(ADA, "me", True, ANY, "", limit)
