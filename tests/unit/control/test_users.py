"""A uid that is used again: nobody gets another person's disks or is let in by another person's keys."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.builders import KEY, a_user
from tests.world import ADA, BEN, HOUR, OPERATOR, World

from odc.control.box_start import find_disk
from odc.domain.access import Principal
from odc.domain.errors import InvalidRequest, NotAllowed, NotFound
from odc.domain.problem_text import problem_texts
from odc.domain.records import Change
from odc.domain.requests import Cancel, ForgetUser, MoveUser, SetOwnKeys
from odc.domain.reservation import State

EVE = Principal(id=ADA.id, user="eve")
"""The new person who got ada's uid."""
NOBODY = Principal(id=ADA.id, user="uid1000")
OTHER_KEY = KEY.replace("AAAAIPjN5X", "AAAAIPjN6X").replace("octocat", "eve")


@pytest.fixture
def world() -> World:
    """Ada has a disk, a reservation that ended, and has left; eve has her uid."""
    found = World()
    record = found.reserve(disk="proj", name="old")
    found.cancel(record)
    found.settle()
    found.accounts.logins[1000] = "eve"
    return found


def test_a_reused_uid_is_refused_and_told_what_the_operator_types(world: World) -> None:
    old = world.all()[0]
    questions = (
        lambda: world.ask(EVE, disk="proj"),
        lambda: world.send(SetOwnKeys(keys=()), EVE),
        lambda: world.send(Cancel(reservation=old.id), EVE),
        lambda: world.queries.me(EVE),
        lambda: world.queries.disks(EVE),
        lambda: world.queries.find(EVE, old.id),
        lambda: world.queries.history(EVE, old.id),
        lambda: world.queries.reservations(EVE, "all", ended=True, statuses=frozenset()),
    )
    for question in questions:
        with pytest.raises(NotAllowed, match="uid 1000 was ada in this cloud and is eve now") as caught:
            question()
        assert [hint.command for hint in caught.value.hints] == [
            "sudo odc user move 1000 eve",
            "sudo odc user forget 1000",
        ]
    assert [disk.name for disk, _ in world.queries.disks(ADA)] == ["proj"]
    assert world.queries.me(ADA).keys == (KEY,)


def test_status_tells_a_reused_uid_until_the_operator_decides(world: World) -> None:
    with pytest.raises(NotAllowed):
        world.queries.me(EVE)
    world.crash()
    world.pass_once()
    assert any("uid 1000 was ada and is eve now" in text for text in problem_texts(world.queries.status.problems))
    (entry,) = [entry for entry in world.queries.users(OPERATOR) if entry.held]
    assert (entry.user.name, entry.login, [disk.name for disk in entry.disks]) == ("ada", "eve", ["proj"])
    world.send(ForgetUser(user="ada"), OPERATOR)
    world.pass_once()
    assert world.queries.status.problems == ()


def test_a_reused_uid_is_listed_as_held_before_its_first_request(world: World) -> None:
    assert [entry.user.name for entry in world.queries.users(OPERATOR) if entry.held] == ["ada"]


def test_a_forgotten_users_uid_begins_with_nothing(world: World) -> None:
    disk = world.disk("proj")
    world.send(ForgetUser(user="1000"), OPERATOR)
    assert world.queries.me(EVE).keys == ()
    assert world.queries.disks(EVE) == ()
    assert world.queries.reservations(EVE, "me", ended=True, statuses=frozenset()) == ()
    with pytest.raises(InvalidRequest, match="no SSH key"):
        world.ask(EVE)
    world.send(SetOwnKeys(keys=(OTHER_KEY,)), EVE)
    record = world.reserve(EVE, disk="proj")
    box = next(box.name for box in world.cluster.peek() if box.name.reservation_id == record.id)
    assert world.cluster.read_files(box)["authorized_keys"].decode().splitlines() == [OTHER_KEY]
    assert world.disk("proj", EVE).id != disk.id


def test_a_forgotten_users_disks_are_kept_and_handed_over(world: World) -> None:
    disk = world.disk("proj")
    world.reserve(BEN, disk="proj")
    answer = world.send(ForgetUser(user="ada"), OPERATOR)
    (former,) = [entry for entry in world.queries.users(OPERATOR) if entry.user.is_former]
    assert [kept.id for kept in former.disks] == [disk.id]
    assert f"odc user move {former.user.principal} LOGIN" in str(answer)
    told = world.send(MoveUser(user=former.user.principal, to="ben"), OPERATOR)
    assert "proj as proj-2" in str(told)
    assert world.disk("proj-2", BEN).id == disk.id
    assert [entry.user.name for entry in world.queries.users(OPERATOR)] == ["ben"]
    record = world.reserve(BEN, disk="proj-2")
    assert record.state is State.ACTIVE


