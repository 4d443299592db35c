"""The contract of the key source, held by every adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest
from tests.builders import KEY
from tests.github_server import GitHub, serve_github

from odc.adapters.github.key_source import GitHubKeySource
from odc.adapters.memory.key_source import MemoryKeySource
from odc.domain.errors import InvalidRequest, NotFound, ProviderUnavailable
from odc.ports.key_source import KeySource

BARE = " ".join(KEY.split()[:2])


class World(Protocol):
    source: KeySource

    def set_keys(self, login: str, *keys: str, number: int) -> None: ...

    def remove(self, login: str) -> None: ...

    def stop_answering(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.memory = MemoryKeySource()
        self.source: KeySource = self.memory

    def set_keys(self, login: str, *keys: str, number: int) -> None:
        self.memory.set_keys(login, *keys, user_id=number)

    def remove(self, login: str) -> None:
        self.memory.remove(login)

    def stop_answering(self) -> None:
        self.memory.faults.add("fetch", ProviderUnavailable("GitHub cannot be asked"))


class GitHubWorld:
    def __init__(self, github: GitHub) -> None:
        self.github = github
        self.source: KeySource = GitHubKeySource(github.address, github.address, timeout_s=2.0)

    def set_keys(self, login: str, *keys: str, number: int) -> None:
        self.github.set_keys(login, *keys, number=number)

    def remove(self, login: str) -> None:
        self.github.remove(login)

    def stop_answering(self) -> None:
        self.github.status = 500


@pytest.fixture(params=["memory", "github"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
    else:
        with serve_github() as github:
            yield GitHubWorld(github)


def test_the_keys_and_the_number_of_a_login_are_found(world: World) -> None:
    world.set_keys("octocat", BARE, number=7)
    fetched = world.source.fetch("octocat")
    assert fetched.keys == (BARE,)
    assert fetched.user_id == 7


def test_logins_do_not_care_for_case(world: World) -> None:
    world.set_keys("Octocat", BARE, number=7)
    assert world.source.fetch("ocTOcat").user_id == 7


def test_a_login_that_is_registered_anew_has_another_number(world: World) -> None:
    world.set_keys("octocat", BARE, number=7)
    first = world.source.fetch("octocat")
    world.remove("octocat")
    with pytest.raises(NotFound, match="octocat"):
        world.source.fetch("octocat")
    world.set_keys("octocat", BARE, number=8)
    assert world.source.fetch("octocat").user_id != first.user_id


def test_a_login_without_keys_is_named_with_what_to_do(world: World) -> None:
    world.set_keys("octocat", number=7)
    with pytest.raises(NotFound, match="octocat has no SSH key") as caught:
        world.source.fetch("octocat")
    assert caught.value.hints[0].command.endswith("/settings/keys")


def test_a_source_that_does_not_answer_is_a_passing_fault(world: World) -> None:
    world.set_keys("octocat", BARE, number=7)
    world.stop_answering()
    with pytest.raises(ProviderUnavailable):
        world.source.fetch("octocat")


@pytest.mark.parametrize("login", ["", "a/b", "a\nb", "octocat\n", "../x", "a b", "x" * 40, "ä", "a?b=c", "@a"])
def test_a_name_that_is_not_a_login_is_never_asked_for(world: World, login: str) -> None:
    with pytest.raises(InvalidRequest):
        world.source.fetch(login)
    if isinstance(world, GitHubWorld):
        assert world.github.asked == []


@pytest.mark.parametrize("login", ["foo-", "a--b", "-jerry-", "jane_corp"])
def test_a_login_of_an_earlier_rule_has_its_keys(world: World, login: str) -> None:
    world.set_keys(login, BARE, number=7)
    assert world.source.fetch(login).keys == (BARE,)


def test_a_number_tells_the_login_of_now_or_nothing(world: World) -> None:
    world.set_keys("octocat", BARE, number=7)
    assert world.source.find_login(7) == "octocat"
    assert world.source.find_login(8) == ""
