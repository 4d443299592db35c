"""Two clocks that must advance alike."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.builders import NOW

from odc.adapters.memory.clock import VirtualClock
from odc.adapters.memory.state_store import MemoryStateStore
from odc.control.clock_check import ClockCheck, judge
from odc.domain.problem_text import problem_text
from odc.domain.records import ClockAnchor

ANCHOR = ClockAnchor(boot_id="a", wall=NOW, since_boot=timedelta(hours=1))


def later(wall: timedelta, passed: timedelta, boot: str = "a") -> ClockAnchor:
    since = ANCHOR.since_boot + passed if boot == "a" else passed
    return ClockAnchor(boot_id=boot, wall=NOW + wall, since_boot=since)


@pytest.mark.parametrize(
    ("wall_s", "passed_s", "boot", "frozen"),
    [
        (60, 60, "a", False),
        (90, 60, "a", False),
        (91, 60, "a", True),
        (30, 60, "a", False),
        (29, 60, "a", True),
        (-3600, 1, "a", True),
        (86_400, 1, "a", True),
        (86_400, 5, "b", False),
        (-29, 5, "b", False),
        (-31, 5, "b", True),
    ],
)
def test_they_may_differ_by_half_a_minute_and_after_a_boot_the_wall_may_only_not_go_back(
    wall_s: int, passed_s: int, boot: str, frozen: bool
) -> None:
    moment = later(timedelta(seconds=wall_s), timedelta(seconds=passed_s), boot)
    assert judge(ANCHOR, moment).frozen is frozen


def test_the_reason_says_which_way_how_far_and_what_to_type() -> None:
    back = judge(ANCHOR, later(timedelta(hours=-1), timedelta(0))).problem
    assert back is not None
    assert "jumped back by 1:00:00" in problem_text(back)
    assert "odc clock accept" in problem_text(back)
    forward = judge(ANCHOR, later(timedelta(days=1), timedelta(0))).problem
    assert forward is not None
    assert "jumped forward by 1 day" in problem_text(forward)
    assert judge(ANCHOR, ANCHOR).problem is None


def test_a_clock_that_is_slewed_for_hours_is_right_all_the_time() -> None:
    """The noted moment moves with it."""
    store, clock = MemoryStateStore(), VirtualClock()
    check = ClockCheck(store, clock)
    for _ in range(240):
        assert not check.verdict().frozen
        clock.advance(timedelta(minutes=1))
        clock.jump(timedelta(seconds=1))
    anchor = store.swap_clock_anchor(None)
    assert anchor is not None
    assert clock.now() - anchor.wall <= timedelta(minutes=3)


def test_a_quiet_check_does_not_write_at_every_pass() -> None:
    writes = []

    class Counting(MemoryStateStore):
        def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
            writes.append(anchor)
            return super().swap_clock_anchor(anchor)

    clock = VirtualClock()
    check = ClockCheck(Counting(), clock)
    for _ in range(60):
        check.verdict()
        clock.advance(timedelta(seconds=1))
    assert len([anchor for anchor in writes if anchor is not None]) == 1
    assert len(writes) == 2


def test_what_another_process_accepts_is_believed() -> None:
    store, clock = MemoryStateStore(), VirtualClock()
    check = ClockCheck(store, clock)
    assert not check.verdict().frozen
    clock.jump(timedelta(days=1))
    assert check.verdict().frozen
    assert check.verdict().frozen
    accepted = replace(ANCHOR, boot_id=clock.boot_id(), wall=clock.now(), since_boot=clock.since_boot())
    store.swap_clock_anchor(accepted)
    assert not check.verdict().frozen
