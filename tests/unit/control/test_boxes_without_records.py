"""Boxes that no record knows, or that their record has left behind."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.builders import a_node, an_id
from tests.world import ADA, BEN, HOUR, MINUTE, World, spec_of, tasks_of

from odc.adapters.memory.cluster import NEVER
from odc.api.views import status_view
from odc.domain.box import BoxName, BoxState
from odc.domain.errors import ProviderUnavailable
from odc.domain.problem import ProblemKind
from odc.domain.problem_text import problem_text
from odc.domain.records import Change
from odc.domain.reservation import State

GONE = ProviderUnavailable("the engine does not answer")


def test_a_box_without_any_record_is_left_alone_counted_and_shown() -> None:
    world = World((a_node("node-1", units=2),))
    record = world.reserve(gpus=2)
    box = world.cluster.peek()[0]
    world.cancel(record)
    world.settle()
    stranger = replace(spec_of(box), name=BoxName(an_id(), 1))
    uid = world.cluster.put_stranger(stranger)
    world.pass_once()
    waiting = world.reserve(BEN, gpus=1)
    world.pass_time(HOUR, step=10 * MINUTE)
    assert [seen.uid for seen in world.cluster.peek()] == [uid]
    assert [seen.uid for seen in world.status.current.quarantined] == [uid]
    (told,) = world.status.current.problems
    assert (told.kind, told.box, told.count) == (ProblemKind.BOX_QUARANTINED, str(stranger.name), box.units)
    assert str(stranger.name) not in problem_text(told).partition(";")[0]
    assert problem_text(told).endswith(f"save what is in it, then: delete box-{stranger.name}")
    assert (world.get(waiting).state, world.get(waiting).ready_by) == (State.QUEUED, None)
    (outlook,) = world.queries.availability()
    assert (outlook.counts.free, outlook.choices[1].start) == (0, None)
    (node,) = status_view((outlook,), world.status.current, world.clock.now(), ADA).nodes
    assert (node.free, node.boxes) == (0, 1)


def test_a_box_of_an_attempt_that_the_record_does_not_know_is_left_alone() -> None:
    world = World()
    record = world.reserve(gpus=1)
    newer = replace(spec_of(world.cluster.peek()[0]), name=BoxName(record.id, 7), gpus=("node-1-gpu-7",))
    world.cluster.put_stranger(newer, BoxState.CREATED)
    world.pass_time(MINUTE)
    assert len(world.boxes_of(record)) == 2
    assert [seen.name.attempt for seen in world.status.current.quarantined] == [7]


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "a later attempt"])
def test_a_box_that_its_record_has_left_behind_is_deleted(ended: bool) -> None:
    world = World()
    record = world.reserve(gpus=1)
    box = world.cluster.peek()[0]
    if ended:
        world.cancel(record)
        world.settle()
        left = spec_of(box)
    else:
        world.store.commit(Change(reservations=(replace(world.get(record), attempt=2),)))
        world.cluster.put_stranger(replace(spec_of(box), name=BoxName(record.id, 2), gpus=()))
        left = spec_of(box)
    world.cluster.put_stranger(left)
    world.pass_once()
    assert left.name not in [seen.name for seen in world.cluster.peek()]


def test_a_box_that_appears_late_while_the_disk_is_made_safe_is_deleted() -> None:
    """The engine had not answered when it was made; the reservation's boxes were confirmed gone since."""
    world = World()
    record = world.reserve(gpus=1, disk="proj")
    box = world.cluster.peek()[0]
    world.volumes.faults.add("snapshot", GONE, NEVER)
    world.cancel(record)
    world.settle()
    assert world.get(record).boxes_gone
    world.cluster.put_stranger(spec_of(box), BoxState.CREATED)
    world.pass_once()
    assert world.cluster.peek() == ()
    assert world.get(record).state is State.ENDING


def test_a_box_that_the_list_lacks_is_deleted_by_its_uid_all_the_same() -> None:
    """The list succeeded and lacks it: that alone does not free its GPUs."""
    world = World()
    record = world.reserve(gpus=8)
    box = world.cluster.peek()[0]

    class Blind:
        """A cluster whose lists lack every box."""

        def __getattr__(self, name: str) -> object:
            return (lambda: ()) if name == "list_boxes" else getattr(world.cluster, name)

    world.build(lambda port, adapter: Blind() if port == "cluster" else adapter)
    world.cancel(record)
    world.settle()
    assert world.get(record).state is State.ENDED
    assert box.name not in [seen.name for seen in world.cluster.peek()]


def test_a_task_of_a_dead_daemon_that_wakes_late_leaves_nothing_attached() -> None:
    """Another daemon has cancelled and cleaned up meanwhile."""
    world = World()
    world.cluster.faults.add("create_box", GONE, NEVER)
    record = world.reserve(disk="proj")
    late = world.get(record)
    assert late.state is State.PREPARING
    world.cluster.heal()
    world.cancel(record)
    world.settle()
    assert world.get(record).state is State.ENDED
    with pytest.raises(Exception, match="has moved on"):
        tasks_of(world).prepare(late, world.cluster.list_nodes(), epoch=0)()
    assert world.volumes.list_attached() == {}
    assert world.cluster.peek() == ()
    assert world.reserve(disk="proj").state is State.ACTIVE