def test_a_renamed_user_keeps_everything_and_has_the_new_name(world: World) -> None:
    record = world.reserve(disk="proj")
    with pytest.raises(NotAllowed):
        world.queries.me(EVE)
    world.send(MoveUser(user="ada", to="eve"), OPERATOR)
    world.settle()
    assert world.get(record).user == "eve"
    assert (world.get(record).state, world.queries.me(EVE).name) == (State.ACTIVE, "eve")
    assert [disk.name for disk, _ in world.queries.disks(EVE)] == ["proj"]
    assert world.queries.status.problems == ()
    with pytest.raises(NotAllowed, match="was eve in this cloud and is ada now"):
        world.queries.me(ADA)


def test_the_box_of_a_leaver_runs_on_until_the_operator_forgets_them() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.accounts.logins[1000] = "eve"
    with pytest.raises(NotAllowed):
        world.send(Cancel(reservation=record.id), EVE)
    world.settle()
    assert world.get(record).state is State.ACTIVE
    world.send(ForgetUser(user="ada"), OPERATOR)
    world.settle()
    assert world.get(record).state is State.ENDED
    assert world.boxes_of(record) == []
    (former,) = [entry for entry in world.queries.users(OPERATOR) if entry.user.is_former]
    (disk,) = former.disks
    assert (disk.holder, disk.snapshots.count) == (None, 1)


def test_a_queued_reservation_of_a_leaver_never_starts_once_forgotten() -> None:
    world = World()
    world.reserve(BEN, gpus=8)
    record = world.reserve(gpus=1, disk="proj")
    assert record.state is State.QUEUED
    world.send(ForgetUser(user="ada"), OPERATOR)
    world.pass_time(2 * HOUR)
    assert world.get(record).state is State.ENDED
    assert "placed" not in world.story(record)


def test_a_user_with_a_new_uid_keeps_a_running_box_its_disk_and_the_keys() -> None:
    world = World()
    record = world.reserve(disk="proj")
    new = Principal(id="unix:2000", user="ada")
    world.accounts.logins = {2000: "ada", 1001: "ben"}
    world.send(MoveUser(user="ada", to="2000"), OPERATOR)
    world.pass_time(HOUR / 2)
    assert world.queries.find(new, "proj").record.state is State.ACTIVE
    assert world.queries.me(new).keys == (KEY,)
    world.cancel(world.get(record), new)
    world.settle()
    assert world.disk("proj", new).snapshots.count == 1
    assert world.store.find_user(ADA.id) is None


def test_a_task_that_began_before_a_user_was_moved_still_finds_the_disk() -> None:
    world = World()
    record = world.ask(disk="proj")
    world.accounts.logins[2000] = "ada"
    world.send(MoveUser(user="1000", to="2000"), OPERATOR)
    before = replace(record, disk_id=record.disk_id)
    disk = find_disk(world.ports, before)
    assert disk is not None
    assert (disk.name, disk.owner) == ("proj", "unix:2000")


def test_somebody_else_who_gets_the_disks_never_gets_the_keys(world: World) -> None:
    world.accounts.logins[2000] = "cora"
    told = world.send(MoveUser(user="ada", to="cora"), OPERATOR)
    cora = Principal(id="unix:2000", user="cora")
    assert "cora has no SSH key yet" in str(told)
    assert world.queries.me(cora).keys == ()
    assert [disk.name for disk, _ in world.queries.disks(cora)] == ["proj"]
    assert world.queries.me(EVE).keys == ()


def test_a_uid_without_a_login_is_the_recorded_user_and_keeps_the_name(world: World) -> None:
    del world.accounts.logins[1000]
    record = world.reserve(NOBODY, disk="proj")
    assert (record.user, world.queries.me(NOBODY).name) == ("ada", "ada")
    assert world.queries.me(ADA).claimed_by == ""


def test_a_uid_without_a_login_gets_nothing_while_its_record_is_held(world: World) -> None:
    with pytest.raises(NotAllowed):
        world.queries.me(EVE)
    with pytest.raises(NotAllowed, match="until an operator"):
        world.queries.disks(NOBODY)
    assert [disk.name for disk, _ in world.queries.disks(ADA)] == ["proj"]
    world.pass_once()
    assert world.queries.status.problems == ()


def test_a_user_first_seen_without_a_login_is_held_when_the_uid_gets_one() -> None:
    world = World()
    world.send(SetOwnKeys(keys=(KEY,)), Principal(id="unix:3000", user="uid3000"))
    with pytest.raises(NotAllowed, match="was uid3000 in this cloud and is carl now"):
        world.queries.me(Principal(id="unix:3000", user="carl"))


@pytest.mark.parametrize("login", ["Ada", "ada@corp.example", "CORP\\ada"])
def test_another_spelling_of_a_login_is_the_same_person(world: World, login: str) -> None:
    assert world.queries.me(Principal(id=ADA.id, user=login)).keys == (KEY,)


