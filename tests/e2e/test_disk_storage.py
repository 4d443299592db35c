"""The disk storage of a real cloud fills: boxes of others go on, snapshots give way, and an operator sees it all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cloud import Cloud, Person, add_person, destroy, make_cloud
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
FILL = "head -c {} /dev/urandom > data && sync"
FULL = 110_000_000


@pytest.fixture(scope="module")
def small(bin_folder: Path) -> Iterator[Cloud]:
    """A cloud whose storage holds eight full disks."""
    sizes = {"disk_gib": 0.125, "disk_file_gib": 1}
    rule = {"keep": 50, "days": 0, "percent": 0}
    made = make_cloud(bin_folder, "fill", 3, limits={"grace_s": 1}, snapshots=rule, **sizes)
    try:
        made.odc("up")
        yield made
    finally:
        destroy(made)


@pytest.fixture(scope="module")
def cara(small: Cloud) -> Person:
    return _person(small, "c")


@pytest.fixture(scope="module")
def dora(small: Cloud) -> Person:
    return _person(small, "d")


def _person(cloud: Cloud, letter: str) -> Person:
    person = add_person(cloud, letter)
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return person


def rewrite(person: Person, name: str, size: int = FULL) -> None:
    """One reservation in which the whole disk is written anew."""
    person.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", name, "--disk", "proj", "--wait")
    done = person.in_box(name, FILL.format(size))
    assert done.code == 0, done
    person.ok("cancel", name, "--yes")
    person.until(name, "cancelled")


def storage(cloud: Cloud) -> Any:
    return json.loads(cloud.odc("disk", "list", "--json").out)


def test_a_disk_that_is_rewritten_again_and_again_leaves_others_room(small: Cloud, cara: Person, dora: Person) -> None:
    dora.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "steady", "--disk", "own", "--wait")
    for number in range(9):
        rewrite(cara, f"r{number}")
    eventually("there is room", lambda: storage(small)["level"] == "ok")
    written = dora.in_box("steady", FILL.format(FULL))
    assert written.code == 0, written
    listed = small.odc("disk", "list").out
    assert listed.startswith("Disk storage: ")
    assert cara.name in listed
    assert re.search(r"^own .* steady +[0-9a-f]{8}$", listed, re.MULTILINE), listed
    dora.ok("cancel", "steady", "--yes")
    dora.until("steady", "cancelled")


def test_an_operator_frees_space_and_sees_before_what_goes(small: Cloud, cara: Person) -> None:
    rewrite(cara, "before", 30_000_000)
    rewrite(cara, "after", 30_000_000)
    disk = next(one for one in storage(small)["disks"] if one["owner"] == cara.name)
    older = [snapshot["id"] for snapshot in disk["snapshots"][:-1]]
    assert older
    shown = small.odc("disk", "prune", "--user", cara.name, "--dry-run").out
    assert all(name in shown for name in older)
    refused = small.odc("disk", "prune", "--user", cara.name, check=False)
    assert refused.code == 2
    assert "--yes" in refused.err
    same = next(one for one in storage(small)["disks"] if one["owner"] == cara.name)
    assert [snapshot["id"] for snapshot in same["snapshots"][:-1]] == older
    done = small.odc("disk", "prune", "--user", cara.name, "--yes").out
    freed = re.search(r"Freed ([0-9.]+) [MG]iB", done)
    assert freed is not None, done
    assert float(freed[1]) > 0
    left = next(one for one in storage(small)["disks"] if one["owner"] == cara.name)
    assert len(left["snapshots"]) == 1
    assert left["deleting"] == 0
    assert not [path for path in (small.state / "blobs").rglob(f"{older[0]}*") if path.is_file()]
    again = small.odc("disk", "prune", "--yes").out
    assert "No snapshot can be deleted" in again


def test_doctor_says_how_much_disks_may_hold_together(small: Cloud) -> None:
    assert "disk sizes" in small.odc("doctor", check=False).out


def test_df_and_show_say_how_full_the_disk_is(small: Cloud, dora: Person) -> None:
    dora.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "look", "--disk", "seen", "--wait")
    assert dora.in_box("look", "df -h ~ | tail -1").out.split()[:2] == ["disk/seen", "128M"]
    assert dora.in_box("look", "head -c 60000000 /dev/urandom > data && sync").code == 0

    def used() -> bool:
        return dora.in_box("look", "df -m ~ | tail -1").out.split()[2] in ("58", "59")

    eventually("df shows what was written", used)
    eventually("show does too", lambda: re.search(r"seen, 5[789] of 128 MiB", dora.ok("show", "look")))
    dora.ok("cancel", "look", "--yes")
