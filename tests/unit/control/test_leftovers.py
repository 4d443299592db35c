"""What attempts left whose process died: networks and files without a box."""

from __future__ import annotations

from tests.boxes import end_box
from tests.world import MINUTE, Fuse, World, spec_of

from odc.domain.box import BoxName


def test_what_a_killed_daemon_left_of_a_box_that_is_gone_is_removed_within_ten_minutes() -> None:
    world = World()
    kept = world.reserve(gpus=1)
    left = leave_remains(world)
    # Another process than the one that cleaned up last.
    world.build()
    world.pass_time(11 * MINUTE, step=MINUTE)
    assert left not in world.cluster.leftovers()
    assert {name.reservation_id for name in world.cluster.leftovers()} == {kept.id}


def test_a_daemon_that_runs_for_long_removes_what_another_process_left() -> None:
    world = World()
    for _ in range(2):
        left = leave_remains(world)
        world.pass_time(11 * MINUTE, step=MINUTE)
        assert left not in world.cluster.leftovers()


def test_of_many_processes_one_removes_leftovers_in_each_interval() -> None:
    world = World()
    world.pass_time(11 * MINUTE, step=MINUTE)
    lists: list[str] = []
    for _ in range(5):
        world.build(Fuse(1, True, lambda: lists.append("one"), ("cluster",), "list_remains"))
        world.pass_once()
    assert lists == []


def leave_remains(world: World) -> BoxName:
    """A network and files of an ended reservation, without a box."""
    ended = world.reserve(gpus=1)
    left = next(spec_of(box) for box in world.cluster.peek() if box.name.reservation_id == ended.id)
    world.cancel(ended)
    world.settle()
    end_box(world.cluster, left.name, world.cluster.create_box(left).uid)
    assert left.name in world.cluster.leftovers()
    return left.name
