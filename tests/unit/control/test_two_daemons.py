"""Another daemon, or a request, acts between any two calls of a pass and of its tasks.

Rows 10 and 47 of docs/survives.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace
from tests.world import ADA, BEN, HOUR, MINUTE, Fuse, World, Wrapper

from odc.control.requests import MAX_BACKOFF, MAX_TRIES
from odc.domain.errors import OdcError
from odc.domain.records import Stored
from odc.domain.requests import SetOwnKeys
from odc.domain.reservation import EndReason, State

W = TypeVar("W", bound=Wrapper)
MOST = 300
STEP = 15 * MINUTE
"""Every end lies on such a step, so no pass is late."""


def another_daemon(world: World) -> Callable[[], None]:
    """A second process over the same store and cluster, which thinks that it is the only one."""
    other = World.beside(world)

    def act() -> None:
        other.settle()

    return act


def two_reservations(world: World, wrapper: W) -> W:
    """Ada and Ben want all GPUs; Ada's ends by time; at one call of the first daemon something else happens."""
    world.build(wrapper)
    world.settle()
    world.ask(gpus=8, hours=0.5, name="a", disk="proj")
    world.settle()
    world.ask(BEN, gpus=8, hours=0.5, name="b")
    world.settle()
    world.pass_time(HOUR / 2, step=STEP)
    return wrapper


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_two_daemons_at_once_give_no_gpu_twice_and_end_everything_once(after: bool) -> None:
    for number in range(1, MOST):
        world = World()
        fuse = two_reservations(world, Fuse(number, after, another_daemon(world)))
        world.pass_time(HOUR / 2 + STEP, step=STEP)
        if not fuse.blown:
            break
        for name, owner in (("a", ADA), ("b", BEN)):
            (record,) = (r for r in world.all() if r.name == name)
            story = world.story(record)
            assert (record.state, record.ended_why) == (State.ENDED, EndReason.EXPIRED), (fuse.where, owner)
            for kind in ("asked", "placed", "ready", "stopped", "ended"):
                assert story.count(kind) == record.attempt == 1, (fuse.where, story)
            assert "postponed" not in story, fuse.where
        assert world.cluster.peek() == ()
        assert world.cluster.leftovers() == frozenset()
        assert world.volumes.list_attached() == {}
        assert world.disk("proj").snapshots.count == 1
    assert 60 < number < MOST


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_request_between_any_two_calls_of_a_pass_loses_nothing(after: bool) -> None:
    """A third reservation, for the same GPUs, is asked for in the middle of whatever the pass does."""
    for number in range(1, MOST):
        world = World()
        other = World.beside(world)

        def ask(other: World = other) -> None:
            other.ask(BEN, gpus=8, hours=0.25, name="c")

        fuse = two_reservations(world, Fuse(number, after, ask))
        if not fuse.blown:
            break
        world.pass_time(HOUR, step=STEP)
        records = {r.name: r for r in world.all()}
        assert set(records) == {"a", "b", "c"}
        assert {r.ended_why for r in records.values()} == {EndReason.EXPIRED}, fuse.where
        assert all(r.attempt == 1 and r.postponements == 0 for r in records.values()), fuse.where
    assert 60 < number < MOST


class Torn:
    """A store of which one `observe` is not of one moment: others act after the pools and plans were read.

    The records are then all new, or every second one is as it was before.
    """

    def __init__(self, number: int, meanwhile: Callable[[], None], half: bool) -> None:
        """Tear the observe of this number, from 1; `meanwhile` is what others do."""
        self.left, self.meanwhile, self.half = number, meanwhile, half

    def __call__(self, port: str, adapter: Any) -> Any:
        if port == "store":
            self.store = adapter
        return self if port == "store" else adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def observe(self) -> Stored:
        before: Stored = self.store.observe()
        self.left -= 1
        if self.left != 0:
            return before
        self.meanwhile()
        now: Stored = self.store.observe()
        records = {record.id: record for record in now.reservations}
        if self.half:
            records |= {record.id: record for record in before.reservations[::2]}
        in_line = sorted(records.values(), key=lambda record: record.order)
        return replace(now, pools=before.pools, plans=before.plans, reservations=tuple(in_line))


@pytest.mark.parametrize("half", [False, True], ids=["all new", "half old"])
def test_records_that_are_newer_than_the_pools_and_plans_of_a_pass_break_nothing(half: bool) -> None:
    """A third reservation is asked for, and another daemon runs passes, in the middle of what a pass reads."""
    for number in range(1, MOST):
        world = World()
        other = World.beside(world)

        def act(other: World = other) -> None:
            other.ask(BEN, gpus=8, hours=0.25, name="c")
            other.settle()

        torn = two_reservations(world, Torn(number, act, half))
        if torn.left > 0:
            break
        world.pass_time(HOUR, step=STEP)
        records = {r.name: r for r in world.all()}
        assert set(records) == {"a", "b", "c"}
        assert {r.ended_why for r in records.values()} == {EndReason.EXPIRED}, number
        assert all(r.attempt == 1 and r.postponements == 0 for r in records.values()), number
    assert 15 < number < MOST


def test_a_request_that_is_always_too_late_is_told_to_come_again_and_changes_nothing() -> None:
    world = World()
    other = World.beside(world)

    def rival() -> None:
        other.send(SetOwnKeys(keys=()), ADA)

    class Unlucky:
        def __getattr__(self, name: str) -> object:
            if name == "commit":
                rival()
            return getattr(world.store, name)

    world.build(lambda port, adapter: Unlucky() if port == "store" else adapter)
    before = world.clock.since_boot()
    with pytest.raises(OdcError):
        world.ask()
    assert world.all() == []
    # It pauses after each conflict.
    assert timedelta(0) < world.clock.since_boot() - before <= MAX_TRIES * MAX_BACKOFF
