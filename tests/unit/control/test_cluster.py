"""The cluster fails, answers in part, loses boxes; unknown is not absent.

Rows 18 to 23 and 26 of docs/survives.md.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.builders import a_node, an_id
from tests.world import ADA, BEN, HOUR, MINUTE, SECOND, World, spec_of, tasks_of

from odc.adapters.memory.cluster import NEVER
from odc.api.views import status_view
from odc.domain.box import BoxName, BoxState
from odc.domain.errors import NotFound, PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.problem import ProblemKind
from odc.domain.problem_text import problem_text, problem_texts
from odc.domain.records import Change
from odc.domain.requests import Cancel
from odc.domain.reservation import EndReason, State
from odc.domain.status import EndCause

GONE = ProviderUnavailable("the engine does not answer")


def test_an_hour_without_the_cluster_ends_nothing_and_removes_nothing() -> None:
    world = World()
    running = world.reserve(hours=8.0, gpus=4)
    world.cluster.delay_ssh(2)
    starting = world.ask(BEN, hours=8.0, gpus=4)
    waiting = world.ask(BEN, hours=8.0, gpus=8, name="waits")
    world.pass_once()
    assert world.get(starting).state is State.PREPARING
    boxes = [box.uid for box in world.cluster.peek()]
    before = world.get(waiting)
    world.cluster.go_down()
    world.pass_time(HOUR, step=10 * SECOND)
    assert any("does not answer" in problem for problem in problem_texts(world.status.current.problems))
    assert [box.uid for box in world.cluster.peek()] == boxes
    assert [world.get(r).state for r in (running, starting, waiting)] == [
        State.ACTIVE,
        State.PREPARING,
        State.QUEUED,
    ]
    assert world.get(waiting).ready_by == before.ready_by
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(starting).state is State.ACTIVE
    assert world.get(starting).attempt == 1
    assert [box.uid for box in world.cluster.peek()] == boxes


@pytest.mark.parametrize("method", ["list_nodes", "list_boxes"])
def test_an_answer_in_part_is_no_answer(method: str) -> None:
    world = World()
    record = world.reserve(hours=8.0)
    waiting = world.reserve(BEN, gpus=8)
    world.cluster.vanish(world.cluster.peek()[0].name)
    world.pass_once()
    noted = world.get(record).missing_since
    assert noted is not None
    world.cluster.faults.add(method, GONE, NEVER)
    fresh = world.reserve(BEN, gpus=4)
    world.pass_time(10 * MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert world.get(record).missing_since == noted
    assert world.get(waiting).ready_by == waiting.ready_by
    assert (world.get(fresh).state, world.get(fresh).ready_by) == (State.QUEUED, None)


def test_a_list_without_the_boxes_of_a_silent_node_says_nothing_about_them() -> None:
    world = World()
    record = world.reserve(hours=8.0)

    class Partial:
        """A cluster whose lists lack the boxes of silent nodes."""

        def __getattr__(self, name: str) -> object:
            return (lambda: ()) if name == "list_boxes" else getattr(world.cluster, name)

    world.build(lambda port, adapter: Partial() if port == "cluster" else adapter)
    world.cluster.silence("node-1")
    world.pass_time(10 * MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert world.get(record).missing_since is None


def test_a_reservation_whose_time_is_over_while_the_cluster_is_away_ends_when_it_is_back() -> None:
    world = World()
    record = world.reserve(disk="proj")
    world.volumes.write(world.disk("proj").id, "result")
    world.cluster.go_down()
    world.pass_time(2 * HOUR, step=10 * MINUTE)
    assert world.get(record).state is State.ENDING
    assert len(world.cluster.peek()) == 1
    assert world.disk("proj").snapshots == ()
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(record).ended_why is EndReason.EXPIRED
    assert world.disk("proj").last_snapshot is not None


def test_a_box_that_is_gone_is_seen_twice_thirty_seconds_apart_before_it_counts() -> None:
    world = World()
    record = world.reserve(disk="proj", hours=8.0)
    world.volumes.write(world.disk("proj").id, "result")
    world.cluster.vanish(world.cluster.peek()[0].name)
    world.pass_time(25 * SECOND)
    assert world.get(record).state is State.ACTIVE
    world.pass_time(10 * SECOND)
    now = world.get(record)
    assert now.ended_why is EndReason.FAILED
    assert now.end_cause is EndCause.BOX_REMOVED
    assert "removed by someone other than ODC" in now.end_detail
    disk = world.disk("proj")
    assert disk.last_snapshot is not None
    assert list(world.volumes.files(disk.id)) == ["result"]


def test_a_box_that_was_missing_in_one_list_only_is_nothing() -> None:
    world = World()
    record = world.reserve(hours=8.0)
    box = world.cluster.peek()[0]
    world.store.commit(Change(reservations=(replace(world.get(record), missing_since=world.clock.now()),)))
    world.pass_time(10 * MINUTE, step=MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert world.get(record).missing_since is None
    assert world.cluster.peek()[0].uid == box.uid


def test_a_silent_node_keeps_its_claims_and_nothing_of_it_is_released_or_snapshotted() -> None:
    world = World()
    record = world.reserve(gpus=8, disk="proj", hours=1.0)
    waiting = world.reserve(BEN, gpus=8)
    world.cluster.silence("node-1")
    world.pass_time(3 * HOUR, step=10 * MINUTE)
    now = world.get(record)
    assert now.state is State.ENDING
    assert not now.boxes_gone
    assert world.disk("proj").snapshots == ()
    assert world.get(waiting).state is State.QUEUED
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(record).state is State.ENDED
    assert world.get(waiting).state is State.ACTIVE


def test_a_silent_node_that_comes_back_has_its_boxes_still() -> None:
    world = World()
    record = world.reserve(hours=8.0)
    uid = world.cluster.peek()[0].uid
    world.cluster.silence("node-1")
    world.pass_time(HOUR, step=MINUTE)
    world.cluster.heal()
    world.pass_time(MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert [box.uid for box in world.cluster.peek()] == [uid]


def test_gpus_of_a_node_that_has_another_name_now_are_given_once_and_the_operator_is_told() -> None:
    world = World()
    record = world.reserve(gpus=4, hours=8.0)
    world.cluster.take_node("node-1")
    world.cluster.put_node(a_node("renamed", gpus=a_node("node-1").gpus))
    other, third = world.reserve(BEN, gpus=4), world.reserve(BEN, gpus=1)
    world.pass_time(MINUTE)
    held = [gpu for one in (record, other) for place in world.get(one).places for gpu in place.gpus]
    assert sorted(held) == sorted(a_node("node-1").gpus)
    assert (world.get(record).state, world.get(third).state) == (State.ACTIVE, State.QUEUED)
    end = f"; end it: gpu-dev cancel {record.id[:8]}"
    named = f"node node-1 of reservation {record.name} ({record.id[:8]}) of ada is not in this cloud any more"
    assert f"{named}; its box is left alone{end}" in problem_texts(world.status.current.problems)


def test_a_node_that_takes_nothing_new_keeps_the_boxes_that_it_has() -> None:
    world = World()
    record = world.reserve(hours=1.0)
    world.cluster.put_node(a_node("node-1", cordoned=True))
    waiting = world.reserve(BEN)
    assert world.get(record).state is State.ACTIVE
    assert world.get(waiting).state is State.QUEUED
    world.pass_time(HOUR + MINUTE, step=10 * MINUTE)
    assert world.get(record).ended_why is EndReason.EXPIRED


def test_an_image_that_does_not_exist_fails_at_once_with_that_reason() -> None:
    world = World(images=("something else",), image="localhost/odc/box:1")
    record = world.reserve(disk="proj")
    assert record.ended_why is EndReason.FAILED
    assert record.end_cause is EndCause.REFUSED
    assert "localhost/odc/box:1: image not known" in record.end_detail
    assert world.disk("proj").holder is None
    assert world.cluster.leftovers() == frozenset()


def test_an_image_without_an_ssh_server_fails_with_its_last_words() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    assert record.state is State.PREPARING
    world.cluster.exit_box(world.cluster.peek()[0].name, 127, "sshd: not found")
    world.cluster.faults.add("start_box", ProviderRefused("the box ended with 127: sshd: not found"))
    world.pass_time(10 * SECOND)
    now = world.get(record)
    assert now.ended_why is EndReason.FAILED
    assert "127: sshd: not found" in now.end_detail


def test_a_box_is_never_active_before_ssh_answers_and_fails_with_the_phase_in_the_end() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    record = world.reserve()
    attempts = set()
    for _ in range(200):
        now = world.get(record)
        assert now.state is not State.ACTIVE
        attempts.add(now.attempt)
        if not now.live:
            break
        world.pass_time(10 * SECOND, step=10 * SECOND)
    now = world.get(record)
    assert attempts == {1, 2, 3}
    assert (now.ended_why, now.end_cause) == (EndReason.FAILED, EndCause.NOT_READY)
    assert "ssh took longer than 120 s: the box runs, but no SSH server answers in it (attempt 3, the last)" in (
        now.end_detail
    )
    assert world.cluster.peek() == ()


def test_a_failed_start_goes_back_to_its_old_place_in_line() -> None:
    world = World()
    world.cluster.delay_ssh(NEVER)
    first = world.reserve(gpus=8)
    second = world.reserve(BEN, gpus=8)
    world.pass_until(lambda: world.get(first).attempt == 2, 10 * MINUTE)
    world.cluster.heal()
    world.pass_time(2 * MINUTE)
    assert world.get(first).state is State.ACTIVE
    assert world.get(first).order < world.get(second).order
    assert world.get(second).state is State.QUEUED
    assert world.get(first).end_detail == ""


def test_a_port_that_a_stranger_has_is_left_for_another_at_once() -> None:
    world = World()
    world.cluster.faults.add("start_box", PlaceTaken("port 30017: address already in use"))
    record = world.reserve()
    assert record.state is State.ACTIVE
    assert record.attempt == 2
    assert len(world.cluster.peek()) == 1


def test_a_passing_fault_is_tried_again_with_growing_delay_and_told_once() -> None:
    world = World()
    world.cluster.faults.add("create_box", GONE, 4)
    record = world.reserve()
    tries = [world.counting.started.count("prepare")]
    for _ in range(20):
        world.clock.advance(SECOND)
        world.settle()
        tries.append(world.counting.started.count("prepare"))
    assert world.get(record).state is State.ACTIVE
    assert tries[0] == 1
    assert tries.index(2) == 1
    assert tries.index(3) == 3
    assert tries.index(4) == 8
    assert tries.index(5) == 18
    assert world.story(record).count("fault") == 1


def test_a_stopped_box_is_started_again_with_its_disk_and_files() -> None:
    world = World()
    record = world.reserve(disk="proj", hours=8.0)
    box = world.cluster.peek()[0]
    world.cluster.exit_box(box.name, 137)
    world.volumes.reboot()
    world.settle()
    assert world.cluster.peek()[0].uid == box.uid
    assert world.cluster.peek()[0].state == "running"
    assert world.volumes.list_attached() != {}
    assert world.story(record)[-1] == "restarted"
    assert world.get(record).expires_at == record.expires_at


def test_a_stopped_box_whose_disk_is_gone_ends_with_the_reason() -> None:
    world = World()
    record = world.reserve(disk="proj", hours=8.0)
    disk = world.disk("proj")
    world.cluster.exit_box(world.cluster.peek()[0].name, 137)
    world.volumes.reboot()
    world.volumes.lose(disk.id)
    world.settle()
    now = world.get(record)
    assert now.ended_why is EndReason.FAILED
    assert "disk" in now.end_detail
    assert world.disk("proj").fault != ""
    assert world.cluster.peek() == ()


def test_a_box_without_any_record_is_left_alone_counted_and_shown() -> None:
    world = World((a_node("node-1", units=2),))
    record = world.reserve(gpus=2)
    box = world.cluster.peek()[0]
    world.cancel(record)
    world.settle()
    stranger = replace(spec_of(box), name=BoxName(an_id(), 1))
    uid = world.cluster.put_stranger(stranger)
    waiting = world.reserve(BEN, gpus=1)
    world.pass_time(HOUR, step=10 * MINUTE)
    assert [seen.uid for seen in world.cluster.peek()] == [uid]
    assert [seen.uid for seen in world.status.current.quarantined] == [uid]
    (told,) = world.status.current.problems
    assert (told.kind, told.box, told.count) == (ProblemKind.BOX_QUARANTINED, str(stranger.name), box.units)
    assert str(stranger.name) not in problem_text(told).partition(";")[0]
    assert problem_text(told).endswith(f"sudo podman rm -f odc-{world.policy.cloud}-{stranger.name}")
    assert (world.get(waiting).state, world.get(waiting).ready_by) == (State.QUEUED, None)
    (outlook,) = world.queries.availability()
    assert (outlook.free, outlook.choices[1].start) == (0, None)
    (node,) = status_view((outlook,), world.status.current, world.clock.now(), ADA).nodes
    assert (node.free, node.boxes) == (0, 1)


def test_a_box_of_an_attempt_that_the_record_does_not_know_is_left_alone() -> None:
    world = World()
    record = world.reserve(gpus=1)
    newer = replace(spec_of(world.cluster.peek()[0]), name=BoxName(record.id, 7), ssh_port=1, gpus=("node-1-gpu-7",))
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
        world.cluster.put_stranger(replace(spec_of(box), name=BoxName(record.id, 2), ssh_port=1, gpus=()))
        left = replace(spec_of(box), ssh_port=2)
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


def test_every_option_of_a_request_that_waited_for_hours_still_applies() -> None:
    world = World()
    world.reserve(gpus=8, hours=5.0)
    waiting = world.reserve(BEN, gpus=2, hours=2.5, name="late", disk="proj")
    world.pass_until(lambda: world.get(waiting).state is State.ACTIVE, 6 * HOUR)
    now = world.get(waiting)
    assert now.spec == waiting.spec
    assert (now.name, len(now.places[0].gpus)) == ("late", 2)
    assert now.expires_at is not None
    assert now.active_at is not None
    assert now.expires_at - now.active_at == timedelta(hours=2.5)
    assert world.disk("proj", BEN).holder == now.id


def test_others_reservations_are_not_found_by_name() -> None:
    world = World()
    record = world.reserve(name="train")
    with pytest.raises(NotFound):
        world.send(Cancel(reservation="train"), BEN)
    world.send(Cancel(reservation="train"), ADA)
    world.settle()
    assert world.get(record).state is State.ENDED


def test_gpus_that_others_hold_are_not_lent_and_every_count_adds_up() -> None:
    world = World()
    node = world.cluster.list_nodes()[0]
    taken = dict.fromkeys(node.gpus[:2], "by-hand")
    world.cluster.put_node(replace(node, held_by_others=taken))
    six = world.reserve(gpus=node.units // 2)
    waiting = world.ask(BEN, gpus=node.units // 2, name="waits")
    world.pass_time(MINUTE)
    assert world.get(six).state is State.ACTIVE
    assert world.get(waiting).state is State.QUEUED
    assert not {gpu for place in world.get(six).places for gpu in place.gpus} & taken.keys()
    (view,) = status_view(world.queries.availability(), world.status.current, world.clock.now(), ADA).nodes
    assert view.free + world.get(six).spec.gpus + view.held_by_others == view.total
    assert any(
        "container by-hand" in problem and "2 GPUs" in problem
        for problem in problem_texts(world.status.current.problems)
    )
    world.cluster.put_node(replace(node, held_by_others={}))
    world.pass_time(MINUTE)
    assert world.get(waiting).state is State.ACTIVE


def test_a_gpu_that_a_stranger_takes_too_is_counted_once() -> None:
    world = World()
    record = world.reserve()
    node = world.cluster.list_nodes()[0]
    gpu = world.get(record).places[0].gpus[0]
    world.cluster.put_node(replace(node, held_by_others={gpu: "by-hand"}))
    world.pass_once()
    (view,) = status_view(world.queries.availability(), world.status.current, world.clock.now(), ADA).nodes
    assert (view.free, view.held_by_others) == (view.total - 1, 0)


def test_a_promise_that_strangers_break_names_them() -> None:
    world = World()
    node = world.cluster.list_nodes()[0]
    world.reserve(hours=1.0, gpus=node.units)
    waiting = world.ask(BEN, hours=1.0, gpus=node.units, name="waits")
    world.pass_once()
    assert world.get(waiting).ready_by is not None
    world.cluster.put_node(replace(node, held_by_others={node.gpus[0]: "by-hand"}))
    world.pass_time(2 * HOUR, step=MINUTE)
    told = [event.text for event in world.events(waiting) if event.kind == "postponed"]
    assert any("by-hand" in reason for reason in told), told
