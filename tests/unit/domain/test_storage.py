"""Which snapshots go: never the newest verified one, first those of the user who takes most."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.builders import NOW, a_disk

from odc.domain.disk import Disk, Snapshot
from odc.domain.storage import (
    DiskUse,
    Level,
    Retention,
    StorageUse,
    expendable,
    first_to_go,
    gib_text,
    past_limits,
    past_share,
)

GIB = 2**30


def a_snapshot(number: int, verified: bool = True, days_old: float = 0) -> Snapshot:
    at = NOW - timedelta(days=days_old)
    return Snapshot(id=f"r{number}-1", taken_at=at, verified_at=at if verified else None, used_bytes=GIB)


def with_history(*verified: bool, **changes: object) -> Disk:
    return a_disk(snapshots=tuple(a_snapshot(n, ok, len(verified) - n) for n, ok in enumerate(verified)), **changes)


def test_only_what_is_older_than_the_newest_verified_one_may_go() -> None:
    disk = with_history(True, False, True, False)
    assert [snapshot.id for snapshot in expendable(disk)] == ["r0-1", "r1-1"]
    assert expendable(with_history(False, False)) == ()
    assert expendable(with_history(True)) == ()


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 4), st.floats(0, 10), st.integers(0, 40))
def test_no_rule_takes_the_newest_verified_snapshot(flags: list[bool], keep: int, days: float, free: int) -> None:
    disk = with_history(*flags)
    rule = Retention(keep=keep, days=days, percent=1, free_percent=90)
    use = StorageUse(
        total_bytes=40 * GIB,
        free_bytes=free * GIB,
        disks={disk.id: DiskUse(live_bytes=0, total_bytes=40 * GIB, snapshots={"r0-1": 3 * GIB})},
    )
    gone = {
        *past_limits(disk, rule, NOW),
        *past_share(disk, use.disks[disk.id], rule),
        *first_to_go([disk], use, use.missing_bytes(rule)).get(disk.id, ()),
    }
    kept = [snapshot for snapshot in disk.snapshots if snapshot not in gone]
    assert any(flags) == any(snapshot.verified_at for snapshot in kept)
    if any(flags):
        newest = max(n for n, ok in enumerate(flags) if ok)
        assert disk.snapshots[newest] in kept


def test_without_a_clock_nothing_is_too_old() -> None:
    disk = with_history(True, True, True)
    rule = Retention(keep=7, days=0.5)
    assert len(past_limits(disk, rule, NOW)) == 2
    assert past_limits(disk, rule, None) == ()


def test_the_level_follows_the_share_that_is_free() -> None:
    rule = Retention(free_percent=15)
    levels = [StorageUse(total_bytes=100, free_bytes=free).level(rule) for free in (100, 15, 14, 5, 4, 0)]
    assert levels == [Level.OK, Level.OK, Level.LOW, Level.LOW, Level.FULL, Level.FULL]
    assert StorageUse(total_bytes=100, free_bytes=0).level(Retention(free_percent=0)) is Level.OK


def test_where_nothing_is_known_of_disks_the_largest_user_goes_first() -> None:
    small, large = with_history(True, True, owner="unix:1"), with_history(True, True, True, owner="unix:2")
    use = StorageUse(total_bytes=100 * GIB, free_bytes=0)
    assert first_to_go([small, large], use, GIB) == {large.id: large.snapshots[:1]}
    assert first_to_go([small, large], use, 0) == {}


def test_a_size_below_a_mebibyte_is_not_shown_as_none() -> None:
    assert [gib_text(count) for count in (0, 68 * 2**10, 2**20, 12 * 2**30)] == ["0 MiB", "68 KiB", "1 MiB", "12 GiB"]
