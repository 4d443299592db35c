"""Nodes that say how many GPUs they have, and not which."""

from __future__ import annotations

from msgspec.structs import replace
from tests.builders import a_node
from tests.world import ADA, BEN, HOUR, MINUTE, SECOND, World

from odc.api.views import reservation_view, status_view
from odc.domain.problem_text import problem_texts
from odc.domain.reservation import Reservation, State
from odc.domain.status import Status

COUNTED = a_node("node-1", units=4, gpus=(), simulated=False)


def shown_gpus(world: World, record: Reservation) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Identities and indexes as `show` has them, and how many GPUs it says."""
    view = reservation_view(world.queries.find(ADA, record.id), ADA, world.status.current)
    (box,) = view.boxes
    return box.gpus, box.gpu_indexes, view.gpus


def test_gpus_without_identities_are_lent_queued_for_and_shown_without_any() -> None:
    world = World([COUNTED])
    three = world.reserve(gpus=2)
    waiting = world.reserve(BEN, gpus=4)
    (box,) = world.cluster.peek()
    assert (three.state, waiting.state) == (State.ACTIVE, State.QUEUED)
    assert waiting.ready_by is not None
    assert (box.gpus, box.units) == ((), 2)
    assert shown_gpus(world, three) == ((), (), 2)
    assert "placed on node-1 (2 GPUs)" in next(e.text for e in world.events(three) if e.kind == "placed")
    (offer,) = world.queries.availability()
    assert (offer.counts.free, offer.outlook.has_gpus) == (2, True)
    world.cancel(three)
    world.settle()
    assert world.get(waiting).state is State.ACTIVE
    assert world.cluster.collisions == []


def test_identities_that_are_known_once_the_box_is_made_are_in_the_record() -> None:
    world = World([COUNTED])
    world.cluster.identities["node-1"] = ("a", "b", "c", "d")
    one, two = world.reserve(gpus=1), world.reserve(BEN, gpus=2)
    assert [record.places[0].gpus for record in (one, two)] == [("a",), ("b", "c")]
    assert shown_gpus(world, one) == (("a",), (), 1)
    assert world.reserve(gpus=2).state is State.QUEUED
    assert world.reserve(gpus=1).places[0].gpus == ("d",)
    assert world.cluster.collisions == []


def test_units_that_others_hold_are_a_claim_without_an_end() -> None:
    world = World([replace(COUNTED, held_units=1)])
    assert world.reserve(gpus=2).state is State.ACTIVE
    waiting = world.reserve(BEN, gpus=2)
    assert (waiting.state, waiting.ready_by is not None) == (State.QUEUED, True)
    whole = world.reserve(BEN, gpus=4)
    world.pass_time(3 * HOUR, step=MINUTE)
    assert world.get(waiting).state is State.ENDED
    assert (world.get(whole).state, world.get(whole).ready_by) == (State.QUEUED, None)
    (view,) = status_view(world.queries.availability(), world.status.current, world.clock.now(), ADA).nodes
    assert (view.total, view.free, view.held_by_others) == (4, 3, 1)
    text = "something that is not this cloud's uses 1 GPU of node-1; it is not lent"
    assert text in problem_texts(world.status.current.problems)
    world.cluster.put_node(COUNTED)
    world.pass_time(MINUTE, step=10 * SECOND)
    assert world.get(whole).status is Status.ACTIVE


def test_of_a_node_with_identities_as_many_gpus_are_left_as_others_hold() -> None:
    world = World([a_node("node-1", units=4, held_units=2)])
    assert world.reserve(gpus=4).state is State.QUEUED
    assert world.reserve(gpus=2).state is State.ACTIVE
    assert world.reserve(BEN, gpus=1).state is State.QUEUED
