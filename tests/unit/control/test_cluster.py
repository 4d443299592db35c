"""The cluster fails or answers in part, nodes are silent, boxes are gone; unknown is not absent.

Rows 18 to 23 and 26 of docs/survives.md.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.builders import a_node
from tests.world import ADA, BEN, HOUR, MINUTE, SECOND, World

from odc.adapters.memory.cluster import NEVER
from odc.domain.box import SSH
from odc.domain.errors import BoxGone, NotFound, ProviderUnavailable
from odc.domain.event_kind import EventKind
from odc.domain.host import HostReport
from odc.domain.problem_text import problem_texts
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
def test_a_partial_answer_is_not_used(method: str) -> None:
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
    assert world.snapshots(world.disk("proj")) == ()
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
    assert world.snapshots(world.disk("proj")) == ()
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


def test_others_reservations_are_not_found_by_name() -> None:
    world = World()
    record = world.reserve(name="train")
    with pytest.raises(NotFound):
        world.send(Cancel(reservation="train"), BEN)
    world.send(Cancel(reservation="train"), ADA)
    world.settle()
    assert world.get(record).state is State.ENDED


def test_files_that_the_cluster_has_lost_are_written_again() -> None:
    world = World()
    world.reserve(hours=8.0)
    (box,) = world.cluster.peek()
    before = dict(world.cluster.read_files(box.name))
    world.cluster.write_files(box.name, {"authorized_keys": b"", "env": b""})
    world.pass_time(MINUTE)
    assert world.cluster.read_files(box.name)["authorized_keys"] == b""
    world.cluster.host = HostReport(files_lost=frozenset((box.uid,)))
    world.pass_time(MINUTE)
    assert world.cluster.read_files(box.name) == before
    written = world.started.count("files")
    world.pass_time(MINUTE)
    assert world.started.count("files") == written


def test_other_ports_of_a_running_box_are_recorded_and_told() -> None:
    world = World()
    record = world.reserve(hours=8.0)
    (box,) = world.cluster.peek()
    world.cluster.change_ports(box.name, {**box.ports, SSH: 31999})
    world.pass_time(MINUTE)
    (place,) = world.get(record).places
    assert place.ports == {**box.ports, SSH: 31999}
    told = [event for event in world.events(record) if event.kind is EventKind.ADDRESS_CHANGED]
    assert [event.text for event in told] == [f"SSH of its box on {box.node} is now at {place.address}, port 31999"]


def test_where_the_cluster_removes_boxes_by_itself_a_box_that_is_gone_is_made_again_with_its_ports() -> None:
    world = World()
    world.with_policy(make_again=True)
    record = world.reserve(disk="proj", hours=8.0)
    world.volumes.write(world.disk("proj").id, "result")
    (before,) = world.cluster.peek()
    world.cluster.vanish(before.name)
    world.pass_time(25 * SECOND)
    assert world.cluster.peek() == ()
    world.pass_time(15 * SECOND)
    (box,) = world.cluster.peek()
    now = world.get(record)
    assert (now.state, now.attempt, now.expires_at) == (State.ACTIVE, 1, record.expires_at)
    assert (now.missing_since, [place.uid for place in now.places]) == (None, [box.uid])
    assert (box.name, box.ports) == (before.name, before.ports)
    assert box.uid != before.uid
    assert any("removed by someone other than ODC, and was made again" in event.text for event in world.events(record))


def test_a_box_that_is_made_again_with_other_ports_says_so() -> None:
    world = World()
    world.with_policy(make_again=True)
    record = world.reserve(hours=8.0)
    (before,) = world.cluster.peek()
    world.cluster.vanish(before.name)
    world.cluster.strangers.add(before.ports[SSH])
    world.pass_time(MINUTE)
    (box,) = world.cluster.peek()
    assert world.get(record).places[0].ports == box.ports
    told = [event.text for event in world.events(record) if event.kind is EventKind.ADDRESS_CHANGED]
    assert [text.rpartition(" ")[2] for text in told] == [str(box.ports[SSH])]


@pytest.mark.parametrize("method", ["start_box", "ssh_answers"])
def test_a_box_that_the_cluster_removes_during_its_start_is_made_again(method: str) -> None:
    world = World()
    world.with_policy(make_again=True)
    world.cluster.faults.add(method, BoxGone("box x is not there"), 1)
    record = world.reserve(hours=8.0)
    world.pass_time(MINUTE)
    now = world.get(record)
    assert (now.state, now.attempt) == (State.ACTIVE, 1)


def test_a_box_that_someone_removes_during_its_start_fails_where_only_operators_remove_boxes() -> None:
    world = World()
    world.cluster.faults.add("start_box", BoxGone("box x is not there"), 1)
    record = world.reserve(hours=8.0)
    world.pass_time(MINUTE)
    assert world.get(record).ended_why is EndReason.FAILED
