"""Two clouds on one machine: each has its own boxes, and what one has is refused to the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import left_of, reserve, rules_of, stranger

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def test_boxes_of_both_run_and_the_end_of_one_cloud_leaves_the_other_alone(
    cloud: Cloud, spare: Cloud, ada: Person, dora: Person
) -> None:
    reserve(ada, "here", disk="mine")
    reserve(dora, "there", disk="mine")
    assert (ada.in_box("here", "cat file").out, dora.in_box("there", "cat file").out) == ("here\n", "there\n")
    networks, rules, memory = cloud.networks(), rules_of(cloud), ada.in_box("here", "free -b | awk '/Mem:/{print $2}'")
    spare.odc("down", "--all", "--yes")
    assert left_of(spare) == []
    assert ada.in_box("here", "cat file").out == "here\n"
    assert (cloud.networks(), rules_of(cloud)) == (networks, rules)
    assert len(networks) == len(rules) == 1
    assert ada.in_box("here", "free -b | awk '/Mem:/{print $2}'") == memory
    reserve(ada, "more")
    assert ada.view("here")["state"] == "active"


def test_one_name_in_two_clouds_leads_into_the_right_box_and_goes_with_its_cloud(
    cloud: Cloud, spare: Cloud, ada: Person
) -> None:
    there = {"GPU_DEV_ENDPOINT": f"unix://{spare.socket}"}
    one = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "twin", "--disk", "none", "--wait", "--yes")
    ada.ok("config", "ssh-include", "enable")
    names = {}
    try:
        for mark, endpoint in (("here", {}), ("there", there)):
            ada.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub", **endpoint)
            ada.ok(*one, **endpoint)
            ada.in_box("twin", f"echo {mark} > mark", **endpoint)
            names[mark] = f"twin.{json.loads(ada.ok('config', 'show', '--json', **endpoint))['context']}"
        assert {mark: ada.run("ssh", name, "cat mark").out for mark, name in names.items()} == {
            "here": "here\n",
            "there": "there\n",
        }
        neither = ada.run("ssh", "twin", "cat mark")
        assert (neither.code, all(name in neither.err for name in names.values())) == (255, True)
        for mark, current in (("there", spare), ("here", cloud)):
            ada.ok("config", "set", "endpoint", f"unix://{current.socket}")
            ada.ok("list")
            assert ada.run("ssh", "twin", "cat mark").out == f"{mark}\n"
        spare.odc("down", "--all", "--yes")
        ada.ok("list")
        assert ada.run("ssh", "twin", "cat mark").out == "here\n"
        assert names["there"] not in ada.run("bash", "-c", "cat .gpu-dev/*-sshconfig").out
        assert ada.run("bash", "-c", "ls .gpu-dev/*-sshconfig | wc -l").out == "1\n"
    finally:
        ada.ok("config", "set", "endpoint", "")
        ada.ok("config", "ssh-include", "disable")


def test_what_another_cloud_has_is_refused_by_its_name_and_setting_and_nothing_starts(
    cloud: Cloud, spare_cloud: Cloud
) -> None:
    theirs: dict[str, Any] = {**cloud.settings, "disks": str(cloud.state / "disks")}
    for name in ("cloud", "socket", "ports", "network", "disks"):
        refused = stranger(spare_cloud, f"same-{name}", **{name: theirs[name]}).odc("up", check=False)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith(f"error: {name} ")
        assert f"is taken by the cloud {cloud.name!r}, whose state is in {cloud.state}" in refused.err
        assert f"{name} = … in the settings" in refused.err
        assert not (spare_cloud.folder / f"same-{name}").exists()
    assert cloud.is_ready()


def test_a_cloud_whose_daemon_is_down_still_has_what_its_boxes_use(spare: Cloud) -> None:
    spare.odc("down")
    network = spare.settings["network"]
    refused = stranger(spare, "rival", network=network).odc("up", check=False)
    assert refused.code == 1
    assert f"error: network {network} is taken by the cloud {spare.name!r}" in refused.err
    assert not (spare.folder / "rival").exists()
