"""Which snapshots go: never the newest verified one, first those of the user who takes most."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.builders import NOW, a_disk

from odc.domain.disk import Snapshot
from odc.domain.disk_history import DiskHistory, summary_of, with_new_snapshot
from odc.domain.storage import (
    DiskUse,
    Level,
    Retention,
    StorageUse,
    first_to_go,
    gib_text,
    may_be_past_limits,
    past_limits,
    past_share,
    taken_by_owner,
)

GIB = 2**30


def a_snapshot(number: int, verified: bool = True, days_old: float = 0) -> Snapshot:
    at = NOW - timedelta(days=days_old)
    return Snapshot(id=f"r{number}-1", taken_at=at, verified_at=at if verified else None, used_bytes=GIB)


def with_history(*verified: bool, **changes: object) -> DiskHistory:
    history = DiskHistory(disk=a_disk(**changes))
    for number, is_verified in enumerate(verified):
        disk, record = with_new_snapshot(history.disk, a_snapshot(number, is_verified, len(verified) - number))
        history = DiskHistory(disk=disk, snapshots=(*history.snapshots, record))
    return history


def test_only_what_is_older_than_the_newest_verified_one_may_go() -> None:
    history = with_history(True, False, True, False)
    assert [record.id for record in history.expendable] == ["r0-1", "r1-1"]
    assert with_history(False, False).expendable == ()
    assert with_history(True).expendable == ()


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 4), st.floats(0, 10), st.integers(0, 40))
def test_no_rule_takes_the_newest_verified_snapshot(flags: list[bool], keep: int, days: float, free: int) -> None:
    history = with_history(*flags)
    disk = history.disk
    rule = Retention(keep=keep, days=days, percent=1, free_percent=90)
    use = StorageUse(
        total_bytes=40 * GIB,
        free_bytes=free * GIB,
        disks={disk.id: DiskUse(live_bytes=0, total_bytes=40 * GIB, snapshots={"r0-1": 3 * GIB})},
    )
    old = past_limits(history, rule, NOW)
    gone = {
        *old,
        *past_share(history, use.disks[disk.id], rule),
        *first_to_go([history], taken_by_owner([disk], use), use, use.missing_bytes(rule)).get(disk.id, ()),
    }
    assert may_be_past_limits(disk, rule, NOW) or not old
    left = history.with_deleting(gone)
    assert any(flags) == any(record.snapshot.verified_at for record in left.kept)
    if any(flags):
        newest = max(n for n, ok in enumerate(flags) if ok)
        assert history.snapshots[newest] in left.kept
        assert left.disk.snapshots.last_verified == history.snapshots[newest].snapshot


@given(st.lists(st.booleans(), max_size=8), st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_the_summary_is_that_of_the_snapshots_whatever_goes(flags: list[bool], going: set[int], gone: set[int]) -> None:
    history = with_history(*flags)
    assert history.disk.snapshots == summary_of(history.snapshots, len(flags) + 1)
    left = history.with_deleting([record for record in history.snapshots if record.number in going])
    left = left.without([record for record in left.deleting if record.number in gone])
    summary = left.disk.snapshots
    assert (summary.count, summary.deleting) == (len(left.kept), len(left.deleting))
    assert len(left.kept) + len(left.deleting) == len(flags) - len({n for n in going & gone if 0 < n <= len(flags)})
    disk, record = with_new_snapshot(left.disk, a_snapshot(99))
    assert record.number == len(flags) + 1
    assert disk.snapshots == summary_of([*left.snapshots, record], len(flags) + 2)
    assert with_new_snapshot(disk, record.snapshot) == (disk, record)


def test_without_a_clock_nothing_is_too_old() -> None:
    history = with_history(True, True, True)
    rule = Retention(keep=7, days=0.5)
    assert len(past_limits(history, rule, NOW)) == 2
    assert past_limits(history, rule, None) == ()


def test_the_level_follows_the_share_that_is_free() -> None:
    rule = Retention(free_percent=15)
    levels = [StorageUse(total_bytes=100, free_bytes=free).level(rule) for free in (100, 15, 14, 5, 4, 0)]
    assert levels == [Level.OK, Level.OK, Level.LOW, Level.LOW, Level.FULL, Level.FULL]
    assert StorageUse(total_bytes=100, free_bytes=0).level(Retention(free_percent=0)) is Level.OK


def test_where_nothing_is_known_of_disks_the_largest_user_goes_first() -> None:
    small, large = with_history(True, True, owner="unix:1"), with_history(True, True, True, owner="unix:2")
    use = StorageUse(total_bytes=100 * GIB, free_bytes=0)
    takes = taken_by_owner([small.disk, large.disk], use)
    assert first_to_go([small, large], takes, use, GIB) == {large.disk.id: large.snapshots[:1]}
    assert first_to_go([small, large], takes, use, 0) == {}


def test_a_size_below_a_mebibyte_is_not_shown_as_none() -> None:
    counts = (0, 100, 68 * 2**10, 2**20, 2**27, 2**29, 12 * 2**30, 1500 * 2**30)
    texts = ["0 MiB", "100 bytes", "68 KiB", "1 MiB", "128 MiB", "0.5 GiB", "12 GiB", "1500 GiB"]
    assert [gib_text(count) for count in counts] == texts
