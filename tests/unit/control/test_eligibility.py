"""Which nodes may serve a reservation: what is refused at once, what is told later, and where it is placed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders import a_node
from tests.world import BEN, HOUR, World

from odc.domain.errors import InvalidRequest
from odc.domain.node import Needs, Node
from odc.domain.records import Change
from odc.domain.reservation import State
from odc.domain.status import TroubleKind

SSD = {"disk": "ssd"}


def nodes() -> tuple[Node, ...]:
    """One of each kind; only the second and third have what requests below need."""
    return (
        a_node("plain", units=8, arch="amd64", zone="a"),
        a_node("fast", units=4, arch="amd64", zone="b", labels=SSD),
        a_node("arm", units=2, gpu_type="l4", arch="arm64", zone="b", labels=SSD),
        a_node("profiler", units=8, arch="amd64", zone="a", profiling=True),
    )


@pytest.mark.parametrize(
    ("needs", "node"),
    [
        (Needs(), "plain"),
        (Needs(labels=SSD), "fast"),
        (Needs(zone="b"), "fast"),
        (Needs(profiling=True), "profiler"),
    ],
    ids=["nothing", "label", "zone", "profiling"],
)
def test_a_reservation_is_placed_on_a_node_that_has_what_it_needs(needs: Needs, node: str) -> None:
    world = World(nodes())
    record = world.reserve(gpus=8 if node == "plain" else 1, needs=needs)
    assert record.state is State.ACTIVE
    assert [place.node for place in record.places] == [node]


@pytest.mark.parametrize(
    ("needs", "gpus", "why"),
    [
        (Needs(labels={"disk": "tape"}), 1, "no h100 node has the label disk=tape"),
        (Needs(arch="arm64"), 1, "no h100 node has arm64 processors; l4 would do"),
        (Needs(zone="c"), 1, "no h100 node is in zone c"),
        (Needs(zone="a", labels=SSD), 1, "no h100 node has the label disk=ssd"),
        (Needs(labels=SSD), 8, "no node that may serve it has 8 h100; the largest has 4"),
        (Needs(labels={str(number): "" for number in range(17)}), 1, "17 labels are too many; at most 16"),
        (Needs(arch="x" * 1000), 1, "is longer than any there is"),
    ],
    ids=["label", "arch", "zone", "both", "size", "labels", "length"],
)
def test_a_request_that_no_node_could_ever_serve_is_refused_with_what_is_missing(
    needs: Needs, gpus: int, why: str
) -> None:
    world = World(nodes())
    with pytest.raises(InvalidRequest) as refused:
        world.ask(gpus=gpus, needs=needs)
    assert why in refused.value.message
    assert world.all() == []


def test_a_type_whose_nodes_are_all_for_profiling_is_refused_to_others_and_another_is_offered() -> None:
    world = World((a_node("profiler", profiling=True), a_node("other", gpu_type="l4")))
    with pytest.raises(InvalidRequest) as refused:
        world.ask(gpus=1)
    assert refused.value.message == "every h100 node is for profiling; l4 would do"
    assert refused.value.hints[0].command == "gpu-dev reserve -t l4 -g 1 -h 1 --disk none"
    with pytest.raises(InvalidRequest) as refused:
        world.ask(gpu_type="l4", gpus=1, needs=Needs(profiling=True))
    assert refused.value.message == "no l4 node is for profiling; h100 would do"


def with_nodes(world: World, *there: Node) -> None:
    """The cluster's nodes are others from now on."""
    for node in world.cluster.list_nodes():
        world.cluster.take_node(node.name)
    for node in there:
        world.cluster.put_node(node)
    world.settle()


def test_a_queued_reservation_that_became_impossible_is_told_once_and_served_when_it_can_be() -> None:
    world = World(nodes())
    world.reserve(gpus=4, needs=Needs(labels=SSD))
    waiting = world.reserve(BEN, gpus=4, needs=Needs(labels=SSD))
    assert waiting.ready_by is not None
    plain, fast, *others = nodes()
    with_nodes(world, plain, replace(fast, labels={}), *others)
    world.pass_time(HOUR / 60)
    now = world.get(waiting)
    assert (now.slot, now.ready_by) == (None, None)
    assert now.fault is not None
    assert now.fault.kind is TroubleKind.NO_NODE
    assert "no h100 node has the label disk=ssd" in now.fault.message
    assert world.story(waiting) == ["asked", "promised", "postponed"]
    with_nodes(world, *nodes())
    now = world.get(waiting)
    assert now.fault is None
    assert now.ready_by is not None


def test_a_reservation_that_never_had_a_slot_is_told_too_when_it_cannot_be_served() -> None:
    world = World(nodes())
    record = world.ask(gpus=4, needs=Needs(labels=SSD))
    with_nodes(world, *[node for node in nodes() if node.name != "fast"])
    fault = world.get(record).fault
    assert fault is not None
    assert fault.kind is TroubleKind.NO_NODE
    assert world.story(record) == ["asked", "waiting"]


def test_a_postponement_names_the_node_that_does_not_serve_it_any_more() -> None:
    two = (a_node("one", labels=SSD), a_node("two", labels=SSD))
    world = World(two)
    for hours in (1.0, 3.0):
        world.reserve(gpus=8, hours=hours, needs=Needs(labels=SSD))
    waiting = world.reserve(BEN, gpus=8, needs=Needs(labels=SSD))
    slot = world.store.observe().plans["h100"].slots[waiting.order]
    changed = [replace(node, labels={}) if node.name in slot.nodes else node for node in two]
    with_nodes(world, *changed)
    (told,) = [event for event in world.events(waiting) if event.kind == "postponed"]
    assert "no h100 node has the label disk=ssd; SSH answers at the latest" in told.text


def disk_in(world: World, zone: str) -> None:
    """The disk `proj` exists and is in this zone."""
    world.cancel(world.reserve(disk="proj", gpus=1))
    world.settle()
    world.store.commit(Change(disks=(replace(world.disk("proj"), zone=zone),)))


def test_a_disk_restricts_its_reservation_to_the_nodes_of_its_zone() -> None:
    world = World(nodes())
    disk_in(world, "a")
    record = world.reserve(gpus=1, disk="proj")
    assert [place.node for place in record.places] == ["plain"]


def test_a_disk_in_another_zone_than_is_asked_for_or_than_there_is_is_refused() -> None:
    world = World(nodes())
    disk_in(world, "a")
    with pytest.raises(InvalidRequest, match="disk proj is in zone a, so no node of zone b can attach it"):
        world.ask(gpus=1, disk="proj", needs=Needs(zone="b"))
    with pytest.raises(InvalidRequest, match="no l4 node is in zone a"):
        world.ask(gpu_type="l4", gpus=1, disk="proj")


def counted(name: str, units: int, **fields: Any) -> Node:
    """A node of which the cluster tells no identities of GPUs."""
    return a_node(name, units=units, **{"gpus": (), **fields})


def test_a_node_that_only_counts_its_gpus_serves_requests_for_gpus_and_never_too_many() -> None:
    world = World((counted("node-1", 8),))
    (choice,) = world.queries.availability()
    assert (choice.outlook.has_gpus, choice.counts.free, list(choice.choices)) == (True, 8, [1, 2, 4, 8])
    first, second = world.reserve(gpus=4), world.reserve(BEN, gpus=4)
    assert {first.state, second.state} == {State.ACTIVE}
    assert first.places[0].gpus == ()
    assert world.reserve(gpus=1).state is State.QUEUED
