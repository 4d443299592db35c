"""Another daemon, or a request, acts between any two calls of a pass and of its tasks.

Rows 10 and 47 of docs/survives.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.world import ADA, BEN, HOUR, MINUTE, Fuse, World

from odc.control.requests import MAX_BACKOFF, MAX_TRIES
from odc.domain.errors import OdcError
from odc.domain.requests import SetOwnKeys
from odc.domain.reservation import EndReason, State

MOST = 300
STEP = 15 * MINUTE
"""Every end lies on such a step, so no pass is late."""


def another_daemon(world: World) -> Callable[[], None]:
    """A second process over the same store and cluster, which thinks that it is the only one."""
    other = World.beside(world)

    def act() -> None:
        other.settle()

    return act


def two_reservations(world: World, meanwhile: Callable[[], None], after: bool, number: int) -> Fuse:
    """Ada and Ben want all GPUs; Ada's ends by time; at one call of the first daemon something else happens."""
    fuse = Fuse(number, after, meanwhile)
    world.build(fuse)
    world.settle()
    world.ask(gpus=8, hours=0.5, name="a", disk="proj")
    world.settle()
    world.ask(BEN, gpus=8, hours=0.5, name="b")
    world.settle()
    world.pass_time(HOUR / 2, step=STEP)
    return fuse


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_two_daemons_at_once_give_no_gpu_twice_and_end_everything_once(after: bool) -> None:
    for number in range(1, MOST):
        world = World()
        fuse = two_reservations(world, another_daemon(world), after, number)
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

        fuse = two_reservations(world, ask, after, number)
        if not fuse.blown:
            break
        world.pass_time(HOUR, step=STEP)
        records = {r.name: r for r in world.all()}
        assert set(records) == {"a", "b", "c"}
        assert {r.ended_why for r in records.values()} == {EndReason.EXPIRED}, fuse.where
        assert all(r.attempt == 1 and r.postponements == 0 for r in records.values()), fuse.where
    assert 60 < number < MOST


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
