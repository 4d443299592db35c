"""The contract of the clock, held by every adapter; and what only virtual time can do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from odc.adapters.memory.clock import VirtualClock
from odc.adapters.system.clock import SystemClock
from odc.ports.clock import Clock

HOUR = timedelta(hours=1)


@pytest.fixture(params=["system", "virtual"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return SystemClock() if request.param == "system" else VirtualClock()


def test_the_wall_clock_is_aware_and_utc(clock: Clock) -> None:
    assert clock.now().tzinfo is UTC


def test_neither_clock_goes_backwards_by_itself(clock: Clock) -> None:
    walls = [clock.now() for _ in range(50)]
    boots = [clock.since_boot() for _ in range(50)]
    assert boots == sorted(boots)
    assert walls == sorted(walls)
    assert boots[0] > timedelta()


def test_one_boot_has_one_id(clock: Clock) -> None:
    assert clock.boot_id() == clock.boot_id() != ""


def test_a_pause_returns_when_so_much_time_has_passed(clock: Clock) -> None:
    before = clock.since_boot()
    clock.pause(timedelta(milliseconds=20))
    assert timedelta(milliseconds=20) <= clock.since_boot() - before < timedelta(seconds=10)


def test_the_system_tells_the_machines_own_times() -> None:
    clock = SystemClock()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=10)
    uptime = timedelta(seconds=float(Path("/proc/uptime").read_text().split()[0]))
    assert abs(clock.since_boot() - uptime) < timedelta(seconds=10)
    assert len(clock.boot_id()) == 36


def test_advancing_moves_both_clocks_and_only_forwards() -> None:
    clock = VirtualClock()
    wall, boot = clock.now(), clock.since_boot()
    assert clock.advance(HOUR) == clock.now() == wall + HOUR
    assert clock.since_boot() == boot + HOUR
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(-HOUR)


def test_a_jump_moves_the_wall_clock_alone() -> None:
    clock = VirtualClock()
    wall, boot, boot_id = clock.now(), clock.since_boot(), clock.boot_id()
    assert clock.jump(-HOUR) == clock.now() == wall - HOUR
    assert (clock.since_boot(), clock.boot_id()) == (boot, boot_id)


def test_a_reboot_starts_the_time_since_boot_anew_under_another_id() -> None:
    clock = VirtualClock()
    wall, boot, boot_id = clock.now(), clock.since_boot(), clock.boot_id()
    clock.reboot(off=HOUR)
    assert clock.now() == wall + HOUR
    assert clock.since_boot() < boot
    assert clock.boot_id() != boot_id
