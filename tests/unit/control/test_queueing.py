"""What a placement takes, and when there is none."""

from __future__ import annotations

from dataclasses import replace as changed
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders import NOW, a_box, a_disk, a_node, a_placed, a_reservation, a_spec

from odc.control.context import Policy
from odc.control.delays import cause_of_delay
from odc.control.observation import Observation
from odc.control.pool_plans import PlannedPool
from odc.control.queueing import FreeResources, advance_queue
from odc.domain.box import BoxName, BoxSeen
from odc.domain.host_ids import IdRanges
from odc.domain.pool_document import PoolDocument
from odc.domain.records import Stored
from odc.domain.reservation import Place, Reservation, SlotRecord, State
from odc.domain.resources import share_of
from odc.scheduling import PoolPlan

POLICY = Policy()


def seen_with(*records: Reservation, **fields: object) -> Observation:
    """An observation of one node with two GPUs."""
    stored = Stored(pools={}, reservations=records, disks=fields.pop("disks", {}))  # type: ignore[arg-type]
    plain = Observation(
        now=NOW,
        frozen=False,
        stored=stored,
        nodes=(a_node("node-1", units=2),),
        boxes=(),
        fault="",
        records={},
        outcomes={},
        busy=frozenset(),
    )
    return changed(plain, **fields)  # type: ignore[arg-type]


def free_in(seen: Observation, policy: Policy = POLICY) -> FreeResources:
    return FreeResources(seen, policy)


def planned(record: Reservation, start: timedelta = timedelta(0)) -> PlannedPool:
    slots = {record.order: SlotRecord(start=NOW + start, nodes=("node-1",))}
    return PlannedPool(slots, PoolDocument(slots=slots), False, "", partial(PoolPlan, (), NOW), (record,), NOW + start)


def test_gpus_are_taken_by_identity_and_never_twice() -> None:
    free = free_in(seen_with())
    one = free.take(a_reservation(), ("node-1",))
    two = free.take(a_reservation(), ("node-1",))
    assert one is not None
    assert two is not None
    assert {one[0].gpus, two[0].gpus} == {("node-1-gpu-0",), ("node-1-gpu-1",)}
    assert free.take(a_reservation(), ("node-1",)) is None


@pytest.mark.parametrize("by", ["record", "box"])
def test_what_a_record_or_any_box_holds_is_not_free(by: str) -> None:
    place = Place(node="node-1", gpus=("node-1-gpu-0",))
    if by == "record":
        seen = seen_with(a_placed(places=(place,)))
    else:
        name = BoxName(a_reservation().id, 1)
        seen = seen_with(boxes=(a_box(name, gpus=place.gpus),))
    taken = free_in(seen).take(a_reservation(), ("node-1",))
    assert taken is not None
    assert taken[0].gpus == ("node-1-gpu-1",)


def test_gpus_of_a_reservation_whose_boxes_are_gone_are_free() -> None:
    place = Place(node="node-1", gpus=("node-1-gpu-0", "node-1-gpu-1"))
    gone = a_placed(state=State.ENDING, boxes_gone=True, places=(place,))
    two = a_reservation(spec=a_spec(gpus=2, units=2))
    assert free_in(seen_with(gone)).take(two, ("node-1",)) is not None
    assert free_in(seen_with(replace(gone, boxes_gone=False))).take(two, ("node-1",)) is None


@pytest.mark.parametrize(
    "node", [{"cordoned": True}, {"ready": False}, {"gpu_type": "h100", "name": "node-2"}], ids=str
)
def test_a_node_that_takes_nothing_new_or_is_not_there_gives_nothing(node: dict[str, object]) -> None:
    seen = seen_with(nodes=(a_node(**{"name": "node-1", **node}),))  # type: ignore[arg-type]
    assert free_in(seen).take(a_reservation(), ("node-1",)) is None


def test_a_node_that_is_full_gives_nothing_and_says_why() -> None:
    free = free_in(seen_with(nodes=(a_node("node-1", units=2, full="all ports are in use"), a_node("node-2", units=2))))
    assert free.take(a_reservation(), ("node-1",)) is None
    assert free.shortage(("node-2", "node-1")) == "all ports are in use"
    assert free.shortage(("node-2",)) == ""
    assert free.take(a_reservation(), ("node-2",)) is not None


