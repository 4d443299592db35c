"""What a check of the host finds: told on the reservation, to operators, and waited for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders import a_node
from tests.world import BEN, HOUR, MINUTE, OPERATOR, SECOND, Fuse, World

from odc.adapters.system.thread_runner import ThreadRunner
from odc.api.views import reservation_view
from odc.control.host_monitor import MAX_BOXES_PER_CHECK
from odc.domain.box import BoxSeen
from odc.domain.errors import PlaceTaken
from odc.domain.host import HostReport
from odc.domain.limits import Limits
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_texts
from odc.domain.reservation import Reservation, State
from odc.domain.status import TroubleKind

pytestmark = pytest.mark.usefixtures("world_kind")

CAUSE = "the host's packet filter has lost rules that lead to it"


class Counted:
    """A cluster that notes how many boxes each check is asked to probe."""

    def __init__(self, cluster: Any, sizes: list[int]) -> None:
        self._cluster, self._sizes = cluster, sizes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def check_host(self, boxes: Sequence[BoxSeen]) -> HostReport:
        self._sizes.append(len(boxes))
        report: HostReport = self._cluster.check_host(boxes)
        return report


def box_of(world: World, record: Reservation) -> BoxSeen:
    return next(box for box in world.cluster.peek() if box.name.reservation_id == record.id)


def test_a_box_that_users_cannot_reach_is_told_with_the_cause_and_goes_on() -> None:
    world = World()
    record = world.reserve(hours=3.0)
    world.cluster.cut_off[box_of(world, record).name] = CAUSE
    world.pass_time(10 * SECOND)
    now = world.get(record)
    assert (now.state, now.unreachable) == (State.ACTIVE, CAUSE)
    assert any(f"cannot be reached: {CAUSE}" in problem for problem in problem_texts(world.status.current.problems))
    world.cluster.cut_off.clear()
    world.pass_time(10 * SECOND)
    assert world.get(record).unreachable == ""
    assert [kind for kind in world.story(record) if "reachable" in kind] == ["unreachable", "reachable"]
    assert not any("cannot be reached" in problem for problem in problem_texts(world.status.current.problems))


def test_a_box_that_stays_unreachable_is_told_once() -> None:
    world = World()
    record = world.reserve(hours=3.0)
    world.cluster.cut_off[box_of(world, record).name] = CAUSE
    world.pass_time(20 * SECOND)
    version = world.get(record).version
    world.pass_time(5 * MINUTE)
    assert world.get(record).version == version
    assert world.story(record).count("unreachable") == 1


def test_an_unreachable_box_ends_in_order_and_a_new_attempt_begins_reachable() -> None:
    world = World()
    record = world.reserve(hours=3.0)
    world.cluster.cut_off[box_of(world, record).name] = CAUSE
    world.pass_time(10 * SECOND)
    world.cancel(record)
    world.settle()
    assert (world.get(record).state, world.get(record).unreachable) == (State.ENDED, "")


def test_a_check_probes_a_bounded_number_of_boxes_and_all_in_turn() -> None:
    count = MAX_BOXES_PER_CHECK + 8
    world = World(nodes=[a_node("node-1", units=count)], limits=Limits(live_per_user=count))
    records = [world.ask(hours=3.0) for _ in range(count)]
    world.settle()
    boxes = [box_of(world, record) for record in records]
    for box in boxes[::5]:
        world.cluster.cut_off[box.name] = CAUSE
    sizes: list[int] = []
    world.build(wrap=lambda port, adapter: Counted(adapter, sizes) if port == "cluster" else adapter)
    # Each process of a cold world begins a turn, at any box.
    most = HOUR if world.cold else 20 * SECOND
    cut_off = {box.name.reservation_id for box in boxes[::5]}
    world.pass_until(lambda: {record.id for record in records if world.get(record).unreachable} == cut_off, most)
    assert 0 < max(sizes) <= MAX_BOXES_PER_CHECK


def test_while_boxes_cannot_be_kept_apart_none_starts_and_the_reason_is_told() -> None:
    world = World()
    running = world.reserve(hours=3.0)
    why = "boxes cannot be kept apart: iptables is not installed"
    world.cluster.host = HostReport(blocked=why, problems=(Problem(kind=ProblemKind.ISOLATION_FAILED, detail=why),))
    world.pass_time(10 * SECOND)
    waiting = world.reserve(BEN)
    assert (waiting.state, waiting.attempt) == (State.QUEUED, 0)
    assert waiting.fault is not None
    assert (waiting.fault.kind, waiting.fault.message) == (TroubleKind.HOST, why)
    assert why in problem_texts(world.status.current.problems)
    world.pass_time(timedelta(hours=1), step=MINUTE)
    assert world.story(waiting).count("waiting") == 1
    world.cluster.host = HostReport()
    world.pass_time(10 * SECOND)
    assert (world.get(waiting).state, world.get(waiting).attempt) == (State.ACTIVE, 1)
    assert world.get(running).state is State.ACTIVE


def test_reservations_wait_for_the_image_and_those_with_another_one_do_not() -> None:
    world = World()
    world.cluster.host = HostReport(missing_image=world.policy.image)
    world.pass_time(10 * SECOND)
    waiting = world.reserve()
    assert waiting.state is State.QUEUED
    assert waiting.fault is not None
    assert waiting.fault.kind is TroubleKind.IMAGE
    assert waiting.fault.message.endswith("the operator builds it")
    assert any("is gone" in problem for problem in problem_texts(world.status.current.problems))
    world.cluster.host = HostReport()
    world.pass_time(10 * SECOND)
    assert world.get(waiting).state is State.ACTIVE
    assert world.get(waiting).fault is None


def test_what_was_put_back_is_shown_to_operators_for_a_while() -> None:
    world = World()
    world.cluster.host = HostReport(repaired=(Problem(kind=ProblemKind.NAMESPACES_RESTORED, count=2),))
    world.pass_time(6 * SECOND)
    world.cluster.host = HostReport()
    assert [problem.count for problem in world.status.current.problems] == [2]
    world.pass_time(timedelta(minutes=11), step=MINUTE)
    assert world.status.current.problems == ()


def test_a_port_that_is_taken_before_the_start_uses_up_no_attempt() -> None:
    world = World(ports=(30000, 30009))
    taken = Fuse(1, after=False, blow=lambda: world.cluster.strangers.add(30001), method="start_box")
    world.build(taken)
    world.pass_once()
    waiting = world.reserve()
    if not world.cold:
        # The pause is in memory: the next process of a cold world makes it again at once.
        assert waiting.under_way is not None
        assert waiting.under_way.detail == "it is made again: the engine: port 30001: address already in use"
    world.pass_time(4 * SECOND, step=SECOND)
    assert taken.blown
    record = world.get(waiting)
    assert (record.state, record.attempt, record.uncounted) == (State.ACTIVE, 1, 0)
    assert record.places[0].ports == {"ssh": 30000, "jupyter": 30002}
    assert world.reserve(BEN).places[0].ports == {"ssh": 30003, "jupyter": 30004}


def test_without_a_free_port_it_waits_and_says_so_until_one_is_free() -> None:
    world = World(ports=(30000, 30003))
    world.cluster.strangers = set(range(30000, 30004))
    waiting = world.reserve()
    world.pass_time(timedelta(minutes=30), step=MINUTE)
    record = world.get(waiting)
    assert record.state is State.QUEUED
    assert record.fault is not None
    assert record.fault.kind is TroubleKind.PORTS
    assert "all ports from 30000 to 30003 are in use, 4 of them by other programs" in record.fault.message
    assert record.attempt == 0
    world.cluster.strangers = {30000}
    world.pass_time(10 * SECOND)
    assert world.get(waiting).state is State.ACTIVE


def test_of_two_that_get_the_last_ports_at_once_one_waits_without_using_up_an_attempt() -> None:
    world = World(ports=(30000, 30002))
    world.cluster.strangers = {30000}
    first = world.reserve(hours=1.0)
    world.cluster.strangers = set()
    world.cluster.faults.add("create_box", PlaceTaken("all ports from 30000 to 30002 are in use"))
    second = world.reserve(BEN)
    assert first.state is State.ACTIVE
    assert second.state is State.QUEUED
    world.cancel(first)
    world.settle()
    after = world.get(second)
    assert after.state is State.ACTIVE
    assert after.attempt - after.uncounted == 1


def test_an_unreachable_box_is_the_trouble_that_its_owner_sees() -> None:
    world = World()
    record = world.reserve(hours=3.0)
    world.cluster.cut_off[box_of(world, record).name] = CAUSE
    world.pass_time(10 * SECOND)
    view = reservation_view(world.queries.find(OPERATOR, record.id), OPERATOR, world.status.current)
    assert view.trouble == f"unreachable: {CAUSE}"
    assert view.boxes[0].state == "unreachable"


def test_gpus_that_cannot_be_used_are_not_lent_and_are_told() -> None:
    node = a_node("node-1", units=3)
    world = World(nodes=[node])
    running = world.reserve(hours=3.0)
    held = running.places[0].gpus[0]
    lost = next(gpu for gpu in node.gpus if gpu != held)
    world.cluster.put_node(replace(node, unusable={lost: "GPU is lost", held: "GPU is lost"}))
    world.pass_time(10 * SECOND)
    assert world.get(running).state is State.ACTIVE
    told = [
        problem for problem in problem_texts(world.status.current.problems) if "is not lent: GPU is lost" in problem
    ]
    assert len(told) == 2
    assert any(held in problem and running.id[:8] in problem for problem in told)
    free = world.reserve(BEN, hours=3.0)
    assert free.state is State.ACTIVE
    assert not {lost, held} & set(free.places[0].gpus)
    waiting = world.reserve(BEN, hours=1.0)
    world.pass_time(10 * MINUTE, step=MINUTE)
    assert world.get(waiting).state is State.QUEUED
    world.cluster.put_node(node)
    world.pass_time(10 * SECOND)
    assert world.status.current.problems == ()
    assert world.get(waiting).state is State.ACTIVE


def test_a_check_that_does_not_end_is_told_and_passes_go_on() -> None:
    world = World()
    may_end = threading.Event()

    class Hung(Counted):
        def check_host(self, boxes: Sequence[BoxSeen]) -> HostReport:
            may_end.wait(60)
            return super().check_host(boxes)

    ended = threading.Event()
    runner = ThreadRunner(ended.set)
    world.build(lambda port, adapter: Hung(adapter, []) if port == "cluster" else adapter, runner)
    try:
        world.clock.advance(MINUTE)
        world.pass_once()
        world.clock.advance(5 * MINUTE)
        world.pass_once()
        assert any(
            "the check of the host has not ended for 5 min" in text
            for text in problem_texts(world.status.current.problems)
        )
        ended.clear()
        may_end.set()
        while "host" in runner.busy():
            ended.wait(1)
        world.pass_once()
        assert not any("has not ended" in text for text in problem_texts(world.status.current.problems))
    finally:
        may_end.set()
        runner.close()
