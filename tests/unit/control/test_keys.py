"""Whose keys open a box, when GitHub fails; and what a running box is told later.

Row 40 of docs/survives.md.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.builders import KEY, a_node
from tests.world import ADA, HOUR, MINUTE, SECOND, Fuse, World

from odc.adapters.memory.cluster import NEVER
from odc.domain.errors import InvalidRequest, NotFound, ProviderUnavailable
from odc.domain.limits import Limits
from odc.domain.records import Change
from odc.domain.requests import SetGithubUser, SetOwnKeys
from odc.domain.reservation import Reservation, State
from odc.domain.user import User

DOWN = ProviderUnavailable("GitHub does not answer")
FIRST = KEY.replace("octocat", "first")
SECOND_KEY = KEY.replace("AAAAIPjN5X", "AAAAIPjN6X").replace("octocat", "second")


@pytest.fixture
def world() -> World:
    """Ada's keys are those of her GitHub login."""
    found = World()
    found.keys.set_keys("ada-on-github", FIRST, user_id=7)
    found.send(SetOwnKeys(keys=()))
    found.send(SetGithubUser(login="ada-on-github"))
    return found


def keys_in(world: World, record: Reservation) -> list[str]:
    name = next(box.name for box in world.cluster.peek() if box.name.reservation_id == record.id)
    return world.cluster.read_files(name)["authorized_keys"].decode().splitlines()


def user(world: World) -> User:
    found = world.store.find_user(ADA.id)
    assert found is not None
    return found


def test_a_box_is_opened_by_keys_that_were_fetched_when_it_started(world: World) -> None:
    world.keys.set_keys("ada-on-github", FIRST, SECOND_KEY, user_id=7)
    world.clock.advance(2 * MINUTE)
    record = world.reserve()
    assert keys_in(world, record) == [FIRST, SECOND_KEY]


def test_keys_that_were_fetched_just_now_are_not_asked_for_again(world: World) -> None:
    asked = len(world.keys.fetched)
    world.reserve()
    assert len(world.keys.fetched) == asked


@pytest.mark.parametrize("error", [DOWN, NotFound("ada-on-github has no SSH key on GitHub")], ids=["down", "no keys"])
def test_the_last_good_keys_are_used_when_github_fails_and_the_fault_is_kept(world: World, error: Exception) -> None:
    world.keys.faults.add("fetch", error, NEVER)  # type: ignore[arg-type]
    world.clock.advance(HOUR)
    record = world.reserve()
    assert record.state is State.ACTIVE
    assert keys_in(world, record) == [FIRST]
    assert user(world).github_fault == error.message  # type: ignore[attr-defined]
    world.keys.faults.clear()
    world.clock.advance(HOUR)
    world.reserve()
    assert user(world).github_fault == ""


def test_a_login_that_is_another_account_now_opens_nothing(world: World) -> None:
    world.keys.set_keys("ada-on-github", SECOND_KEY, user_id=8)
    world.clock.advance(HOUR)
    record = world.reserve()
    assert keys_in(world, record) == [FIRST]
    assert "another GitHub account" in user(world).github_fault


def test_other_keys_are_not_taken_while_github_does_not_say_whose_they_are(world: World) -> None:
    world.keys.set_keys("ada-on-github", SECOND_KEY, user_id=0)
    world.clock.advance(HOUR)
    record = world.reserve()
    assert keys_in(world, record) == [FIRST]
    assert "still the same account" in user(world).github_fault
    world.send(SetGithubUser(login="ada-on-github"))
    assert user(world).keys == (SECOND_KEY,)


def test_a_login_that_was_renamed_on_github_is_told_with_its_new_name(world: World) -> None:
    world.keys.remove("ada-on-github")
    world.keys.set_keys("ada-new", FIRST, user_id=7)
    world.clock.advance(HOUR)
    record = world.reserve()
    assert keys_in(world, record) == [FIRST]
    assert user(world).github_fault.endswith("that account is called ada-new now")


def test_github_down_while_the_login_is_set_changes_nothing_and_may_be_repeated(world: World) -> None:
    before = user(world)
    world.keys.set_keys("ben-on-github", SECOND_KEY)
    world.keys.faults.add("fetch", DOWN)
    request = SetGithubUser(login="ben-on-github")
    with pytest.raises(ProviderUnavailable):
        world.send(request, request_id="a" * 32)
    assert user(world) == before
    world.send(request, request_id="a" * 32)
    assert user(world).keys == (SECOND_KEY,)


def test_without_any_key_a_request_is_refused_and_a_waiting_one_fails_with_what_to_do(world: World) -> None:
    world.reserve(gpus=8, name="runs")
    waiting = world.reserve(gpus=8, name="waits")
    world.send(SetGithubUser(login=""))
    with pytest.raises(InvalidRequest, match="no SSH key"):
        world.ask(name="third")
    world.pass_until(lambda: not world.get(waiting).live, 2 * HOUR)
    assert "ada has no SSH key" in world.get(waiting).end_detail