def test_one_name_in_two_domains_is_two_persons() -> None:
    world = World()
    world.send(SetOwnKeys(keys=(KEY,)), Principal(id="unix:3000", user="carl@one"))
    with pytest.raises(NotAllowed):
        world.queries.me(Principal(id="unix:3000", user="carl@two"))


def test_an_operator_by_name_whose_uid_was_anothers_operates_nothing(world: World) -> None:
    with pytest.raises(NotAllowed, match="uid 1000 was ada"):
        world.send(ForgetUser(user="ada"), replace(EVE, admin=True))
    with pytest.raises(NotAllowed, match="uid 1000 was ada"):
        world.queries.users(replace(EVE, admin=True))


def test_root_is_root_whatever_it_is_called() -> None:
    world = World()
    world.send(SetOwnKeys(keys=(KEY,)), OPERATOR)
    assert world.queries.me(Principal(id="unix:0", user="toor", admin=True)).keys == (KEY,)


def test_only_operators_list_forget_and_move_users(world: World) -> None:
    for request in (ForgetUser(user="ada"), MoveUser(user="ada", to="ben")):
        with pytest.raises(NotAllowed, match="only an operator may"):
            world.send(request, BEN)
    with pytest.raises(NotAllowed, match="only an operator may"):
        world.queries.users(BEN)
    assert [disk.name for disk, _ in world.queries.disks(ADA)] == ["proj"]


def test_a_user_or_login_that_does_not_exist_changes_nothing(world: World) -> None:
    with pytest.raises(NotFound, match="did you mean ada"):
        world.send(ForgetUser(user="adda"), OPERATOR)
    with pytest.raises(NotFound, match="not a login of this machine"):
        world.send(MoveUser(user="ada", to="nobody-here"), OPERATOR)
    with pytest.raises(NotFound):
        world.send(MoveUser(user="x" * 100_000, to="ben"), OPERATOR)
    assert [disk.name for disk, _ in world.queries.disks(ADA)] == ["proj"]


def test_two_users_of_one_name_are_told_apart_by_principal() -> None:
    world = World()
    world.send(SetOwnKeys(keys=(OTHER_KEY,)), Principal(id="unix:2000", user="ada"))
    with pytest.raises(InvalidRequest, match="unix:1000, unix:2000"):
        world.send(ForgetUser(user="ada"), OPERATOR)
    world.send(ForgetUser(user="unix:2000"), OPERATOR)
    assert world.queries.me(ADA).keys == (KEY,)


def test_nothing_is_moved_to_a_uid_that_is_held_itself(world: World) -> None:
    world.accounts.logins[1001] = "carl"
    with pytest.raises(InvalidRequest, match="uid 1001 is recorded as ben and is carl now"):
        world.send(MoveUser(user="ada", to="carl"), OPERATOR)


def test_a_name_that_both_have_is_refused_and_nothing_is_moved() -> None:
    world = World()
    mine, other = world.reserve(name="train"), world.reserve(BEN, name="train")
    with pytest.raises(InvalidRequest, match="both have a reservation train"):
        world.send(MoveUser(user="ada", to="ben"), OPERATOR)
    assert {world.get(record).owner for record in (mine, other)} == {ADA.id, BEN.id}


def test_a_disk_in_use_whose_name_is_taken_is_refused_and_nothing_is_moved() -> None:
    world = World()
    holder = world.get(world.reserve(disk="proj", name="one"))
    world.reserve(BEN, disk="proj", name="two")
    with pytest.raises(InvalidRequest, match="disk proj is in use, and ben has a disk of that name") as refused:
        world.send(MoveUser(user="ada", to="ben"), OPERATOR)
    assert world.disk("proj").owner == ADA.id
    assert refused.value.hints[0].command == f"gpu-dev cancel {holder.id[:8]}"


def test_a_record_of_an_earlier_version_is_known_by_the_name_in_it() -> None:
    world = World()
    world.store.commit(Change(users=(a_user(principal="unix:5000", name="dan"),)))
    assert world.queries.me(Principal(id="unix:5000", user="dan")).keys == (KEY,)
    with pytest.raises(NotAllowed, match="uid 5000 was dan"):
        world.queries.me(Principal(id="unix:5000", user="dora"))


def test_a_refused_person_who_asks_again_and_again_writes_once(world: World) -> None:
    for _ in range(20):
        with pytest.raises(NotAllowed):
            world.queries.me(EVE)
    user = world.store.find_user(ADA.id)
    assert user is not None
    with pytest.raises(NotAllowed):
        world.queries.me(EVE)
    assert world.store.find_user(ADA.id) == user
    assert len(world.all()) == 1


def test_a_user_who_is_moved_to_themselves_is_told_so(world: World) -> None:
    with pytest.raises(InvalidRequest, match="recorded as ben already"):
        world.send(MoveUser(user="ben", to="ben"), OPERATOR)
