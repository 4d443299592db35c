"""A state folder belongs to one cloud: other settings that name it are refused, and a rename takes it along."""

from __future__ import annotations

import json

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import reserve, stranger
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
COMMANDS = ("up", "down", "down --all --yes", "doctor", "clock accept", "backup /var/tmp/none/none.db")


def test_a_state_folder_of_another_cloud_is_refused_by_every_command(spare: Cloud, dora: Person) -> None:
    reserve(dora, "mine", disk="mine")
    gpus = dora.view("mine")["boxes"][0]["gpus"]
    copied = stranger(spare, "copied", **{**spare.settings, "cloud": "copied"})
    for state in ("up", "down"):
        for command in COMMANDS:
            refused = copied.odc(*command.split(), check=False)
            assert refused.code == 2, (command, refused)
            assert f'belongs to the cloud "{spare.name}", but the settings say cloud = "copied"' in refused.err
            assert f'cloud = "{spare.name}" in the settings' in refused.err
            assert refused.out == ""
        assert (spare.is_ready(), len(spare.boxes())) == (state == "up", 1)
        spare.odc("down")
    spare.odc("up")
    assert dora.in_box("mine", "cat file").out == "mine\n"
    assert dora.view("mine")["boxes"][0]["gpus"] == gpus


def test_a_cloud_is_renamed_once_nothing_carries_its_name(spare: Cloud, dora: Person) -> None:
    reserve(dora, "before", disk="kept")
    up = spare.odc("rename", "other", check=False)
    assert (up.code, "is up" in up.err) == (1, True)
    spare.odc("down")
    live = spare.odc("rename", "other", check=False)
    assert (live.code, "1 reservations are not ended" in live.err) == (1, True)
    spare.odc("down", "--all", "--yes")
    new = f"{spare.name}x"
    assert spare.odc("rename", "No Name", check=False).code == 2
    spare.odc("rename", new)
    assert spare.odc("up", check=False).code == 2
    old_settings = spare.config.read_text()
    try:
        spare.config.write_text(old_settings.replace(json.dumps(spare.name), json.dumps(new)))
        spare.odc("up")
        dora.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "renamed", "--disk", "kept", "--wait")
        assert dora.in_box("renamed", "cat file").out == "before\n"
        spare.odc("down", "--all", "--yes")
    finally:
        spare.odc("down", "--all", check=False)
        spare.odc("rename", spare.name)
        spare.config.write_text(old_settings)
    spare.odc("up")
    eventually("it is ready", spare.is_ready)
