"""The screens about reservations, to the letter."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tests.unit.cli.screen import ID, NOW, a_box, a_queued, a_snapshot, a_view, an_ended, an_output, waits_for

from odc.api.messages.reservations import (
    EventView,
    GivenUpView,
    History,
    OutOfMemoryView,
    PhaseView,
    ReservationView,
    WaitsForView,
)
from odc.api.messages.storage import DiskView
from odc.api.messages.users import KeySource, KeyView, Me
from odc.cli import screens, show_screen
from odc.domain.commands import Program, parts_of
from odc.domain.event_kind import EventKind
from odc.domain.status import EndCause, TroubleKind, WaitsFor

SOON = NOW + timedelta(minutes=12)
DEBUG = a_view(id="77ab3c10" + "0" * 24, name="debug", gpus=1, gpu_type="t4", expires_at=SOON, disk=None)


def test_the_list_at_80_columns() -> None:
    lines = screens.list_lines((a_view(), a_queued(), DEBUG), NOW, an_output(80))
    assert lines == [
        "NAME   ID        GPUS      STATE   UNTIL                     DISK     NODE",
        "train  b1946ac9  4 x h100  active  22:04 (8 h)               train    node-1",
        "big    5e0d22b7  8 x h100  queued  starts by 14:42           default  position 1",
        "debug  77ab3c10  1 x t4    active  14:16 (12 min) ends soon  none     node-1",
    ]


def killed(kills: int, **changes: Any) -> OutOfMemoryView:
    return OutOfMemoryView(kills=kills, last_at=NOW - timedelta(minutes=23), **{"command": "python", **changes})


def test_the_list_says_what_ran_out_of_memory() -> None:
    lines = screens.list_lines((a_view(), a_view(name="debug", out_of_memory=killed(3))), NOW, an_output(90))
    assert lines == [
        "NAME   ID        GPUS      STATE   UNTIL        DISK   NODE",
        "train  b1946ac9  4 x h100  active  22:04 (8 h)  train  node-1",
        "debug  b1946ac9  4 x h100  active  22:04 (8 h)  train  node-1  OOM 3",
    ]
    for width in (60, 40):
        assert any(
            "OOM 3" in line for line in screens.list_lines((a_view(out_of_memory=killed(3)),), NOW, an_output(width))
        )


@pytest.mark.parametrize(
    ("found", "fact"),
    [
        (killed(1), "13:41 python (1 time); the box went on"),
        (killed(2, stopped=True), "13:41 python (2 times); the box was started again"),
        (killed(4, command=""), "13:41 a process (4 times); the box went on"),
    ],
)
def test_show_says_what_was_killed_for_memory_also_afterwards(found: OutOfMemoryView, fact: str) -> None:
    for view in (a_view(out_of_memory=found), an_ended(out_of_memory=found)):
        lines = show_screen.show_lines(view, NOW, an_output())
        assert [line.strip() for line in lines if "OOM" in line] == [f"OOM       {fact}"]
    assert not any("OOM" in line for line in show_screen.show_lines(a_view(), NOW, an_output()))


def test_the_list_at_60_columns_does_without_the_nodes_and_disks() -> None:
    lines = screens.list_lines((a_view(), a_queued(), DEBUG), NOW, an_output(60))
    assert lines[0] == "NAME   ID        GPUS      STATE   UNTIL"
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("width", [None, 120, 90, 80, 75, 70, 60, 50, 40, 20])
def test_the_place_in_the_queue_is_shown_at_every_width(width: int | None) -> None:
    views = (a_view(disk="a-disk-with-a-long-name"), a_queued(ready_by=NOW + timedelta(hours=20), queue_position=7))
    lines = screens.list_lines(views, NOW, an_output(width))
    assert sum("position 7" in line for line in lines) == 1
    assert any("tomorrow 10:04" in line for line in lines)


def test_at_80_columns_the_place_in_the_queue_stands_with_the_time() -> None:
    views = (a_view(disk="a-disk-with-a-long-name"), a_queued(ready_by=NOW + timedelta(hours=20)))
    assert screens.list_lines(views, NOW, an_output(80)) == [
        "NAME   ID        GPUS      STATE   UNTIL",
        "train  b1946ac9  4 x h100  active  22:04 (8 h)",
        "big    5e0d22b7  8 x h100  queued  starts by tomorrow 10:04, position 1",
    ]


def test_the_list_at_40_columns_has_one_fact_a_line() -> None:
    lines = screens.list_lines((a_view(),), NOW, an_output(40))
    assert lines == [
        "train",
        "  id     b1946ac9",
        "  gpus   4 x h100",
        "  state  active",
        "  until  22:04 (8 h)",
        "  disk   train",
        "  node   node-1",
    ]


def test_a_piped_list_is_never_cut() -> None:
    long = a_view(name="n" * 40, disk="d" * 40)
    lines = screens.list_lines((long,), NOW, an_output())
    assert "n" * 40 in lines[1]
    assert "d" * 40 in lines[1]
    assert lines[1].endswith("node-1")


def test_the_list_of_everyone_names_the_users_and_nothing_private() -> None:
    other = a_queued(name="", owner="user2", mine=False, disk=None)
    lines = screens.list_lines((a_view(), other), NOW, an_output(100))
    assert lines[0].startswith("USER")
    assert lines[2].split()[:3] == ["user2", "-", "5e0d22b7"]


def test_pretended_gpus_are_called_so() -> None:
    assert screens.list_lines((a_view(simulated=True),), NOW, an_output(80))[-1] == "Simulated: h100."
    assert "4 x h100 (simulated)" in show_screen.show_lines(a_view(simulated=True), NOW, an_output())[0]
    assert "(simulated)" in show_screen.show_lines(an_ended(simulated=True), NOW, an_output())[0]


def test_an_empty_list_says_what_to_type() -> None:
    assert screens.list_lines((), NOW, an_output()) == [
        "No reservations now. Ended ones: gpu-dev list --all",
        "Next: gpu-dev reserve",
    ]
    assert screens.nothing_lines("me", "", ended=True) == ["No reservations.", "Next: gpu-dev reserve"]


def test_an_empty_list_never_names_what_was_typed() -> None:
    ended = "Nobody has a reservation. Ended ones: gpu-dev list --user all --all"
    assert screens.nothing_lines("all", "", ended=False) == [ended]
    assert "--all" not in screens.nothing_lines("all", "", ended=True)[0]


def test_an_end_that_has_passed_is_over_and_not_soon() -> None:
    over = a_view(expires_at=NOW - timedelta(seconds=1))
    assert screens.until_cell(over, NOW) == "14:03 (over)"
    assert screens.headline(over, NOW, an_output()).endswith("active until 14:03 (over)")


@pytest.mark.parametrize(
    ("view", "colour"),
    [
        (a_view(), "green"),
        (a_view(mine=False), ""),
        (a_view(expires_at=SOON), "yellow"),
        (a_queued(), "yellow"),
        (an_ended(), "dim"),
        (an_ended(state="failed"), "red"),
    ],
)
def test_colours_mean_something(view: ReservationView, colour: str) -> None:
    assert screens.state_colour(view, NOW) == colour


def test_show_of_an_active_one() -> None:
    disk = DiskView(name="train", size_bytes=100 * 2**30, used_bytes=12 * 2**30, created_at=NOW)
    phases = tuple(PhaseView(name=name, seconds=s) for name, s in (("disk", 0.2), ("box", 0.4), ("ssh", 0.1)))
    view = a_view(snapshot=a_snapshot(taken_at=NOW - timedelta(hours=20)), phases=phases)
    assert show_screen.show_lines(view, NOW + timedelta(minutes=2), an_output(80), disk, "train") == [
        "train (b1946ac9)   4 x h100   active until 22:04 (7 h 58 min left)",
        "",
        "  ssh       ssh train        ssh dev@10.0.0.5 -p 30122",
        "  VS Code   vscode://vscode-remote/ssh-remote+train/home/dev",
        "  Cursor    cursor://vscode-remote/ssh-remote+train/home/dev",
        "  box       train-0 on node-1, GPUs 0-3, 96 CPUs, 1024 GiB",
        "  disk      train, 12 of 100 GiB, last snapshot yesterday 18:04, verified",
        "  started   14:04, asked 14:03, ready after 0.7 s",
        "  phases    disk 0.2 s, box 0.4 s, ssh 0.1 s",
        "",
        "Next: gpu-dev connect train",
    ]


def test_show_names_the_phase_under_way_with_its_time_and_what_it_waits_for() -> None:
    under_way = PhaseView(name="ssh", seconds=None, detail="no SSH server answers", since=NOW - timedelta(seconds=40))
    view = a_view(state="preparing", active_at=None, phases=(PhaseView(name="box", seconds=0.4), under_way))
    lines = show_screen.show_lines(view, NOW, an_output(80))
    assert "  phases    box 0.4 s, ssh for 40 s: no SSH server answers" in lines


def test_show_names_nothing_that_ssh_does_not_know() -> None:
    lines = show_screen.show_lines(a_view(), NOW, an_output(80), by_name="")
    assert lines[2:4] == [
        "  ssh       ssh dev@10.0.0.5 -p 30122",
        "  names     gpu-dev config ssh-include enable",
    ]
    assert "vscode://" not in "\n".join(lines)


def test_show_of_one_whose_box_is_away_says_what_will_become_of_it() -> None:
    lines = show_screen.show_lines(a_view(boxes=(a_box(state="absent"),)), NOW, an_output(80))
    assert "  trouble   its box is not there; if that stays so it ends with the reason" in lines
    assert lines[-1] == "Look again: gpu-dev show train"


def test_show_of_a_queued_one() -> None:
    view = a_queued(trouble="the image is not there", disk_new=True)
    assert show_screen.show_lines(view, NOW, an_output(80)) == [
        "big (5e0d22b7)   8 x h100   queued, starts by 14:42 (in 38 min) at the latest",
        "",
        "  queue     position 1, behind user2, 8 x h100",
        "  disk      default, new",
        "  trouble   the image is not there; it is tried again",
        "  asked     14:03, for 8 h",
        "",
        "Wait for it: gpu-dev wait big",
    ]


def test_what_an_operator_repairs_is_shown_with_the_command() -> None:
    view = a_queued(trouble="the image is gone; the operator builds it", trouble_kind=TroubleKind.IMAGE)
    told = "the image is gone; the operator builds it: sudo odc image build"
    for lines in (show_screen.show_lines(view, NOW, an_output(80)), screens.list_lines([view], NOW, an_output())):
        (line,) = [line for line in lines if told in line]
        assert Program.ODC in {part.program for part in parts_of(line)}
    assert screens.trouble_text(a_queued(trouble="no port", trouble_kind=TroubleKind.PORTS)) == "no port"


def test_show_of_an_expired_one_says_that_the_disk_is_safe() -> None:
    lines = show_screen.show_lines(an_ended(), NOW, an_output(80))
    assert lines[0] == "train (b1946ac9)   4 x h100   expired yesterday 22:04"
    assert lines[1] == "  disk      train is safe: snapshot 22:04:41, verified, 12 GiB"
    assert lines[-1] == "Again: gpu-dev reserve --like train"


def test_a_snapshot_of_another_day_is_told_with_its_day() -> None:
    view = an_ended(snapshot=a_snapshot(taken_at=NOW - timedelta(minutes=4)))
    assert "snapshot 14:00:00" in screens.ended_sentence(view, NOW)
    older = an_ended(snapshot=a_snapshot(taken_at=NOW - timedelta(days=3)))
    assert "snapshot Sun 14:04:00" in screens.ended_sentence(older, NOW)


def test_an_unverified_snapshot_is_not_called_safe() -> None:
    view = an_ended(snapshot=a_snapshot(verified=False))
    assert "safe" not in " ".join(show_screen.show_lines(view, NOW, an_output()))
    assert "safe" not in screens.ended_sentence(view, NOW)


def test_one_that_was_never_active_left_its_disk_as_it_was() -> None:
    view = an_ended(state="cancelled", active_at=None, disk="proj")
    assert "  disk      proj is as it was" in show_screen.show_lines(view, NOW, an_output())
    sentence = screens.ended_sentence(view, NOW)
    assert "Disk proj is as it was." in sentence
    assert "snapshot" not in sentence


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"expires_at": NOW}, "it expired at 14:04. Its disk train is being made safe: gpu-dev show train"),
        ({"cause": EndCause.CANCELLED, "expires_at": NOW}, "it was cancelled. Its disk train"),
        ({}, "it was cancelled. Its disk train is being made safe: gpu-dev show train"),
        (
            {"ended_by": "ops", "reason": "by ops", "disk": None},
            "it was cancelled by ops. Again: gpu-dev reserve --like train",
        ),
        ({"reason": "its box was removed"}, "its box was removed. Its disk train is being made safe"),
    ],
)
def test_one_that_ends_says_why(changes: dict[str, Any], told: str) -> None:
    sentence = screens.end_sentence(a_view(state="ending", **changes), NOW)
    assert sentence.startswith(f"train (b1946ac9) is ending: {told}")


def test_one_that_goes_back_to_the_queue_says_so() -> None:
    view = a_view(state="ending", requeue=True, reason="its node was lost")
    assert screens.end_sentence(view, NOW) == (
        "train (b1946ac9) goes back to the queue: its node was lost. Wait for it: gpu-dev wait train"
    )


@pytest.mark.parametrize(
    ("numbers", "detail", "told"),
    [
        ({"phase": "ssh", "limit_s": 120}, "no answer", "ssh took longer than 120 s: no answer"),
        ({"limit_s": 1.5}, "", "not ready within 1.5 s: the box did not come up"),
        ({"last_attempt": 3}, "the disk is full", "the disk is full (attempt 3, the last)"),
        ({}, "port 30000 is taken", "port 30000 is taken"),
    ],
)
def test_a_start_that_was_given_up_is_told_by_its_numbers(numbers: dict[str, Any], detail: str, told: str) -> None:
    view = a_view(state="ending", requeue=True, reason="as the daemon says it", detail=detail)
    assert "queue: as the daemon says it. " in screens.end_sentence(view, NOW)
    view = msgspec.structs.replace(view, given_up=GivenUpView(**numbers))
    assert f"queue: {told}. " in screens.end_sentence(view, NOW)


def test_the_end_in_one_sentence() -> None:
    assert screens.ended_sentence(an_ended(disk="proj"), NOW) == (
        "train expired yesterday 22:04. Disk proj safe, snapshot 22:04:41 verified. Again: gpu-dev reserve --like train"
    )
    failed = an_ended(state="failed", reason="the box was removed by hand", disk=None, snapshot=None)
    assert "failed yesterday 22:04: the box was removed by hand." in screens.ended_sentence(failed, NOW)


def test_one_that_ends_says_what_comes_after() -> None:
    ending = a_view(state="ending")
    assert show_screen.show_lines(ending, NOW, an_output())[-1] == (
        "Its disk train is being made safe. Again: gpu-dev reserve --like train"
    )
    again = show_screen.show_lines(a_view(state="ending", requeue=True, reason="node lost"), NOW, an_output())
    assert again[-1].startswith("It goes back to the queue")


def test_of_anothers_reservation_only_what_is_public_is_shown() -> None:
    view = a_view(name="", owner="user2", mine=False, boxes=(), disk=None)
    text = "\n".join(show_screen.show_lines(view, NOW, an_output()))
    assert "user2" in text
    for private in ("ssh", "vscode", "disk", "train"):
        assert private not in text


def test_an_operator_sees_no_links_into_anothers_box() -> None:
    text = "\n".join(show_screen.show_lines(a_view(mine=False), NOW, an_output()))
    assert "vscode" not in text
    assert "gpu-dev connect" not in text
    assert f"gpu-dev cancel {ID[:8]}" in text


def test_a_silent_box_is_shown_as_such() -> None:
    view = a_view(boxes=(a_box(state="unreachable"),))
    assert screens.place_cell(view) == "node-1 (unreachable)"
    assert any(line.endswith("unreachable") for line in show_screen.show_lines(view, NOW, an_output()))


@pytest.mark.parametrize(
    ("indexes", "told"),
    [((), ""), ((3,), ", GPU 3"), ((0, 1), ", GPUs 0,1"), ((0, 1, 2, 3), ", GPUs 0-3"), ((0, 2, 5), ", GPUs 0,2,5")],
)
def test_gpus_are_told_by_their_places(indexes: tuple[int, ...], told: str) -> None:
    assert screens.gpus_text(indexes) == told


def test_the_promise_with_who_is_ahead() -> None:
    assert screens.promise_line(a_queued(), NOW) == (
        "Starts by 14:42 (in 38 min) at the latest. Ahead: user2, 8 x h100."
    )
    estimate = a_queued(ready_by=None, estimate=NOW + timedelta(hours=1), waits_for=None, ahead="")
    assert screens.promise_line(estimate, NOW) == "May start at 15:04 (in 1 h), when a node is added."
    assert screens.promise_line(a_queued(ready_by=None, waits_for=None, ahead=""), NOW) == "No promise yet."


def test_the_story_is_told_with_you_in_it() -> None:
    events = (
        EventView(at=NOW - timedelta(days=1), actor="octocat", kind=EventKind.ASKED, text="asked for 4 x h100"),
        EventView(at=NOW, actor="odc", kind=EventKind.PLACED, text="promised", when=NOW + timedelta(minutes=3)),
    )
    assert show_screen.history_lines(History(id=ID, name="train", events=events), "octocat", NOW) == [
        "yesterday:",
        "14:04:00  you  asked for 4 x h100",
        "today:",
        "14:04:00  odc  promised 14:07",
    ]


def test_who_one_is() -> None:
    key = KeyView(fingerprint="SHA256:abc", kind="ssh-ed25519", comment="me@laptop", source=KeySource.GITHUB)
    me = Me(user="ada", principal="unix:1000", admin=True, github_user="ada", github_fault="no answer", keys=(key,))
    text = "\n".join(screens.me_lines(me))
    for told in (
        "ada (unix:1000), operator",
        "SHA256:abc ssh-ed25519 me@laptop (GitHub)",
        "last good keys",
        "gpu-dev config set github_user NAME",
    ):
        assert told in text
    bare = msgspec.structs.replace(me, keys=(msgspec.structs.replace(key, comment=""),))
    assert "SHA256:abc ssh-ed25519 (GitHub)" in "\n".join(screens.me_lines(bare))


def test_one_that_expired_ended_at_its_time_and_not_when_its_disk_was_safe() -> None:
    ended = an_ended(ended_at=NOW - timedelta(hours=15))
    assert screens.headline(ended, NOW, an_output()).endswith("expired yesterday 22:04")
    assert screens.ended_sentence(ended, NOW).startswith("train expired yesterday 22:04.")
    assert screens.end_of(an_ended(state="cancelled", ended_at=NOW)) == NOW


def test_ones_own_ahead_is_told_as_such() -> None:
    mine, theirs = a_queued(waits_for=waits_for("user1", mine=True), owner="user1"), a_queued(owner="user1")
    assert screens.promise_line(mine, NOW).endswith("Ahead: another of yours, 8 x h100.")
    assert screens.promise_line(theirs, NOW).endswith("Ahead: user2, 8 x h100.")


def test_what_an_older_server_says_of_who_is_ahead_is_shown_as_it_came() -> None:
    older = a_queued(waits_for=None, ahead="user1, 8 x h100", owner="user1")
    assert screens.promise_line(older, NOW).endswith("Ahead: user1, 8 x h100.")


def test_ones_own_disk_ahead_is_named() -> None:
    view = a_queued(waits_for=WaitsForView(kind=WaitsFor.DISK, disk="proj"))
    assert screens.promise_line(view, NOW).endswith("Ahead: the snapshot of disk proj.")


def test_show_warns_before_the_space_outside_the_home_is_full() -> None:
    def lines(used: int) -> str:
        box = a_box(layer_used_bytes=used * 2**20, layer_bytes=20 * 2**30)
        return "\n".join(show_screen.show_lines(a_view(boxes=(box,)), NOW, an_output()))

    assert "root disk" not in lines(15000)
    assert "root disk almost full: 18 GiB of 20 GiB used outside the home; delete files in /tmp or /" in lines(18000)
    assert "root disk full: 20 GiB of 20 GiB used outside the home" in lines(20400)
