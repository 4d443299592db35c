"""On every screen, the numbers of GPUs by use add up to the total."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.boxes import end_box
from tests.builders import NOW, a_box, a_node, a_placed, a_spec, an_id
from tests.world import ADA, BEN, World, spec_of

from odc.api.messages.cloud import NodeView, StatusView, TypeView
from odc.api.views import availability_view, status_view
from odc.control.availability import UnitCounts, availability
from odc.control.context import ClusterStatus, Policy
from odc.control.observation import Observation
from odc.control.outlooks import make_outlooks
from odc.domain.box import BoxName, BoxSeen
from odc.domain.node import Node
from odc.domain.records import Stored
from odc.domain.reservation import Place, Reservation, State

POLICY = Policy()
NODES = ("node-1", "node-2", "node-gone")
GPUS = tuple(f"{node}-gpu-{number}" for node in NODES for number in range(5))


def used(view: NodeView | TypeView) -> int:
    return view.free + view.held + view.quarantined + view.held_by_others + view.unavailable


def seen_by(nodes: tuple[Node, ...], records: tuple[Reservation, ...], boxes: tuple[BoxSeen, ...]) -> StatusView:
    """The status after one observation."""
    seen = Observation(
        now=NOW,
        frozen=False,
        stored=Stored(pools={}, reservations=records, disks={}),
        nodes=nodes,
        boxes=boxes,
        fault="",
        records={record.id: record for record in records},
        outcomes={},
        busy=frozenset(),
    )
    outlooks = make_outlooks(seen, {}, {}, POLICY)
    status = ClusterStatus(at=NOW, nodes=nodes, boxes=boxes, quarantined=seen.quarantined, outlooks=outlooks)
    types = availability(status, POLICY, NOW)
    view = status_view(types, status, NOW, ADA)
    assert availability_view(types, NOW).types == view.types
    return view


@st.composite
def a_group(draw: st.DrawFn, most: int = 4) -> tuple[str, ...]:
    """GPUs of one node."""
    node = draw(st.sampled_from(NODES))
    return tuple(draw(st.lists(st.sampled_from([g for g in GPUS if g.startswith(node)]), max_size=most, unique=True)))


@st.composite
def some_node(draw: st.DrawFn, name: str) -> Node:
    gpus = st.sampled_from([gpu for gpu in GPUS if gpu.startswith(name)])
    return a_node(
        name,
        units=draw(st.integers(1, 4)),
        gpu_type=draw(st.sampled_from(("h100", "a100"))),
        ready=draw(st.booleans()),
        cordoned=draw(st.booleans()),
        held_units=draw(st.integers(0, 2)),
        held_by_others=dict.fromkeys(draw(st.sets(gpus, max_size=3)), "by-hand"),
        unusable=dict.fromkeys(draw(st.sets(gpus, max_size=3)), "lost"),
    )


@st.composite
def some_record(draw: st.DrawFn) -> Reservation:
    places = draw(st.lists(a_group().filter(bool), min_size=1, max_size=2))
    units = max(len(gpus) for gpus in places)
    spec = a_spec(gpu_type=draw(st.sampled_from(("h100", "a100"))), gpus=units, units=units, nodes=len(places))
    of_nodes = [Place(node=gpus[0].rpartition("-gpu-")[0], gpus=gpus, ports={}, uid="") for gpus in places]
    return a_placed(spec=spec, places=tuple(of_nodes))


@st.composite
def some_stray(draw: st.DrawFn) -> BoxSeen:
    gpus = draw(a_group())
    changes: dict[str, Any] = {"gpus": gpus, "units": len(gpus) or draw(st.integers(0, 3))}
    node = draw(st.sampled_from(NODES))
    return a_box(BoxName(an_id(), 1), node=node, gpu_type=draw(st.sampled_from(("h100", "a100"))), **changes)


@given(
    st.tuples(some_node("node-1"), some_node("node-2")),
    st.lists(some_record(), max_size=4).map(tuple),
    st.lists(some_stray(), max_size=3).map(tuple),
)
def test_the_gpus_by_use_add_up_to_the_total_whatever_the_records_say(
    nodes: tuple[Node, ...], records: tuple[Reservation, ...], boxes: tuple[BoxSeen, ...]
) -> None:
    view = seen_by(nodes, records, boxes)
    every: tuple[NodeView | TypeView, ...] = (*view.nodes, *view.types)
    for each in every:
        assert used(each) == each.total
        assert min(each.free, each.held, each.quarantined, each.held_by_others, each.unavailable) >= 0
    for kind in view.types:
        ours = [node for node in view.nodes if node.gpu_type == kind.name]
        counts = [(node.total, node.free, node.held, node.quarantined, node.unavailable) for node in ours]
        assert (kind.total, kind.free, kind.held, kind.quarantined, kind.unavailable) == tuple(
            sum(column) for column in zip((0,) * 5, *counts, strict=True)
        )


@pytest.mark.parametrize("state", [{"ready": False}, {"cordoned": True}], ids=["silent", "cordoned"])
def test_a_node_that_takes_nothing_new_has_nothing_free(state: dict[str, bool]) -> None:
    record = a_placed(spec=a_spec(gpus=2, units=2), places=(Place(node="node-2", gpus=("a", "b"), ports={}, uid=""),))
    view = seen_by((a_node("node-1", units=4), a_node("node-2", units=4, **state)), (record,), ())
    (kind,), node = view.types, view.nodes[1]
    assert (node.free, node.held, node.unavailable) == (0, 2, 2)
    assert (kind.total, kind.free, kind.held, kind.unavailable) == (8, 4, 2, 2)


def test_a_gpu_that_a_reservation_and_a_box_without_a_record_have_counts_once() -> None:
    node = a_node("node-1", units=4)
    record = a_placed(places=(Place(node="node-1", gpus=node.gpus[:1], ports={}, uid=""),))
    box = a_box(BoxName(record.id, record.attempt + 1), gpus=node.gpus[:2], units=2)
    (kind,) = seen_by((node,), (record,), (box,)).types
    assert (kind.free, kind.held, kind.quarantined) == (2, 1, 1)


@pytest.mark.parametrize("lost", [{"unusable": "lost"}, {"held_by_others": "by-hand"}], ids=["unusable", "held"])
def test_a_gpu_of_a_quarantined_box_counts_once_and_is_not_missing_for_requests(lost: dict[str, str]) -> None:
    world = World((a_node("node-1", units=4),))
    record = world.reserve(gpus=1)
    (box,), (gpu,) = world.cluster.peek(), world.get(record).places[0].gpus
    world.cancel(record)
    world.settle()
    world.cluster.put_stranger(replace(spec_of(box), name=BoxName(an_id(), 1)))
    world.pass_once()
    (kind,) = world.queries.availability()
    assert kind.counts == UnitCounts(total=4, free=3, quarantined=1)
    changes: dict[str, Any] = {field: {gpu: why} for field, why in lost.items()}
    world.cluster.put_node(replace(world.cluster.list_nodes()[0], **changes))
    world.pass_once()
    (kind,) = world.queries.availability()
    assert kind.counts == UnitCounts(total=4, free=3, quarantined=1)
    rest = world.ask(gpus=2), world.ask(BEN, gpus=1)
    world.settle()
    assert [world.get(each).state for each in rest] == [State.ACTIVE] * 2


def test_what_others_take_over_from_a_box_without_a_record_is_shown_as_theirs() -> None:
    world = World((a_node("node-1", units=4),))
    record = world.reserve(gpus=1)
    (box,), (gpu,) = world.cluster.peek(), world.get(record).places[0].gpus
    world.cancel(record)
    world.settle()
    stray = BoxName(an_id(), 1)
    uid = world.cluster.put_stranger(replace(spec_of(box), name=stray))
    world.pass_once()
    end_box(world.cluster, stray, uid)
    world.cluster.put_node(replace(world.cluster.list_nodes()[0], held_by_others={gpu: "by-hand"}))
    world.pass_once()
    (kind,) = World.beside(world).queries.availability()
    assert kind.counts == UnitCounts(total=4, free=3, others=1)
