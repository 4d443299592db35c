"""A client of version 0.1.0 and today's server: its requests are answered, and it can decode the answers.

Row 69 of docs/survives.md.
"""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

import msgspec
import pytest
from tests.builders import KEY
from tests.messages_of_0_1_0 import (
    Availability,
    DiskList,
    Done,
    ErrorView,
    Health,
    History,
    Me,
    ReservationList,
    ReservationView,
    StatusView,
)
from tests.small_cloud import SmallCloud
from tests.wire import envelope, exchange, message

View = TypeVar("View")
RESERVE = {"kind": "reserve", "gpu_type": "h100", "gpus": 1, "hours": 1.0, "name": "old", "disk": "work"}
RESERVE |= {"new_disk": True}
STATES = {"queued", "preparing", "active", "ending", "expired", "cancelled", "failed"}
ERRORS = {"InvalidRequest", "NotFound", "NotAllowed", "LimitExceeded", "Conflict", "ProviderUnavailable"}


def ask(cloud: SmallCloud, target: str, kind: type[View]) -> View:
    answer = exchange(cloud.socket, message("GET", target))
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=kind)


def send(cloud: SmallCloud, request: dict[str, Any], kind: type[View]) -> View:
    answer = exchange(cloud.socket, message("POST", "/v1/requests", envelope(request, uuid.uuid4().hex)))
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=kind)


def refused(cloud: SmallCloud, raw: bytes) -> ErrorView:
    answer = exchange(cloud.socket, raw)
    assert answer.status >= 400
    error = msgspec.json.decode(answer.body, type=ErrorView)
    assert error.error in ERRORS
    assert error.message
    assert all(hint.label and hint.command for hint in error.hints)
    return error


def waited_for(cloud: SmallCloud, view: ReservationView, *states: str) -> ReservationView:
    """As its `--wait` does."""
    for _ in range(20):
        assert view.state in STATES
        if view.state in states:
            return view
        view = ask(cloud, f"/v1/reservations/{view.id}?wait=25.0&version={view.version}", ReservationView)
    raise AssertionError(f"still {view.state}")


def test_a_client_of_0_1_0_reserves_lists_shows_and_cancels(cloud: SmallCloud) -> None:
    me = send(cloud, {"kind": "set_own_keys", "keys": [KEY]}, Me)
    assert [key.source for key in me.keys] == ["own"]
    view = send(cloud, RESERVE, ReservationView)
    view = waited_for(cloud, view, "active")
    assert (view.name, view.disk, view.mine, view.gpus) == ("old", "work", True, 1)
    (box,) = view.boxes
    assert box.ssh is not None
    assert str(box.ssh.port) in box.ssh.command
    assert {phase.name for phase in view.phases} >= {"disk", "box", "ssh"}
    listed = ask(cloud, "/v1/reservations?user=me&all=false&status=", ReservationList)
    assert view.id in [one.id for one in listed.reservations]
    events = ask(cloud, "/v1/reservations/old/history", History).events
    assert [event.kind for event in events][:1] == ["asked"]
    (disk,) = (disk for disk in ask(cloud, "/v1/disks", DiskList).disks if disk.name == "work")
    assert (disk.holder, disk.holder_id) == ("old", view.id)
    ended = waited_for(cloud, send(cloud, {"kind": "cancel", "reservation": "old"}, ReservationView), "cancelled")
    assert ended.snapshot is not None
    everything = ask(cloud, "/v1/reservations?user=all&all=true&status=cancelled", ReservationList)
    assert view.id in [one.id for one in everything.reservations]


def test_a_client_of_0_1_0_reads_what_the_cloud_has(cloud: SmallCloud) -> None:
    assert ask(cloud, "/v1/health", Health).ready
    types = {one.name: one for one in ask(cloud, "/v1/avail", Availability).types}
    assert types["h100"].total == 8
    assert [choice.gpus for choice in types["h100"].choices] == [1, 2, 4, 8]
    assert {node.gpu_type for node in ask(cloud, "/v1/status", StatusView).nodes} == set(types)
    assert ask(cloud, "/v1/me", Me).principal.startswith("unix:")


def test_an_operator_s_command_of_0_1_0_accepts_the_clock_and_ends_everything(cloud: SmallCloud) -> None:
    assert send(cloud, {"kind": "accept_clock"}, Done).message
    assert send(cloud, {"kind": "end_all"}, Done).message


REFUSED = {
    "an unknown type": {**RESERVE, "gpu_type": "abacus"},
    "an unknown reservation": {"kind": "cancel", "reservation": "nobody-has-it"},
    "a request of another version": {"kind": "explode"},
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_a_client_of_0_1_0_is_told_what_is_wrong_and_what_to_do(cloud: SmallCloud, request_: dict[str, Any]) -> None:
    error = refused(cloud, message("POST", "/v1/requests", envelope(request_, uuid.uuid4().hex)))
    if request_["kind"] != "explode":
        assert error.hints
        assert error.hint == error.hints[0].command
