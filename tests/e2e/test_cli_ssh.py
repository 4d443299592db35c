"""`ssh`, `scp`, `sftp` and forwarding by name; and what works while the ODC daemon does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.lane import listening_port

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


@pytest.fixture
def box(ada: Person) -> Iterator[Person]:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "train", "--disk", "none", "--wait")
    ada.ok("config", "ssh-include", "enable")
    yield ada
    ada.ok("config", "ssh-include", "disable")


def test_the_tools_of_openssh_work_by_name(box: Person) -> None:
    (box.home / ".gpu-dev").stat()
    shown = box.run("ssh", "-G", "train").out.splitlines()
    ssh = box.view("train")["boxes"][0]["ssh"]
    assert f"hostname {ssh['host']}" in shown
    assert f"port {ssh['port']}" in shown
    assert box.run("bash", "-c", "echo there > there && scp -q there train:moved").code == 0
    assert box.run("ssh", "train", "cat moved").out == "there\n"
    assert box.run("sftp", "-q", "-b", "-", "train", input="get moved back\n").code == 0
    assert box.run("cat", "back").out == "there\n"
    near = listening_port(0)
    forwarded = f"ssh -f -L {near}:localhost:22 train sleep 3 && exec 3<>/dev/tcp/127.0.0.1/{near} && head -c 4 <&3"
    assert box.run("bash", "-c", forwarded).out.startswith("SSH-")


def test_connect_forwards_the_agent(box: Person) -> None:
    added = "ssh-add -q ~/.ssh/id_ed25519 && gpu-dev connect train -- ssh-add -l"
    done = box.run("ssh-agent", "bash", "-c", added)
    assert done.code == 0, done
    assert "ED25519" in done.out


def test_while_the_cloud_is_away_boxes_are_reached_and_old_rows_are_marked(box: Person, cloud: Cloud) -> None:
    box.ok("list")
    cloud.odc("down")
    try:
        listed = box.gpu_dev("list")
        assert listed.code == 1
        assert listed.out.startswith("STALE, as of ")
        assert "train" in listed.out
        assert "start it  " in listed.err
        assert " up\n" in listed.err
        assert box.in_box("train", "echo in").out == "in\n"
        box.run("bash", "-c", "printf 'Host *\\n  RevokedHostKeys /nosuch\\n' >> .ssh/config")
        advised = box.in_box("train", "echo in")
        assert advised.out == "in\n"
        assert "in the way   ~/.ssh/config:3: RevokedHostKeys /nosuch" in advised.err
        for command in ("show", "cancel", "wait", "avail", "status"):
            done = box.gpu_dev(command, "--json")
            assert (done.code, done.out) == (1, ""), command
            assert json.loads(done.err)["error"] == "ProviderUnavailable"
    finally:
        box.run("rm", ".ssh/config")
        cloud.odc("up")


def test_a_closed_or_narrow_reader_gets_no_traceback(box: Person) -> None:
    for line in ("gpu-dev list | head -1", "gpu-dev list >&-", "gpu-dev show $'\\xff'", "gpu-dev show $'gr\\xc3\\xb6'"):
        done = box.run("bash", "-c", line, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert "Traceback" not in done.err, line
        assert "\x1b" not in done.out, line
