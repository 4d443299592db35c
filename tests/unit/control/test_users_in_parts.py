"""A user with more than one transaction holds is forgotten, moved or renamed in parts, wherever that is interrupted."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from tests.builders import a_disk, a_node, a_reservation
from tests.world import ADA, OPERATOR, Fuse, World, every_reservation

from odc.domain.access import Principal
from odc.domain.errors import ProviderUnavailable
from odc.domain.limits import Limits
from odc.domain.records import Change, Subject, SubjectKind
from odc.domain.requests import ForgetUser, MoveUser, Request
from odc.domain.reservation import EndReason, State

DISKS, QUEUED, ENDED = 50, 30, 1000
NEW = Principal(id="unix:2000", user="ada")


def a_busy_user() -> World:
    """Ada has fifty disks, a running box on one of them, thirty queued reservations and thousands that ended."""
    world = World([a_node("node-1")], limits=Limits(live_per_user=100, disks_per_user=100))
    world.reserve(gpus=8, disk="in-use", name="runs", hours=24.0)
    for number in range(QUEUED):
        world.ask(gpus=8, disk=f"queued{number:02}", name=f"q{number}")
    for number in range(DISKS - QUEUED - 1):
        world.store.commit(Change(disks=(a_disk(owner=ADA.id, name=f"kept{number:02}", created_at=world.clock.now()),)))
    for _ in range(ENDED // 20):
        ended = (a_reservation(owner=ADA.id, state=State.ENDED, ended_why=EndReason.EXPIRED) for _ in range(20))
        world.store.commit(Change(reservations=tuple(ended)))
    world.settle()
    return world


def crash() -> None:
    raise ProviderUnavailable("killed")


def interrupted(world: World, request: Request, number: int, after: bool) -> tuple[bool, Any]:
    """Send the request to a process that dies at a commit, and again to the next; whether it died, the last answer."""
    request_id = uuid.uuid4().hex
    fuse = Fuse(number, after, crash, ("store",), "commit")
    world.build(fuse)
    try:
        answer = world.send(request, OPERATOR, request_id)
    except ProviderUnavailable:
        world.crash()
        world.settle()
        answer = world.send(request, OPERATOR, request_id)
    return fuse.blown, answer


def owned(world: World, principal: str) -> tuple[int, int, int]:
    """How many disks, live and ended reservations somebody has."""
    records = every_reservation(world.store, principal)
    live = sum(record.live for record in records)
    return len(world.store.list_disks(principal).items), live, len(records) - live


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_user_is_forgotten_wherever_it_is_interrupted(after: bool) -> None:
    number, blown = 0, True
    while blown:
        number += 1
        world = a_busy_user()
        blown, answer = interrupted(world, ForgetUser(user="ada"), number, after)
        world.settle()
        (former,) = [user.principal for user in world.store.list_users().items if user.is_former]
        assert world.store.find_user(ADA.id) is None
        assert owned(world, ADA.id) == (0, 0, 0)
        assert owned(world, former) == (DISKS, 0, ENDED + QUEUED + 1)
        assert world.cluster.peek() == ()
        disks = world.store.list_disks(former).items
        assert all(disk.holder is None for disk in disks)
        subjects = [Subject(SubjectKind.USER, ADA.id), *(Subject(SubjectKind.DISK, disk.id) for disk in disks)]
        assert {len(world.store.list_events(subject).items) for subject in subjects} == {1}
        assert f"odc user move {former} LOGIN" in str(answer)
        assert "kept00" in str(answer)
    assert number > 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_user_is_moved_wherever_it_is_interrupted(after: bool) -> None:
    number, blown = 0, True
    while blown:
        number += 1
        world = a_busy_user()
        keys = world.queries.me(ADA).keys
        world.accounts.logins = {2000: "ada", 1001: "ben"}
        blown, _ = interrupted(world, MoveUser(user="ada", to="2000"), number, after)
        world.settle()
        assert world.store.find_user(ADA.id) is None
        assert owned(world, ADA.id) == (0, 0, 0)
        assert owned(world, NEW.id) == (DISKS, QUEUED + 1, ENDED)
        assert world.queries.me(NEW).keys == keys
        assert [r.state for r in world.store.list_named("runs", NEW.id, live=True).items] == [State.ACTIVE]
    assert number > 3


def test_a_login_with_another_name_is_recorded_in_parts() -> None:
    world = a_busy_user()
    for number in range(QUEUED):
        world.ask(name=f"more{number}")
    world.accounts.logins = {1000: "eve"}
    blown, _ = interrupted(world, MoveUser(user="1000", to="eve"), 1, after=True)
    assert blown
    found = world.store.find_user(ADA.id)
    assert found is not None
    assert found.name == "eve"
    assert {record.user for record in world.store.list_live(ADA.id).items} == {"eve"}
