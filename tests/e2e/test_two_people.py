"""Two Unix users of one machine, by the installed commands: they queue behind each other, and never meet."""

from __future__ import annotations

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.terminal import terminal
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs, pytest.mark.deployments]

SMALL = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "none")
PRIVATE = (
    "name",
    "cause",
    "ended_by",
    "reason",
    "waits_for",
    "ahead",
    "disk",
    "snapshot",
    "boxes",
    "phases",
    "trouble_kind",
    "trouble",
    "host_key",
)


def test_two_users_queue_behind_each_other_and_the_promise_comes_true(ada: Person, ben: Person, cloud: Cloud) -> None:
    whole = ("reserve", "-t", "h100", "-g", str(cloud.largest), "-h", "1", "--disk", "none")
    ada.ok(*whole, "-n", "first", "--wait")
    ben.ok(*whole, "-n", "second", "--no-wait")
    waiting = eventually("a promise", lambda: (v := ben.view("second"))["ready_by"] and v)
    assert (waiting["state"], waiting["queue_position"]) == ("queued", 1)
    assert waiting["ahead"] == f"{ada.name}, {cloud.largest} x h100"
    with terminal(ben, "gpu-dev", "connect", "second", "--", "nvidia-smi", "-L") as screen:
        screen.expect("Starts by", "waiting in the queue, position 1")
        assert ada.in_box("first", "nvidia-smi -L").out.count("GPU ") == cloud.largest
        ada.ok("cancel", "first", "--yes")
        shown = screen.expect("placed", cloud.nodes["h100"])
        assert screen.ended() == 0
    assert "in the queue" not in shown
    ready = ben.view("second")
    assert ready["active_at"] <= waiting["ready_by"]


def test_users_cannot_see_or_touch_each_others_boxes(ada: Person, ben: Person) -> None:
    ada.ok(*SMALL, "-n", "mine", "--wait")
    view = ada.view("mine")
    for verb in ("show", "cancel", "connect", "wait"):
        for reference in ("mine", view["id"][:8]):
            refused = ben.gpu_dev(verb, reference)
            assert refused.code == 2
            assert "you have no reservation" in refused.err
    by_id = {
        ("cancel", view["id"], "--yes"): f"may not change {view['id'][:8]}: it is {ada.name}'s",
        ("show", view["id"], "--history"): f"may not see {view['id'][:8]}: it is {ada.name}'s",
        ("connect", view["id"]): f"is {ada.name}'s, not yours",
        ("reserve", "--like", view["id"]): f"is {ada.name}'s, not yours",
    }
    for command, told in by_id.items():
        refused = ben.gpu_dev(*command)
        assert (refused.code, refused.out) == (2, "")
        assert told in refused.err
    assert "gpu-dev reserve -t t4 -g 1 -h 0.5" in ben.gpu_dev("reserve", "--like", view["id"]).err
    ssh = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes")
    server = view["boxes"][0]["ssh"]
    assert ben.run(*ssh, "-p", str(server["port"]), f"dev@{server['host']}", "true").code == 255
    assert ada.view("mine")["state"] == "active"


def test_of_anothers_reservation_only_what_is_public_is_told(ada: Person, ben: Person) -> None:
    ada.ok(*SMALL, "-n", "quiet", "--wait")
    view = ada.view("quiet")
    empty = {key: type(value)() if value is not None else None for key, value in view.items() if key in PRIVATE}
    for told in (ben.json("list", "--user", "all"), ben.json("list", "--user", ada.name)):
        seen = next(entry for entry in told["reservations"] if entry["id"] == view["id"])
        assert {key: seen[key] for key in empty} == empty
        assert (seen["owner"], seen["gpu_type"], seen["gpus"], seen["mine"]) == (ada.name, "t4", 1, False)
    for screen in (ben.ok("show", view["id"]), ben.ok("list", "--user", "all"), ben.ok("avail"), ben.ok("status")):
        assert "quiet" not in screen
        assert "ssh" not in screen


def test_files_of_one_user_are_closed_to_the_other(ada: Person, ben: Person, cloud: Cloud) -> None:
    ada.ok(*SMALL, "-n", "files", "--wait")
    inside = ada.run("find", ".gpu-dev").out.split()
    assert any(path.endswith("-sshconfig") for path in inside)
    for path in inside:
        assert ben.run("cat", str(ada.home / path)).code != 0
    assert ben.run("find", str(cloud.state)).code != 0