def test_a_place_keeps_the_resources_that_it_had_when_it_was_taken() -> None:
    node = a_node("node-1", units=2)
    taken = free_in(seen_with(nodes=(node,))).take(a_reservation(), ("node-1",))
    assert taken is not None
    assert taken[0].resources == share_of(node.allocatable, 1, 2)


OWN = changed(POLICY, ids=IdRanges(base=10**9, count=2, separate=True))


def test_each_box_gets_a_range_of_ids_of_its_own_until_none_is_left() -> None:
    free = free_in(seen_with(nodes=(a_node("node-1", units=3),)), OWN)
    places = [free.take(a_reservation(), ("node-1",)) for _ in range(3)]
    assert [place[0].id_base for place in places if place] == [10**9 + 65536, 10**9 + 2 * 65536]
    assert free.shortage(("node-1",)) == "all ranges of host ids are in use"


@pytest.mark.parametrize("by", ["record", "box"])
def test_a_range_of_ids_that_a_box_has_is_not_given_again(by: str) -> None:
    place = Place(node="node-1", gpus=("node-1-gpu-0",), id_base=10**9 + 65536)
    if by == "record":
        seen = seen_with(a_placed(places=(place,)))
    else:
        box = a_box(BoxName(a_reservation().id, 1), gpus=place.gpus, id_base=place.id_base)
        seen = seen_with(boxes=(box,))
    taken = free_in(seen, OWN).take(a_reservation(), ("node-1",))
    assert taken is not None
    assert taken[0].id_base == 10**9 + 2 * 65536


def test_a_box_that_has_no_range_of_its_own_takes_none_from_others() -> None:
    place = Place(node="node-1", gpus=("node-1-gpu-0",))
    taken = free_in(seen_with(a_placed(places=(place,))), OWN).take(a_reservation(), ("node-1",))
    assert taken is not None
    assert taken[0].id_base == 10**9 + 65536


def test_the_boxes_of_a_gang_have_one_range_since_they_share_a_home() -> None:
    free = free_in(seen_with(nodes=(a_node("node-1", units=2), a_node("node-2", units=2))), OWN)
    places = free.take(a_reservation(spec=a_spec(gpus=2, units=2, nodes=2)), ("node-1", "node-2"))
    assert places is not None
    assert {place.id_base for place in places} == {OWN.ids.all()[0]}


def test_a_gang_takes_all_or_nothing() -> None:
    seen = seen_with(nodes=(a_node("node-1", units=2), a_node("node-2", units=2, cordoned=True)))
    free = free_in(seen)
    whole = a_reservation(spec=a_spec(gpus=2, units=2, nodes=2))
    assert free.take(whole, ("node-1", "node-2")) is None
    assert free.take(a_reservation(spec=a_spec(gpus=2, units=2)), ("node-1",)) is not None


def test_a_slot_that_has_come_is_placed_only_with_its_own_disk() -> None:
    disk = a_disk(holder="another")
    record = a_reservation(disk_id=disk.id, spec=a_spec(disk=disk.name))
    seen = seen_with(record, disks={disk.id: disk})
    (move,) = advance_queue("h100", planned(record), partial(free_in, seen), seen, POLICY)
    assert move.record is not None
    assert (move.record.state, move.tasks) == (State.QUEUED, [])
    seen = seen_with(record, disks={disk.id: replace(disk, holder=record.id)})
    (move,) = advance_queue("h100", planned(record), partial(free_in, seen), seen, POLICY)
    assert move.record is not None
    assert move.record.state is State.PREPARING


