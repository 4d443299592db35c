"""Times that are missing, and a wall clock that jumps.

Rows 15 and 16 of docs/survives.md.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace
from tests.builders import a_reservation
from tests.world import ADA, BEN, HOUR, MINUTE, SECOND, World

from odc.domain.errors import NotAllowed, ProviderUnavailable
from odc.domain.problem_text import problem_texts
from odc.domain.records import Change
from odc.domain.requests import AcceptClock
from odc.domain.reservation import EndReason, Reservation, State

DAY = timedelta(days=1)


def test_a_reservation_ends_at_its_minute_and_not_before() -> None:
    world = World()
    record = world.reserve()
    world.clock.advance(HOUR - SECOND)
    world.settle()
    assert world.get(record).state is State.ACTIVE
    world.clock.advance(SECOND)
    world.settle()
    assert world.get(record).ended_why is EndReason.EXPIRED
    assert world.get(record).ended_at == record.expires_at


def test_the_pass_asks_to_be_called_at_the_end_and_not_after_it() -> None:
    world = World()
    record = world.reserve()
    world.clock.advance(HOUR - 2 * SECOND)
    assert world.pass_once().due == record.expires_at


def test_a_fault_that_waits_does_not_hide_the_end() -> None:
    world = World()
    record = world.reserve()
    world.cluster.exit_box(world.cluster.peek()[0].name, 137)
    world.cluster.faults.add("start_box", ProviderUnavailable("busy"), 10**9)
    world.pass_time(HOUR - 2 * SECOND, step=10 * MINUTE)
    assert world.get(record).fault is not None
    assert world.pass_once().due == record.expires_at


@pytest.mark.prompt_lists("counts how often the cluster is asked")
def test_the_clock_of_a_reservation_starts_when_ssh_answers() -> None:
    world = World()
    world.cluster.delay_ssh(3)
    record = world.ask()
    world.pass_until(lambda: world.get(record).state is State.ACTIVE)
    now = world.get(record)
    assert now.active_at is not None
    assert now.active_at > record.created_at
    assert now.expires_at == now.active_at + HOUR


@pytest.mark.parametrize("jump", [-HOUR, DAY, -DAY, 2 * MINUTE], ids=str)
def test_a_clock_that_jumps_ends_nothing_until_the_operator_accepts_it(jump: timedelta) -> None:
    world = World()
    record = world.reserve()
    world.clock.jump(jump)
    world.pass_time(3 * HOUR, step=10 * MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert len(world.cluster.peek()) == 1
    assert any("odc clock accept" in problem for problem in problem_texts(world.status.current.problems))
    with pytest.raises(NotAllowed):
        world.send(AcceptClock(), ADA)
    world.pass_once()
    assert world.get(record).state is State.ACTIVE
    world.accept_clock()
    world.settle()
    assert world.status.current.problems == ()
    left = record.expires_at - world.clock.now() if record.expires_at else HOUR
    world.pass_time(max(left, SECOND), step=10 * MINUTE)
    assert world.get(record).ended_why is EndReason.EXPIRED


def test_a_clock_that_is_set_right_again_needs_no_operator() -> None:
    world = World()
    record = world.reserve()
    world.clock.jump(DAY)
    world.settle()
    assert world.status.current.frozen
    world.clock.jump(-DAY)
    world.settle()
    assert not world.status.current.frozen
    assert world.get(record).state is State.ACTIVE


def test_a_clock_that_runs_a_little_wrong_has_not_jumped() -> None:
    world = World()
    for _ in range(60):
        world.clock.jump(timedelta(milliseconds=200))
        world.pass_time(MINUTE, step=MINUTE)
        assert not world.status.current.frozen


def test_a_jump_while_the_daemon_is_down_is_seen() -> None:
    world = World()
    record = world.reserve()
    world.clock.jump(DAY)
    world.crash()
    world.settle()
    assert world.status.current.frozen
    assert world.get(record).state is State.ACTIVE


def test_after_a_boot_only_a_clock_that_went_back_is_wrong() -> None:
    world = World()
    record = world.reserve()
    world.clock.reboot(off=10 * MINUTE)
    world.crash()
    world.settle()
    assert not world.status.current.frozen
    world.clock.reboot()
    world.clock.jump(-HOUR)
    world.crash()
    world.settle()
    assert world.status.current.frozen
    assert world.get(record).state is State.ACTIVE


def test_a_frozen_clock_makes_no_promise_and_moves_none() -> None:
    world = World()
    world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    world.clock.jump(DAY)
    world.pass_time(10 * MINUTE, step=MINUTE)
    after = world.ask(gpus=8)
    world.pass_time(10 * MINUTE, step=MINUTE)
    assert world.get(waiting).ready_by == waiting.ready_by
    assert world.get(waiting).postponements == 0
    assert world.get(after).ready_by is None
    world.clock.jump(-DAY)
    world.settle()
    assert world.get(waiting).ready_by == waiting.ready_by
    assert world.get(after).ready_by is not None


def test_what_is_free_is_given_while_the_clock_is_frozen_and_the_promise_stays() -> None:
    world = World()
    holder = world.reserve(gpus=8)
    waiting = world.reserve(BEN, gpus=8)
    world.clock.jump(DAY)
    world.settle()
    world.cancel(holder)
    world.settle()
    now = world.get(waiting)
    assert now.state is State.ACTIVE
    assert now.postponements == 0


def test_a_clock_that_was_set_back_does_not_stretch_the_wait_after_a_fault() -> None:
    world = World()
    world.cluster.faults.add("create_box", ProviderUnavailable("busy"), 1)
    record = world.reserve()
    assert record.fault is not None
    world.clock.jump(-HOUR)
    world.accept_clock()
    world.pass_time(5 * SECOND)
    assert world.get(record).state is State.ACTIVE


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=str)
def test_how_long_a_box_is_missing_is_not_counted_by_a_clock_that_jumped(jump: timedelta) -> None:
    world = World()
    record = world.reserve(hours=8.0)
    world.cluster.vanish(world.cluster.peek()[0].name)
    world.pass_once()
    assert world.get(record).missing_since is not None
    world.clock.jump(jump)
    world.settle()
    assert world.get(record).state is State.ACTIVE
    world.accept_clock()
    world.settle()
    assert world.get(record).state is State.ACTIVE
    world.pass_time(30 * SECOND, step=10 * SECOND)
    world.settle()
    assert world.get(record).ended_why is EndReason.FAILED


def test_a_clock_set_back_while_nobody_looked_does_not_stretch_the_wait_for_a_missing_box() -> None:
    world = World()
    record = world.reserve(hours=8.0)
    world.cluster.vanish(world.cluster.peek()[0].name)
    world.pass_once()
    world.clock.jump(-HOUR)
    world.accept_clock()
    world.crash()
    world.pass_time(MINUTE, step=10 * SECOND)
    assert world.get(record).ended_why is EndReason.FAILED


def test_a_running_reservation_without_an_end_is_left_alone_and_shown() -> None:
    world = World()
    record = world.reserve()
    world.store.commit(Change(reservations=(replace(world.get(record), expires_at=None),)))
    world.pass_time(DAY, step=HOUR)
    assert world.get(record).state is State.ACTIVE
    assert any(
        record.id[:8] in problem and "no expiry time" in problem
        for problem in problem_texts(world.status.current.problems)
    )
    world.cancel(record)
    world.settle()
    assert world.get(record).state is State.ENDED
    assert world.status.current.problems == ()


@pytest.mark.parametrize("field", ["created_at", "placed_at", "expires_at", "ready_by"])
def test_a_stored_time_without_a_zone_is_refused_when_the_record_is_read(field: str) -> None:
    whole = msgspec.json.encode(replace(a_reservation(), **{field: a_reservation().created_at}))
    assert isinstance(msgspec.json.decode(whole, type=Reservation), Reservation)
    text = f'"{field}":"2026-03-02T12:00:00Z"'.encode()
    assert text in whole
    broken = whole.replace(text, text.replace(b"Z", b""))
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        msgspec.json.decode(broken, type=Reservation)
