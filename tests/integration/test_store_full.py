"""The file system of the records fills up: what must be written is written, what is refused is refused clearly."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import a_reservation
from tests.storage import MIB
from tests.world import ADA, MINUTE, World

from odc.adapters.sql.disk_reserve import DiskReserve
from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.errors import ProviderUnavailable
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_text, problem_texts
from odc.domain.records import Change, StoreRoom
from odc.domain.reservation import State

RESERVE = 4 * MIB


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "state"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "odc-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is left."""
    file = folder / "strangers"
    with pytest.raises(OSError, match="No space left"), file.open("wb", buffering=0) as handle:
        while True:
            handle.write(b"x" * 4096)
    return file


def add(store: SqlStateStore) -> str:
    record = a_reservation()
    store.commit(Change(reservations=(record,)))
    return record.id


def test_a_full_file_system_is_told_before_and_the_reserve_lets_records_be_written(small: Path) -> None:
    store = SqlStateStore(f"sqlite:///{small / 'odc.db'}", DiskReserve(small, RESERVE))
    try:
        low = store.room().problem
        assert low is not None
        assert "MiB free" in problem_text(low)
        assert (small / "reserve").stat().st_blocks * 512 >= RESERVE
        kept = [add(store)]
        strangers = fill(small)
        for _ in range(200):  # more than fits into pages and logs that are there already
            try:
                kept.append(add(store))
            except ProviderUnavailable as error:
                assert "the file system of the records is full; nothing was written" in error.message
                kept.append(add(store))
                break
        else:
            pytest.fail("it was never full")
        kept += [add(store) for _ in range(20)]
        assert not (small / "reserve").exists()
        assert store.room().refuses
        assert {record.id for record in store.observe().reservations} == set(kept)
        strangers.unlink()
        store.room()
        assert (small / "reserve").exists()
    finally:
        store.close()


def test_the_reserve_is_given_up_before_the_file_system_is_full(small: Path) -> None:
    reserve = DiskReserve(small, RESERVE)
    assert reserve.room().problem
    assert (small / "reserve").exists()
    strangers = fill(small)
    assert reserve.room().refuses
    assert not (small / "reserve").exists()
    strangers.unlink()
    reserve.room()
    assert (small / "reserve").exists()


def test_without_room_for_records_nothing_new_is_taken_and_all_else_goes_on() -> None:
    world = World()
    running = world.reserve(ADA)
    assert world.get(running).state is State.ACTIVE
    text = "the file system of the records has 9 MiB free at /state; no new reservations are taken"
    full = Problem(kind=ProblemKind.RECORDS_FULL, path="/state", free_bytes=9 * 2**20)
    world.store.space = StoreRoom(problem=full)
    world.pass_time(MINUTE)
    assert text in problem_texts(world.status.current.problems)
    with pytest.raises(ProviderUnavailable, match="no new reservations are taken"):
        world.ask(ADA, name="second")
    world.cancel(running)
    world.settle()
    assert world.get(running).state is State.ENDED
    world.store.space = StoreRoom()
    world.pass_time(MINUTE)
    assert text not in problem_texts(world.status.current.problems)
    assert world.get(world.reserve(ADA)).state is State.ACTIVE
