"""Whether each box can have a range of host ids of its own, and who else has ids of the cloud's ranges."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from odc.entrypoints.bootstrap.id_checks import foreign_ids, why_shared
from odc.operator.host_claims import claimed
from odc.operator.settings import Settings

NEW = "6.1.0-18-amd64"


def engine(version: str = "4.3.1", driver: str = "overlay", layers: str = "/dev/shm") -> dict[str, Any]:
    """What Podman says of itself."""
    return {"version": {"Version": version}, "store": {"graphDriverName": driver, "graphRoot": layers}}


def cloud(folder: Path, name: str = "one", number: int = 1, **changes: Any) -> Settings:
    """A cloud that shares nothing with those of other numbers but its ids."""
    state = folder / name
    state.mkdir()
    first = 40000 + 100 * number
    places = {"ports": (first, first + 9), "network": f"10.{number}.0.0/16"}
    return Settings(cloud=name, state=str(state), socket=str(state / "s"), **(places | changes))


@pytest.mark.parametrize(
    ("podman", "release", "why"),
    [
        (engine(), "5.15.0-91-generic", "the kernel 5.15.0-91-generic is older than 5.19"),
        (engine("4.1.1"), NEW, "Podman 4.1.1 is older than 4.2"),
        (engine(driver="vfs"), NEW, "the engine keeps images with vfs, not overlay"),
        (engine(layers="/proc"), NEW, "the file system of /proc has no idmapped mounts"),
        ({}, NEW, "Podman (of unknown version) is older than 4.2"),
    ],
)
def test_what_keeps_boxes_from_ranges_of_their_own_is_named(
    podman: dict[str, Any], release: str, why: str, tmp_path: Path
) -> None:
    assert why_shared(cloud(tmp_path), podman, False, release) == why


def test_storage_without_mapped_mounts_keeps_them_too(tmp_path: Path) -> None:
    podman = engine(layers=str(tmp_path))
    assert why_shared(cloud(tmp_path, disks=str(tmp_path)), podman, True, NEW) == ""
    on_proc = cloud(tmp_path, "two", disks="/proc")
    assert why_shared(on_proc, podman, True, NEW) == "the file system of /proc has no idmapped mounts"
    assert why_shared(on_proc, podman, False, NEW) == ""
    assert why_shared(on_proc, engine("5.4.2", layers=str(tmp_path)), False, "5.19.0") == ""


def test_a_base_without_room_for_all_ports_is_not_an_error(tmp_path: Path) -> None:
    settings = cloud(tmp_path, box_id_base=2**32 - 2 - 65536)
    why = why_shared(settings, engine(layers=str(tmp_path)), has_disks=False)
    assert why == "above box_id_base = 4294901758 there are too few ids for 10 ports"
    assert why_shared(cloud(tmp_path, "two"), engine(layers=str(tmp_path)), has_disks=False) == ""


def test_others_who_have_ids_of_the_cloud_are_named(tmp_path: Path) -> None:
    clouds, lent = tmp_path / "clouds", tmp_path / "subuid"
    lent.write_text("ada:100000:65536\nben:1000655359:65536\ncleo:1000720896:10\n")
    first, second = cloud(tmp_path), cloud(tmp_path, "two", 2, box_id_base=1_000_720_896)
    last = 1_000_000_000 + 11 * 65536 - 1
    with claimed(first, (), clouds):
        assert list(foreign_ids(first, clouds, lent)) == [
            f"subordinate ids of ben (1000655359 to 1000720894, {lent})",
        ]
        assert list(foreign_ids(second, clouds, lent)) == [
            f"subordinate ids of cleo (1000720896 to 1000720905, {lent})"
        ]
        third = cloud(tmp_path, "three", 3, box_id_base=last)
        assert next(foreign_ids(third, clouds, lent)) == f"boxes of the cloud 'one' (1000000000 to {last})"


def test_a_login_of_the_machine_with_an_id_of_the_cloud_is_named(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    settings = cloud(tmp_path, box_id_base=nobody.pw_uid - 65536)
    found = list(foreign_ids(settings, tmp_path, tmp_path / "absent"))
    assert f"the login nobody ({nobody.pw_uid})" in found
