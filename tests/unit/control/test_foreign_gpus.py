"""GPUs that containers of others hold."""

from __future__ import annotations

from msgspec.structs import replace
from tests.world import ADA, BEN, HOUR, MINUTE, World

from odc.api.views import status_view
from odc.domain.problem_text import problem_texts
from odc.domain.reservation import State


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
