"""Which active reservations need no step is remembered from pass to pass, and changes nothing that is decided."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import a_node
from tests.world import ADA, BEN, HOUR, SECOND, World

from odc.control import quiet_reservations, reconcile
from odc.control.advance import advance
from odc.control.context import Policy
from odc.control.observation import Observation
from odc.control.quiet_reservations import QuietReservations
from odc.control.steps import Step
from odc.domain.box import BoxName
from odc.domain.limits import Limits
from odc.domain.reservation import Reservation

LIMITS = Limits(live_per_user=100, gpus_per_user=1000)


class Compared(QuietReservations):
    """Looks into every reservation, too, and compares."""

    def steps(self, seen: Observation, policy: Policy) -> Iterator[tuple[Reservation, Step]]:
        kept = list(super().steps(seen, policy))
        assert kept == [(r, step) for r in seen.all_placed if (step := advance(r, seen, policy)) is not None]
        yield from kept


def a_box(world: World, data: st.DataObject) -> BoxName | None:
    names = [box.name for box in world.cluster.peek()]
    return data.draw(st.sampled_from(names)) if names else None


def reserve(world: World, data: st.DataObject) -> None:
    gpus, hours = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.sampled_from([0.25, 1.0]))
    world.ask(data.draw(st.sampled_from([ADA, BEN])), gpus=gpus, hours=hours)


def exit_a_box(world: World, data: st.DataObject) -> None:
    if name := a_box(world, data):
        world.cluster.exit_box(name, 1)


def remove_a_box(world: World, data: st.DataObject) -> None:
    if name := a_box(world, data):
        world.cluster.vanish(name)


def kill_processes(world: World, data: st.DataObject) -> None:
    if name := a_box(world, data):
        world.cluster.kill_for_memory(name, data.draw(st.sampled_from([1, 11])))


def lose_contact(world: World, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        world.cluster.go_down()
    else:
        world.cluster.silence("node-1")
    world.pass_once()
    if data.draw(st.booleans()):
        world.cluster.heal()


def set_the_clock(world: World, data: st.DataObject) -> None:
    world.clock.jump(data.draw(st.sampled_from([-20, 20, -7200, 7200])) * SECOND)
    world.pass_once()
    if data.draw(st.booleans()):
        world.accept_clock()


def pass_time(world: World, data: st.DataObject) -> None:
    world.pass_time(data.draw(st.integers(1, 120)) * SECOND, step=10 * SECOND)


EVENTS = (reserve, reserve, exit_a_box, remove_a_box, kill_processes, kill_processes, lose_contact, set_the_clock)


@given(st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_pass_decides_as_a_process_would_that_remembers_nothing(
    monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr(reconcile, "QuietReservations", Compared)
    world = World((a_node("node-1"), a_node("node-2")), limits=LIMITS)
    reserve(world, data)
    for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=3, max_size=10)):
        event(world, data)
        world.pass_once()
        pass_time(world, data)
    world.cluster.heal()
    world.pass_time(HOUR, step=timedelta(minutes=10))


@pytest.mark.one_process("what was decided before is in memory")
def test_a_pass_looks_only_into_reservations_whose_box_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def noted(record: Reservation, seen: Observation, policy: Policy) -> Step | None:
        looked.append(record.id)
        return advance(record, seen, policy)

    monkeypatch.setattr(quiet_reservations, "advance", noted)
    world = World((a_node("node-1"),), limits=LIMITS)
    one, _ = world.reserve(ADA, gpus=1), world.reserve(BEN, gpus=1)
    world.settle()
    looked.clear()
    world.pass_once()
    assert looked == []
    world.cluster.exit_box(BoxName(one.id, 1, 0), 1)
    world.pass_once()
    assert set(looked) == {one.id}
