"""Times are local, with the day when it is not today, and a duration beside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odc.cli import times
from odc.domain.limits import hours_text

NOW = datetime(2026, 3, 4, 14, 4, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (8, "22:04"),
        (12, "tomorrow 02:04"),
        (-15, "yesterday 23:04"),
        (48, "Fri 14:04"),
        (-72, "Sun 14:04"),
        (24 * 8, "2026-03-12 14:04"),
        (-24 * 30, "2026-02-02 14:04"),
    ],
)
def test_the_day_stands_there_when_it_is_not_today(hours: int, told: str) -> None:
    assert times.clock((NOW + timedelta(hours=hours)).astimezone(UTC), NOW) == told


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (timedelta(hours=8), "8 h"),
        (timedelta(hours=8) - timedelta(seconds=1), "8 h"),
        (timedelta(hours=7, minutes=58), "7 h 58 min"),
        (timedelta(minutes=12, seconds=20), "12 min"),
        (timedelta(minutes=9, seconds=59), "9 min"),
        (timedelta(seconds=89), "89 s"),
        (timedelta(seconds=90), "1 min"),
        (timedelta(seconds=-5), "0 s"),
    ],
)
def test_spans_are_told_in_hours_and_minutes(length: timedelta, told: str) -> None:
    assert times.span(length) == told


def test_a_moment_stands_with_its_duration() -> None:
    assert times.until(NOW + timedelta(hours=8), NOW) == "22:04 (in 8 h)"
    assert times.until(NOW - timedelta(hours=1), NOW) == "13:04"
    assert times.left(NOW + timedelta(minutes=478), NOW) == "22:02 (7 h 58 min left)"
    assert times.clock(NOW, NOW, seconds=True) == "14:04:00"


@pytest.mark.parametrize(("hours", "told"), [(8, "8 h"), (1.5, "1.5 h"), (0.5, "30 min"), (0.0833, "5 min")])
def test_hours_are_told_as_they_were_asked_for(hours: float, told: str) -> None:
    assert hours_text(hours) == told


@pytest.fixture(params=["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(moment=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))
def test_the_local_zone_is_right_on_both_sides_of_summer_time(zone: ZoneInfo, moment: datetime) -> None:
    local = moment.astimezone(times.LocalZone())
    assert local.replace(tzinfo=None) == moment.astimezone(zone).replace(tzinfo=None)
    assert local.astimezone(UTC) == moment


def test_an_end_after_the_clocks_change_is_told_right(monkeypatch: pytest.MonkeyPatch, zone: ZoneInfo) -> None:
    now = datetime(2026, 3, 28, 20, 0, tzinfo=UTC).astimezone(times.LocalZone())
    end = datetime(2026, 3, 29, 10, 0, tzinfo=UTC)
    assert times.clock(end, now).endswith(f"{end.astimezone(zone):%H:%M}")
    assert end - now == timedelta(hours=14)
