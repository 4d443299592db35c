"""The zone of a disk is where its volume is, whatever attempt made it and wherever the process died.

Row 13 of docs/survives.md.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.builders import a_node
from tests.world import SECOND, Fuse, World

from odc.adapters.memory.cluster import NEVER
from odc.domain.limits import Limits
from odc.domain.records import Change
from odc.domain.reservation import State

ONE, TWO = a_node("node-1", zone="z-1"), a_node("node-2", zone="z-2")
ZONE_OF = {"node-1": "z-1", "node-2": "z-2"}
MOST = 200


class Killed(BaseException):
    """`kill -9`: no handler of the control plane sees it."""


def killed() -> None:
    raise Killed


def two_zones() -> World:
    world = World((ONE, TWO), limits=Limits(ssh=timedelta(seconds=10)))
    world.volumes.zones = dict(ZONE_OF)
    return world


def settle_and_die(world: World, fuse: Fuse) -> None:
    """Passes until the fuse kills the process; then the next process begins."""
    world.build(fuse)
    with suppress(Killed):
        world.settle()
    world.crash()


def test_a_disk_keeps_the_zone_that_its_volume_was_made_in() -> None:
    world = two_zones()
    record = world.reserve(disk="proj")
    assert record.places[0].node == "node-1"
    assert world.disk("proj").zone == "z-1"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_next_attempt_gets_a_node_of_the_zone_wherever_the_process_died(after: bool) -> None:
    number, seen = 0, set()
    while (where := first_attempt_dies(number := number + 1, after)) and number < MOST:
        seen.add(where.split()[1])
    assert {"volumes.create", "volumes.label", "store.commit"} <= seen
    assert number < MOST


def first_attempt_dies(number: int, after: bool) -> str:
    """The process dies at this call, and the first attempt is given up; where it died, empty if it made fewer calls."""
    world, fuse = two_zones(), Fuse(number, after, killed)
    world.cluster.delay_ssh(NEVER)
    record = world.ask(disk="proj")
    settle_and_die(world, fuse)
    world.cluster.put_node(replace(ONE, cordoned=True))
    world.pass_until(lambda: "queued again" in world.story(record))
    world.cluster.put_node(ONE)
    world.cluster.heal()
    world.pass_until(lambda: world.get(record).state is State.ACTIVE)
    active, disk = world.get(record), world.disk("proj")
    assert (active.attempt, ZONE_OF[active.places[0].node]) == (2, disk.zone), fuse.where
    return fuse.where


def test_a_volume_of_which_no_record_says_the_zone_is_found_by_a_later_attempt() -> None:
    world = two_zones()
    record = world.ask(disk="proj")
    settle_and_die(world, Fuse(1, after=True, blow=killed, method="create"))
    world.cancel(record)
    world.pass_until(lambda: world.get(record).state is State.ENDED)
    assert world.disk("proj").zone == ""
    world.cluster.put_node(replace(ONE, cordoned=True))
    second = world.reserve(disk="proj")
    world.pass_until(lambda: "queued again" in world.story(second))
    assert (world.get(second).state, world.disk("proj").zone) == (State.QUEUED, "z-1")
    told = next(event for event in world.events(second) if event.kind == "ending")
    assert told.text == "goes back to the queue: disk: its volume is in zone z-1, and node-2 is not"
    world.cluster.put_node(ONE)
    world.pass_until(lambda: world.get(second).state is State.ACTIVE)
    active = world.get(second)
    assert (active.places[0].node, active.attempt - active.uncounted) == ("node-1", 1)


def test_a_zone_is_recorded_by_the_next_try_if_another_writer_was_first() -> None:
    world = two_zones()
    record = world.ask(disk="proj")

    def write() -> None:
        world.store.commit(Change(disks=(world.disk("proj"),)))

    world.build(Fuse(1, after=True, blow=write, method="create"))
    world.settle()
    world.pass_time(5 * SECOND)
    assert (world.disk("proj").zone, world.get(record).state) == ("z-1", State.ACTIVE)
    assert "fault" not in world.story(record)
