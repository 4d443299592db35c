"""The host's limits: raised, never lowered, and put back by the last cloud unless somebody changed them meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from odc.adapters.engine.kernel_limits import (
    low_limits,
    raise_limits,
    raised_limits,
    restore_limits,
    terminals_of_a_box,
)
from odc.operator.host_claims import claimed, is_alone
from odc.operator.settings import Settings


class Kernel:
    """Files as the kernel shows its settings."""

    def __init__(self, folder: Path, **values: int) -> None:
        self.system = folder / "sys"
        self.noted = folder / "run" / "noted.json"
        for name, value in values.items():
            self.set(name, value)

    def set(self, name: str, value: int) -> None:
        (self.system / "fs").mkdir(parents=True, exist_ok=True)
        (self.system / "fs" / name).write_text(f"{value}\n")

    def get(self, name: str) -> int:
        return int((self.system / "fs" / name).read_text())

    def raise_to(self, **wanted: int) -> dict[str, tuple[int, int]]:
        named = {f"fs.{name}": value for name, value in wanted.items()}
        return raise_limits(named, self.noted, self.system)

    def restore(self) -> None:
        restore_limits(self.noted, self.system)


def test_what_is_lower_is_raised_and_nothing_is_lowered(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, low=10, high=500)
    assert kernel.raise_to(low=100, high=100, unknown=7) == {"fs.low": (10, 100)}
    assert (kernel.get("low"), kernel.get("high")) == (100, 500)
    assert kernel.raise_to(low=100, high=100) == {}
    kernel.restore()
    assert (kernel.get("low"), kernel.get("high"), kernel.noted.exists()) == (10, 500, False)
    kernel.restore()


def test_a_limit_that_the_host_has_reset_is_raised_again_and_goes_back_to_the_newer_value(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, low=10)
    kernel.raise_to(low=100)
    kernel.set("low", 20)
    assert kernel.raise_to(low=100) == {"fs.low": (20, 100)}
    kernel.restore()
    assert kernel.get("low") == 20


def test_a_limit_that_a_second_cloud_raises_further_goes_back_to_the_first_value(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, low=10)
    kernel.raise_to(low=100)
    kernel.raise_to(low=200)
    kernel.raise_to(low=100)
    assert kernel.get("low") == 200
    kernel.restore()
    assert kernel.get("low") == 10


def test_a_limit_that_the_operator_has_changed_meanwhile_stays(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, low=10)
    kernel.raise_to(low=100)
    kernel.set("low", 300)
    kernel.restore()
    assert kernel.get("low") == 300


def test_a_note_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, low=10)
    kernel.raise_to(low=100)
    kernel.noted.write_text("{")
    kernel.raise_to(low=200)
    assert kernel.get("low") == 200


def test_no_limit_is_the_highest_where_the_kernel_says_it_by_zero(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, **{"pipe-user-pages-soft": 16384})
    wanted = {"fs.pipe-user-pages-soft": 0}
    assert low_limits(wanted, kernel.system) == {"fs.pipe-user-pages-soft": (16384, 0)}
    raise_limits(wanted, kernel.noted, kernel.system)
    assert kernel.get("pipe-user-pages-soft") == 0
    assert low_limits(wanted, kernel.system) == {}


def test_only_limits_that_a_cloud_raised_and_nobody_changed_count_as_raised(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, low=10, lower=10, enough=500)
    kernel.raise_to(low=100, lower=100, enough=100)
    kernel.set("lower", 300)
    wanted = {f"fs.{name}": 100 for name in ("low", "lower", "enough")}
    assert raised_limits(wanted, kernel.noted, kernel.system) == ("fs.low",)


@pytest.mark.parametrize(("boxes", "most"), [(1, 256), (9, 256), (28, 82), (64, 36), (1000, 8)])
def test_all_boxes_together_leave_the_host_its_terminals(tmp_path: Path, boxes: int, most: int) -> None:
    folder = tmp_path / "kernel" / "pty"
    folder.mkdir(parents=True)
    (folder / "max").write_text("4096")
    (folder / "reserve").write_text("1024")
    assert terminals_of_a_box(boxes, tmp_path) == most


def test_the_last_cloud_of_the_machine_knows_that_it_is_alone(tmp_path: Path) -> None:
    claims = tmp_path / "clouds"
    first, second = (
        Settings(
            cloud=name,
            state=str(tmp_path / name),
            socket=str(tmp_path / f"{name}.sock"),
            ports=(port, port + 9),
            network=f"10.{port % 100}.0.0/20",
        )
        for name, port in (("first", 20010), ("second", 20020))
    )
    for settings in (first, second):
        settings.state_folder.mkdir()
    with claimed(first, (), claims):
        assert is_alone(first, claims)
        with claimed(second, (), claims):
            assert not is_alone(first, claims)
        second.state_folder.rmdir()
        assert is_alone(first, claims)
        (claims / "newer.json").write_text('{"version": 9}')
        assert not is_alone(first, claims)