def test_new_keys_reach_the_boxes_that_run(world: World) -> None:
    record = world.reserve()
    assert keys_in(world, record) == [FIRST]
    world.send(SetOwnKeys(keys=(SECOND_KEY,)))
    world.settle()
    assert keys_in(world, record) == [FIRST, SECOND_KEY]


def test_a_running_box_never_gets_an_empty_list_over_good_keys(world: World) -> None:
    record = world.reserve()
    world.send(SetGithubUser(login=""))
    world.settle()
    world.pass_time(MINUTE)
    assert keys_in(world, record) == [FIRST]
    world.send(SetOwnKeys(keys=(SECOND_KEY,)))
    world.settle()
    assert keys_in(world, record) == [SECOND_KEY]


def test_a_refresh_of_a_box_that_fails_is_tried_again_until_the_box_knows(world: World) -> None:
    record = world.reserve()
    world.cluster.faults.add("write_files", DOWN, 3)
    world.send(SetOwnKeys(keys=(SECOND_KEY,)))
    world.settle()
    now = world.get(record)
    assert now.state is State.ACTIVE
    assert now.fault is not None
    assert "end and keys" in now.fault.message
    assert keys_in(world, record) == [FIRST]
    world.pass_time(MINUTE)
    assert keys_in(world, record) == [FIRST, SECOND_KEY]
    assert world.get(record).fault is None
    assert world.story(record).count("fault") == 1


@pytest.mark.prompt_lists("counts how often the cluster is asked")
def test_a_box_knows_its_true_end_although_the_daemon_died_before_it_was_told(world: World) -> None:
    world.cluster.delay_ssh(2)
    record = world.ask()
    world.pass_until(lambda: world.get(record).state is State.PREPARING)
    world.clock.advance(world.policy.poll)
    world.cluster.delay_ssh(0)
    world.pass_once()
    world.cluster.faults.add("write_files", DOWN, 1)
    world.pass_once()
    assert world.get(record).state is State.ACTIVE
    world.crash()
    world.settle()
    name = world.cluster.peek()[0].name
    ends = world.get(record).expires_at
    assert ends is not None
    world.pass_time(5 * SECOND)
    assert world.cluster.read_files(name)["expires_at"] == f"{int(ends.timestamp())}\n".encode()


def test_a_box_that_knows_everything_is_not_told_again(world: World) -> None:
    world.reserve()
    told = world.started.count("files")
    world.pass_time(10 * MINUTE)
    assert world.started.count("files") == told


def test_a_fault_while_a_box_is_told_does_not_keep_it_from_ending(world: World) -> None:
    record = world.reserve()
    world.cluster.faults.add("write_files", DOWN, NEVER)
    world.send(SetOwnKeys(keys=(SECOND_KEY,)))
    world.pass_time(HOUR, step=MINUTE)
    assert world.get(record).state is State.ENDED


def test_a_box_whose_record_an_earlier_version_wrote_is_told_once(world: World) -> None:
    record = world.reserve()
    old = replace(world.get(record), owner_keys="", applied_config="of an earlier version")
    world.store.commit(Change(reservations=(old,)))
    told = world.started.count("files")
    world.pass_time(MINUTE)
    assert world.started.count("files") == told + 1
    assert world.get(record).owner_keys == user(world).keys_digest


def test_keys_that_change_while_a_box_is_told_the_ones_before_reach_it_too(world: World) -> None:
    record = world.reserve()

    def forget() -> None:
        world.send(SetOwnKeys(keys=()))

    world.build(Fuse(1, True, forget, ("cluster",), "write_files"))
    world.send(SetOwnKeys(keys=(SECOND_KEY,)))
    world.settle()
    assert keys_in(world, record) == [FIRST]
    now = world.get(record)
    assert now.owner_keys == user(world).keys_digest


@pytest.mark.prompt_lists("counts the commits of one request")
@pytest.mark.parametrize("number", [1, 2])
def test_new_keys_reach_more_boxes_than_one_transaction_holds(number: int) -> None:
    world = World([a_node(f"node-{place}") for place in range(8)], limits=Limits(live_per_user=100))
    records = [world.ask(name=f"r{place}") for place in range(60)]
    world.settle()
    request_id = "a" * 32

    def crash() -> None:
        raise DOWN

    world.build(Fuse(number, True, crash, ("store",), "commit"))
    with pytest.raises(ProviderUnavailable):
        world.send(SetOwnKeys(keys=(FIRST, SECOND_KEY)), request_id=request_id)
    world.crash()
    world.send(SetOwnKeys(keys=(FIRST, SECOND_KEY)), request_id=request_id)
    world.settle()
    assert {tuple(keys_in(world, record)) for record in records} == {(FIRST, SECOND_KEY)}
