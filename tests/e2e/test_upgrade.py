"""A cloud of an earlier version, with live boxes, comes up under this one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import add_person, destroy, make_cloud
from tests.e2e.operated import left_of
from tests.e2e.recorded_cloud import VERSIONS, RecordedCloud

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest, bin_folder: Path) -> Iterator[RecordedCloud]:
    """The cloud of that version: its boxes run, its daemon does not."""
    cloud = make_cloud(bin_folder, name="upgrade", number=1)
    try:
        made = RecordedCloud(request.param, cloud, add_person(cloud, "a"))
        made.restore()
        yield made
    finally:
        destroy(cloud)


def started_at(recorded: RecordedCloud) -> dict[str, str]:
    """When the engine has started each box, by the box's id."""
    ids = recorded.containers.values()
    done = subprocess.run(["podman", "inspect", *ids], check=True, capture_output=True, text=True)
    return {str(box["Id"]): str(box["State"]["StartedAt"]) for box in json.loads(done.stdout)}


def write_in_box(recorded: RecordedCloud, name: str) -> None:
    """Write a file outside of any disk: it is in the box only."""
    (box,) = (box for box in recorded.cloud.boxes() if recorded.name_of(box["Id"]) == name)
    subprocess.run(["podman", "exec", "-u", "1000", box["Id"], "sh", "-c", f"echo {name} > ~dev/file"], check=True)


def test_a_cloud_of_an_earlier_version_goes_on(
    recorded: RecordedCloud,
) -> None:
    user, cloud = recorded.user, recorded.cloud
    write_in_box(recorded, "scratch")
    before = started_at(recorded)
    said = cloud.odc("up").out.splitlines()
    assert said[0].startswith(f'Wrote simulate = "h100=1x8,t4=1x4" to {cloud.config}: an earlier version')

    # Live boxes: not restarted, entered by the same key, with their files.
    states = {view["name"]: view["state"] for view in user.json("list", "--all")["reservations"]}
    assert states == {"first": "cancelled", "work": "active", "scratch": "active", "next": "queued"}
    for name in ("work", "scratch"):
        done = user.in_box(name, "cat /run/odc/name file; nvidia-smi -L | wc -l; sudo -n true && echo root")
        assert done.out.split() == [name, name, {"work": "8", "scratch": "1"}[name], "root"], done
    assert started_at(recorded) == before

    # Ends and promises as they were.
    for name in ("work", "scratch"):
        assert user.view(name)["expires_at"] == recorded.reservation(name)["expires_at"]
    assert user.view("next")["ready_by"] == recorded.reservation("next")["ready_by"]

    # The history of a reservation that the earlier version had ended, and its disk with its snapshot.
    told = [event["kind"] for event in user.json("show", "first", "--history")["events"]]
    assert told == ["asked", "placed", "ready", "cancelled", "stopped", "snapshot", "ended"]
    user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "again", "--disk", "old", "--wait", "--yes")
    assert user.in_box("again", "cat file").out == "first\n"

    # What the earlier version started ends under this one, and the queued reservation comes earlier than promised.
    for name in ("again", "work", "scratch"):
        user.ok("cancel", name, "--yes")
    begun = user.until("next", "active")["active_at"]
    assert begun < recorded.reservation("next")["ready_by"]
    for name in ("again", "work", "scratch"):
        user.until(name, "cancelled")
    cloud.odc("down", "--all", "--yes")
    assert left_of(cloud) == []
