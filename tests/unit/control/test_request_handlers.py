"""Every request is in one table, with a permission, a handler and the type of its answer."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from tests.builders import KEY
from tests.world import ADA, OPERATOR, World

from odc.api.client import Client
from odc.api.messages.requests import Done
from odc.api.messages.reservations import ReservationView
from odc.api.messages.users import Me
from odc.control.request_handlers import REQUESTS, CloudRequest
from odc.domain.access import Act
from odc.domain.errors import NotAllowed
from odc.domain.requests import (
    AcceptClock,
    Cancel,
    EndAll,
    ForgetUser,
    MoveUser,
    PruneSnapshots,
    RecoverDisk,
    Request,
    Reserve,
    SetGithubUser,
    SetOwnKeys,
)
from odc.domain.reservation import Reservation
from odc.domain.user import User

SAMPLES: dict[type, Request] = {
    Reserve: Reserve(gpu_type="h100", gpus=1, hours=1, disk="none"),
    SetGithubUser: SetGithubUser(login=""),
    SetOwnKeys: SetOwnKeys(keys=(KEY,)),
    AcceptClock: AcceptClock(),
    EndAll: EndAll(),
    ForgetUser: ForgetUser(user="1001"),
    MoveUser: MoveUser(user="1001", to="1000"),
    PruneSnapshots: PruneSnapshots(),
    RecoverDisk: RecoverDisk(every=True),
}
VIEWS = {Reservation: ReservationView, User: Me, str: Done}


def test_every_request_is_in_the_table() -> None:
    assert set(REQUESTS) == set(get_args(Request))
    assert set(SAMPLES) == set(REQUESTS) - {Cancel}


@pytest.mark.parametrize("kind", [kind for kind, entry in REQUESTS.items() if entry.permission is Act.OPERATE])
def test_requests_for_operators_are_refused_to_others_and_change_nothing(kind: type[Request]) -> None:
    world = World()
    before = (world.store.observe(), world.store.list_users().items, world.store.swap_clock_anchor(None))
    with pytest.raises(NotAllowed):
        world.send(SAMPLES[kind], ADA)
    assert (world.store.observe(), world.store.list_users().items, world.store.swap_clock_anchor(None)) == before


@pytest.mark.parametrize("kind", [kind for kind, entry in REQUESTS.items() if isinstance(entry, CloudRequest)])
def test_a_request_is_answered_with_its_type_and_a_repeat_too(kind: type[Request]) -> None:
    world = World()
    world.send(SAMPLES[SetOwnKeys], OPERATOR)
    answers = [world.send(SAMPLES[kind], OPERATOR, request_id=f"{1:032x}") for _ in range(2)]
    assert [type(answer) for answer in answers] == [REQUESTS[kind].answer] * 2


@pytest.mark.parametrize("kind", list(REQUESTS))
def test_the_client_has_a_method_for_the_request_with_the_type_of_its_answer(kind: type[Request]) -> None:
    method = getattr(Client, str(kind.__struct_config__.tag))
    assert get_type_hints(method)["return"] is VIEWS[REQUESTS[kind].answer]
