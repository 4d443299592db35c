"""What `gpu-dev` knows while the daemon does not answer: real processes, after a cloud without containers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cloud import Person
from tests.e2e.terminal import DOWN, ENTER, ESCAPE, terminal
from tests.small_cloud import SmallCloud

T4 = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "--disk", "none", "--wait")
NAMES = ("one", "two", "three", "four")


@contextmanager
def away(cloud: SmallCloud) -> Iterator[None]:
    """Nothing answers there."""
    aside = cloud.socket.with_name("aside.sock")
    cloud.socket.rename(aside)
    try:
        yield
    finally:
        aside.rename(cloud.socket)


def test_what_cannot_be_diagnosed_now_opens_no_shell(ada: Person, cloud: SmallCloud) -> None:
    ada.ok(*T4, "-n", "one")
    with away(cloud):
        refused = ada.gpu_dev("connect", "one", "--diagnose")
    assert (refused.code, refused.out) == (1, "")
    assert "there is no ODC daemon on" in refused.err


def test_the_old_list_is_as_the_last_command_saw_it(ada: Person, cloud: SmallCloud) -> None:
    ada.ok("list")
    ada.ok(*T4, "-n", "late")
    with away(cloud):
        assert " active " in ada.gpu_dev("list").out
    ada.ok("cancel", "late", "-y")
    ada.gpu_dev("wait", "late")
    with away(cloud):
        listed = ada.gpu_dev("list")
    assert listed.code == 1
    assert listed.out.startswith("STALE, as of ")
    assert "late" not in listed.out


def test_the_old_list_is_written_only_when_something_is_new(ada: Person) -> None:
    ada.ok(*T4, "-n", "kept")
    file = ada.home / ".gpu-dev/list.json"
    ada.ok("status")
    os.utime(file, (0, 0))
    before = file.stat()
    ada.ok("status")
    after = file.stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime > before.st_mtime
    ada.ok("cancel", "kept", "-y")
    assert file.stat().st_ino != before.st_ino


def test_every_command_names_the_boxes_that_are_known(ada: Person, cloud: SmallCloud) -> None:
    for name in NAMES:
        ada.ok(*T4, "-n", name)
    with away(cloud):
        for command in ("list", "show", "avail", "status", "connect"):
            done = ada.gpu_dev(command)
            assert done.code == 1
            assert "sudo odc --config FILE up" in done.err
            assert len(re.findall("^  your boxes +gpu-dev connect (?:one|two|three|four)$", done.err, re.M)) == 3, done
        elsewhere = ada.gpu_dev("show", GPU_DEV_ENDPOINT="unix:///elsewhere.sock")
        assert "your boxes" not in elsewhere.err


def test_connect_lets_one_pick_among_the_boxes_that_are_known(ada: Person, cloud: SmallCloud) -> None:
    for name in NAMES[:2]:
        ada.ok(*T4, "-n", name)
    files = sorted((ada.home / ".gpu-dev").glob("*-sshconfig"))
    second = files[1].read_text().split()[1]
    with away(cloud):
        with terminal(ada, "gpu-dev", "connect") as screen:
            screen.answer("The ODC daemon does not answer. Which of the known ones?", DOWN + ENTER)
            screen.expect(f"The ODC daemon does not answer; connecting to {second} by what was known at ")
            screen.ended()
        with terminal(ada, "gpu-dev", "connect") as screen:
            screen.answer("Which of the known ones?", ESCAPE)
            screen.expect("Cancelled.")
            assert screen.ended() == 130


def test_a_reservation_that_was_waited_for_is_cached_as_ready(ada: Person, cloud: SmallCloud) -> None:
    cloud.cluster.delay_ssh(20)  # long enough that the command sees it preparing
    try:
        ada.ok(*T4, "-n", "one")
    finally:
        cloud.cluster.delay_ssh(0)
    (kept,) = json.loads((ada.home / ".gpu-dev/list.json").read_text())["reservations"]
    assert (kept["name"], kept["state"]) == ("one", "active")