def test_a_slot_in_the_future_is_promised_and_an_improvement_is_told_when_it_is_worth_it() -> None:
    record = a_reservation()
    seen = seen_with(record)
    (move,) = advance_queue("h100", planned(record, timedelta(hours=1)), partial(free_in, seen), seen, POLICY)
    promised = move.record
    assert promised is not None
    assert promised.ready_by == NOW + timedelta(hours=1) + POLICY.limits.prepare
    assert [event.kind for event in move.events] == ["promised"]
    seen = seen_with(promised)
    for earlier in (0, 119):
        plan = planned(promised, timedelta(hours=1, seconds=-earlier))
        assert advance_queue("h100", plan, partial(free_in, seen), seen, POLICY) == []
    plan = planned(promised, timedelta(hours=1, seconds=-120))
    (better,) = advance_queue("h100", plan, partial(free_in, seen), seen, POLICY)
    assert better.record is not None
    assert better.record.ready_by == promised.ready_by - timedelta(seconds=120)
    assert [event.kind for event in better.events] == ["improved"]


def test_a_gpu_that_something_else_holds_is_not_taken() -> None:
    node = a_node("node-1", units=2)
    free = free_in(seen_with(nodes=(replace(node, held_by_others={node.gpus[0]: "by-hand"}),)))
    assert free.take(a_reservation(spec=a_spec(gpus=2)), ("node-1",)) is None
    places = free.take(a_reservation(), ("node-1",))
    assert places is not None
    assert places[0].gpus == (node.gpus[1],)


def on_cpus(*boxes: BoxSeen, records: tuple[Reservation, ...] = ()) -> Observation:
    """A node without GPUs, of two units."""
    return seen_with(*records, nodes=(a_node("node-1", units=2, gpus=(), gpu_type="cpu-x86"),), boxes=boxes)


A_UNIT = a_spec(gpu_type="cpu-x86", gpus=0, units=1)


def test_units_of_a_node_without_gpus_are_counted_too() -> None:
    free = free_in(on_cpus())
    assert [free.take(a_reservation(spec=A_UNIT), ("node-1",)) is not None for _ in range(3)] == [True, True, False]


def test_a_leftover_box_holds_its_unit_and_a_box_of_a_record_is_not_counted_twice() -> None:
    held = a_placed(spec=A_UNIT, places=(Place(node="node-1"),))
    box = a_box(BoxName(held.id, 1), gpu_type="cpu-x86", units=1)
    free = free_in(on_cpus(box, records=(held,)))
    assert free.take(a_reservation(spec=A_UNIT), ("node-1",)) is not None
    leftover = a_box(BoxName(held.id, 0), gpu_type="cpu-x86", units=1)
    assert free_in(on_cpus(box, leftover, records=(held,))).take(a_reservation(spec=A_UNIT), ("node-1",)) is None


def test_gpus_are_taken_from_one_island_so_that_the_other_stays_whole() -> None:
    node = a_node("node-1", units=8)
    node = replace(node, islands=(node.gpus[:4], node.gpus[4:]))
    free = free_in(seen_with(nodes=(node,)))
    taken = [free.take(a_reservation(spec=a_spec(gpus=count, units=count)), ("node-1",)) for count in (1, 4, 2)]
    assert [places and places[0].gpus for places in taken] == [node.gpus[:1], node.gpus[4:], node.gpus[1:3]]


def test_a_postponement_blames_a_reservation_only_if_it_takes_longer_than_its_limit() -> None:
    limits = POLICY.limits
    slot = SlotRecord(start=NOW + timedelta(hours=1), nodes=("node-1",))
    record = a_reservation(ready_by=slot.start + limits.prepare)

    def cause(*others: Reservation, **fields: Any) -> str:
        return cause_of_delay(record, slot, seen_with(record, *others, **fields), limits)

    ends = NOW - limits.stop
    late = a_placed(state=State.ACTIVE, active_at=NOW, expires_at=ends, places=(Place(node="node-1"),))
    assert cause(late) == "a reservation before it takes longer than its limit"
    elsewhere = replace(late, places=(Place(node="node-9"),))
    in_time = replace(late, expires_at=ends + timedelta(seconds=1))
    for others in ((), (elsewhere,), (in_time,)):
        assert cause(*others).startswith("its GPUs are not free at the planned time")
    assert cause(boxes=(a_box(BoxName(a_reservation().id, 1)),)) == "a box without a reservation is on node-1"
