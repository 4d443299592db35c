"""The host ids of boxes: a range for each box; one for all where that does not work, as in earlier versions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, Person, add_person, destroy, make_cloud
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
RANGE = 65536
ROOM = 6
"""Ranges that there are above the base of the cloud below: for homes, and for so many ports less one."""
BASE = 2**32 - 1 - ROOM * RANGE


@pytest.fixture(scope="module")
def narrow(bin_folder: Path) -> Iterator[Cloud]:
    """A cloud whose ports need more ids than there are above its base, so that its boxes share one range."""
    made = make_cloud(bin_folder, "narrow", number=1, box_id_base=BASE, limits={"missing_s": 1, "grace_s": 2})
    try:
        made.odc("up")
        yield made
    finally:
        destroy(made)


@pytest.fixture(scope="module")
def nina(narrow: Cloud) -> Person:
    """A developer of that cloud."""
    person = add_person(narrow, "n")
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return person


def reserve(person: Person, name: str, disk: str) -> None:
    person.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", name, "--disk", disk, "--wait", "--yes")


def first_id(person: Person, name: str) -> int:
    """The host id of the box's root."""
    return int(person.in_box(name, "cat /proc/self/uid_map").out.split()[1])


def host_ids(cloud: Cloud) -> str:
    """What `odc doctor` says of them: level and text."""
    findings = json.loads(cloud.odc("doctor", "--json").out)
    return next(f"{one['level']}: {one['text']}" for one in findings if one["subject"] == "host ids")


def test_two_peoples_boxes_have_no_host_id_in_common(ada: Person, ben: Person, cloud: Cloud) -> None:
    reserve(ada, "one", "ids")
    reserve(ben, "two", "ids")
    bases = [first_id(ada, "one"), first_id(ben, "two")]
    assert abs(bases[0] - bases[1]) >= RANGE
    assert min(bases) >= cloud.settings["box_id_base"] + RANGE
    for person, name, base in ((ada, "one", bases[0]), (ben, "two", bases[1])):
        (box,) = [box for box in cloud.boxes() if box["Labels"]["odc.reservation"] == person.view(name)["id"]]
        assert Path(f"/proc/{box['Pid']}").stat().st_uid == base
        assert person.in_box(name, "touch mine && stat -c '%U %G' mine .").out == "dev dev\n" * 2


def test_where_ranges_do_not_fit_boxes_share_one_and_a_file_survives_its_box(narrow: Cloud, nina: Person) -> None:
    assert host_ids(narrow).startswith("warn: all boxes share one range of host ids, ")
    assert "all boxes share one range of host ids" in narrow.log()
    for name, script in (("one", "echo it survived > notes"), ("two", "cat notes; stat -c %U notes")):
        reserve(nina, name, "shared")
        assert first_id(nina, name) == BASE
        done = nina.in_box(name, script)
        assert done.code == 0
        nina.ok("cancel", name, "--yes")
        assert nina.until(name, "cancelled")["snapshot"]["verified"]
    assert done.out == "it survived\ndev\n"
    eventually("every mount is gone", lambda: not narrow.mounts())


@contextmanager
def fewer_ports(cloud: Cloud) -> Iterator[None]:
    """The cloud has so few ports that a range for each fits, for a while; its boxes go on at the beginning."""
    text, (first, last) = cloud.config.read_text(), cloud.settings["ports"]
    fewer = text.replace(json.dumps([first, last]), json.dumps([first, first + ROOM - 2]))
    assert fewer != text
    cloud.odc("down")
    cloud.config.write_text(fewer)
    try:
        cloud.odc("up")
        yield
    finally:
        cloud.odc("down", "--all", "--yes")
        cloud.config.write_text(text)
        cloud.odc("up")


def test_boxes_of_one_range_go_on_when_later_ones_get_their_own(narrow: Cloud, nina: Person) -> None:
    reserve(nina, "earlier", "kept")
    assert nina.in_box("earlier", "echo earlier > file && sync").code == 0
    with fewer_ports(narrow):
        _go_on(narrow, nina)


def _go_on(narrow: Cloud, nina: Person) -> None:
    assert host_ids(narrow).startswith(("ok:", "warn: " + str(BASE)))
    assert nina.in_box("earlier", "cat file").out == "earlier\n"
    reserve(nina, "later", "other")
    assert first_id(nina, "later") in {BASE + RANGE * number for number in range(1, ROOM)}
    (box,) = [box for box in narrow.boxes() if box["Labels"]["odc.reservation"] == nina.view("earlier")["id"]]
    subprocess.run(["podman", "kill", box["Id"]], check=True, capture_output=True)
    eventually("it is back", lambda: nina.in_box("earlier", "cat file").out == "earlier\n", 60)
    assert first_id(nina, "earlier") == BASE
    nina.ok("cancel", "earlier", "--yes")
    assert nina.until("earlier", "cancelled")["snapshot"]["verified"]
    reserve(nina, "again", "kept")
    assert first_id(nina, "again") > BASE
    assert nina.in_box("again", "cat file && echo more >> file && stat -c '%U %G' file").out == "earlier\ndev dev\n"
