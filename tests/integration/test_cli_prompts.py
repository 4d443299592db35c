"""The questions of `gpu-dev` on a real pseudo-terminal, against a cloud without containers."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person
from tests.e2e.terminal import CTRL_C, DOWN, ENTER, ESCAPE, SPACE, Terminal, terminal
from tests.small_cloud import SmallCloud, small_cloud
from tests.someone import someone
from tests.waiting import eventually

from odc.domain.disk import VolumeLabel
from odc.domain.errors import ProviderUnavailable

BACK = "\x7f"
GIVING_UP = pytest.mark.parametrize("key", [ESCAPE, CTRL_C], ids=["esc", "ctrl-c"])
QUESTIONS = ("GPU type?", "How many GPUs?", "For how many hours?", "Which disk", "Reserve it?")
T4 = ("reserve", "-t", "t4", "-g", "1", "-h", "1")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SmallCloud]:
    with small_cloud(tmp_path) as made:
        yield made


@pytest.fixture
def eve(cloud: SmallCloud, tmp_path: Path) -> Person:
    """With a key in the home that the cloud does not know yet."""
    return someone(cloud, tmp_path)


@pytest.fixture
def ada(eve: Person) -> Person:
    """With a key set."""
    eve.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return eve


def live(person: Person) -> list[str]:
    return [view["name"] for view in person.json("list")["reservations"]]


def to_new_disk(screen: Terminal) -> None:
    """Answer everything up to the name of a new disk."""
    screen.answer("GPU type?", ENTER)
    screen.answer("How many GPUs?", DOWN + ENTER)
    screen.answer("For how many hours?", "0.5" + ENTER)
    screen.answer("Which disk", DOWN + ENTER)
    screen.expect("Name of the new disk?")


@pytest.mark.parametrize("columns", [80, 40])
def test_a_wrong_answer_is_explained_in_full_and_stays_to_be_changed(ada: Person, columns: int) -> None:
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", columns=columns) as screen:
        to_new_disk(screen)
        screen.type("My Project" + ENTER)
        told = screen.expect("'none'\n? Name of the new disk? My Project")
        assert "and not 'all' or 'localhost' or 'none'" in re.sub(r"\s+", " ", told)
        screen.type(BACK * 10 + "my-project" + ENTER)
        screen.answer("Reserve it?", "y" + ENTER)
        assert screen.ended() == 0
    view = ada.view("my-project")
    assert (view["gpu_type"], view["gpus"], view["hours"], view["disk"]) == ("h100", 2, 0.5, "my-project")


@pytest.mark.parametrize("typed", [(), ("-n", "mine", "--disk", "none"), ("-h", "0.25", "--disk", "proj")])
def test_the_command_that_is_shown_reserves_the_same_when_it_is_pasted(ada: Person, typed: tuple[str, ...]) -> None:
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", *typed, columns=200) as screen:
        screen.answer("GPU type?", ENTER)
        screen.answer("How many GPUs?", DOWN + DOWN + ENTER)
        if "-h" not in typed:
            screen.answer("For how many hours?", "0.75" + ENTER)
        if "--disk" not in typed:
            screen.answer("Which disk", ENTER)
        shown = screen.expect("Reserve it?")
        screen.type(ENTER)
        assert screen.ended() == 0
    [name] = live(ada)
    asked = ada.view(name)
    ada.ok("cancel", "--all", "-y")
    command = next(line for line in shown.splitlines() if line.startswith("The same by one command: "))
    pasted = shlex.split(command.partition(": ")[2])
    done = ada.run(*pasted, "--json")
    assert done.code == 0, done
    again = ada.view(name)
    assert again["id"] != asked["id"]
    assert all(again[key] == asked[key] for key in ("gpu_type", "gpus", "hours", "disk", "name"))


def test_hours_that_are_typed_replace_the_default(ada: Person) -> None:
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1", "--disk", "none") as screen:
        screen.answer("For how many hours? (default: 2)", "40" + ENTER)
        screen.answer("hours must be from", "4" + ENTER)
        screen.answer("-h 4 --disk none", "y" + ENTER)
        assert screen.ended() == 0
    assert ada.view("temporary")["hours"] == 4


def test_enter_takes_the_default_hours(ada: Person) -> None:
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1", "--disk", "none") as screen:
        screen.answer("For how many hours?", ENTER)
        screen.answer("-h 2 --disk none", ENTER)
        assert screen.ended() == 0
    assert ada.view("temporary")["hours"] == 2


def test_a_disk_in_use_is_shown_and_cannot_be_chosen(ada: Person, cloud: SmallCloud) -> None:
    ada.ok(*T4, "--wait")
    ada.ok(*T4, "--disk", "proj", "--wait")
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1") as screen:
        screen.answer("For how many hours?", "1" + ENTER)
        screen.answer("default (in use by default)", ENTER)
        screen.answer("Name of the new disk?", "other" + ENTER)
        screen.answer("Reserve it?", "y" + ENTER)
        assert screen.ended() == 0
        assert "proj (in use by proj)" in screen.raw
    assert ada.view("other")["disk"] == "other"


def test_a_disk_whose_snapshot_is_being_made_can_be_chosen(ada: Person, cloud: SmallCloud) -> None:
    ada.ok(*T4, "--wait")
    cloud.volumes.faults.add("snapshot", ProviderUnavailable("the disk is slow"), times=10**6)
    ada.ok("cancel", "default", "-y")
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1") as screen:
        screen.answer("For how many hours?", "1" + ENTER)
        screen.answer("> default  (its snapshot is being made)", ENTER)
        screen.answer("Reserve it?", "y" + ENTER)
        assert screen.ended() == 0
    cloud.volumes.faults.clear()
    assert [view["disk"] for view in ada.json("list")["reservations"] if view["state"] != "ending"] == ["default"]


def test_a_disk_without_a_record_is_shown_and_cannot_be_chosen(ada: Person, cloud: SmallCloud) -> None:
    cloud.volumes.create("a" * 32, 2**30, "node-1")
    cloud.volumes.label(VolumeLabel(disk_id="a" * 32, owner=f"unix:{os.getuid()}", user="ada", name="default"))
    eventually("it is noticed", lambda: any("no record" in text for text in ada.json("status")["warnings"]))
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1", columns=100) as screen:
        screen.answer("For how many hours?", "1" + ENTER)
        recover = "has files but no record; ask for: sudo odc disk recover aaaaaaaa"
        screen.answer(f"default ({recover})", ENTER)
        screen.answer("Name of the new disk?", "default" + ENTER)
        screen.answer(f"default: {recover}\n? Name of the new disk? default", BACK * 7 + "other" + ENTER)
        screen.answer("Reserve it?", "y" + ENTER)
        assert screen.ended() == 0
    assert ada.view("other")["disk"] == "other"
    refused = ada.run("gpu-dev", *T4, "--disk", "default")
    assert "disk default has files but no record any more" in refused.err


@pytest.mark.parametrize(("typed", "code"), [("yes", 0), ("Y", 0), ("no", 130), ("N", 130)])
def test_a_confirmation_takes_yes_and_no_as_words(ada: Person, typed: str, code: int) -> None:
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1", "--disk", "none") as screen:
        screen.answer("For how many hours?", ENTER)
        screen.answer("Reserve it?", typed + ENTER)
        assert screen.ended() == code
    assert len(live(ada)) == (code == 0)


@pytest.mark.parametrize("typed", ["q", "mo", "yy", "0", "4"])
def test_a_confirmation_asks_again_for_what_is_neither_yes_nor_no(ada: Person, typed: str) -> None:
    with terminal(ada, "gpu-dev", "reserve", "--no-wait", "-t", "t4", "-g", "1", "--disk", "none") as screen:
        screen.answer("For how many hours?", ENTER)
        screen.answer("Reserve it?", typed + ENTER)
        screen.answer("Please answer y or n.", "n" + ENTER)
        assert screen.ended() == 130
    assert live(ada) == []


def test_what_follows_a_yes_does_not_answer_the_next_question(eve: Person) -> None:
    with terminal(eve, "gpu-dev", "reserve") as screen:
        screen.answer("You have set no SSH key.", "yes" + ENTER)
        shown = screen.expect("GPU type?")
        screen.read(1)
        assert "How many GPUs?" not in shown + screen.screen.text
        screen.type(CTRL_C)
        assert screen.ended() == 130


def test_yes_leaves_only_what_is_open_to_ask(ada: Person) -> None:
    with terminal(ada, "gpu-dev", "reserve", "-y", "-t", "t4", "-h", "1", "--disk", "none") as screen:
        screen.answer("How many GPUs?", ENTER)
        shown = screen.expect("Ready until")
        assert screen.ended() == 0
    assert "Reserve it?" not in shown


@GIVING_UP
def test_giving_up_at_any_question_reserves_nothing(ada: Person, key: str) -> None:
    for last in QUESTIONS:
        with terminal(ada, "gpu-dev", "reserve") as screen:
            for question in QUESTIONS[: QUESTIONS.index(last)]:
                screen.answer(question, DOWN + ENTER if question == QUESTIONS[0] else ENTER)
            screen.answer(last, key)
            assert screen.ended() == 130, last
            assert "Cancelled; nothing was reserved." in screen.screen.text
            assert screen.is_restored
    assert live(ada) == []


@GIVING_UP
def test_giving_up_at_the_name_of_a_new_disk_reserves_nothing(ada: Person, key: str) -> None:
    with terminal(ada, "gpu-dev", "reserve") as screen:
        to_new_disk(screen)
        screen.type("half" + key)
        assert screen.ended() == 130
        assert "Cancelled; nothing was reserved." in screen.screen.text
        assert screen.is_restored
    assert live(ada) == []


@pytest.mark.parametrize(("keys", "meant"), [(ENTER, "my-project"), (DOWN + ENTER, "my-porject")])
def test_a_disk_that_looks_like_a_slip_is_asked_about(ada: Person, keys: str, meant: str) -> None:
    ada.ok(*T4, "--disk", "my-project", "--wait")
    ada.ok("cancel", "my-project", "-y")
    with terminal(ada, "gpu-dev", *T4, "--disk", "my-porject") as screen:
        screen.answer("You have no disk my-porject. Did you mean my-project?", keys)
        screen.expect("Ready until")
        assert screen.ended() == 0
    assert [view["disk"] for view in ada.json("list")["reservations"]] == [meant]


@GIVING_UP
def test_giving_up_at_a_slip_reserves_nothing(ada: Person, key: str) -> None:
    ada.ok(*T4, "--disk", "my-project", "--wait")
    ada.ok("cancel", "my-project", "-y")
    ada.gpu_dev("wait", "my-project")
    with terminal(ada, "gpu-dev", *T4, "--disk", "my-porject") as screen:
        screen.answer("Did you mean my-project?", key)
        assert screen.ended() == 130
        assert "nothing was reserved" in screen.screen.text
    assert live(ada) == []


def test_a_missing_key_is_said_before_the_first_question(eve: Person) -> None:
    for half in ("id_ed25519", "id_ed25519.pub"):
        (eve.home / ".ssh" / half).unlink()
    with terminal(eve, "gpu-dev", "reserve") as screen:
        screen.expect("you have set no SSH key", "ssh-keygen -t ed25519")
        assert screen.ended() == 2
        assert "GPU type?" not in screen.screen.text


def test_the_key_that_lies_here_is_offered_before_anything_is_queued(eve: Person) -> None:
    with terminal(eve, "gpu-dev", *T4, "--disk", "none") as screen:
        screen.expect("You have set no SSH key. Use ~/.ssh/id_ed25519.pub?")
        assert live(eve) == []
        screen.type("y" + ENTER)
        screen.expect("Ready until")
        assert screen.ended() == 0
    assert eve.json("config", "show")["keys"][0]["source"] == "own"


@pytest.mark.parametrize("key", [ESCAPE, CTRL_C, "n" + ENTER], ids=["esc", "ctrl-c", "no"])
def test_a_key_that_is_declined_is_not_set_and_nothing_is_queued(eve: Person, key: str) -> None:
    with terminal(eve, "gpu-dev", *T4) as screen:
        screen.answer("You have set no SSH key.", key)
        assert screen.ended() == 130
        assert "nothing was reserved" in screen.screen.text
    assert live(eve) == []
    assert eve.json("config", "show")["keys"] == []


def test_show_and_wait_let_one_pick_among_several(ada: Person) -> None:
    ada.ok(*T4, "-n", "one", "--disk", "none", "--wait")
    ada.ok(*T4, "-n", "two", "--disk", "none", "--wait")
    for command, told in (("show", "two ("), ("wait", "Next: gpu-dev connect two")):
        with terminal(ada, "gpu-dev", command) as screen:
            screen.answer("Which one?", DOWN + ENTER)
            screen.expect(told)
            assert screen.ended() == 0


@GIVING_UP
@pytest.mark.parametrize("command", ["show", "connect", "wait"])
def test_giving_up_a_pick_says_that_nothing_happened(ada: Person, command: str, key: str) -> None:
    ada.ok(*T4, "-n", "one", "--disk", "none", "--wait")
    ada.ok(*T4, "-n", "two", "--disk", "none", "--wait")
    with terminal(ada, "gpu-dev", command) as screen:
        screen.answer("Which one?", key)
        assert screen.ended() == 130
        assert "Cancelled." in screen.screen.text
        assert screen.is_restored


@GIVING_UP
def test_giving_up_a_cancel_ends_nothing(ada: Person, key: str) -> None:
    ada.ok(*T4, "-n", "one", "--disk", "none", "--wait")
    ada.ok(*T4, "-n", "two", "--disk", "none", "--wait")
    for questions in (["Which ones?"], ["Which ones?", "End one"]):
        with terminal(ada, "gpu-dev", "cancel") as screen:
            for question in questions[:-1]:
                screen.answer(question, SPACE + ENTER)
            screen.answer(questions[-1], key)
            assert screen.ended() == 130
            assert "Nothing was cancelled." in screen.screen.text
            assert screen.is_restored
    assert live(ada) == ["one", "two"]


def test_a_wait_is_told_from_the_queue_to_the_box(ada: Person) -> None:
    whole = ("reserve", "-t", "h100", "-g", "8", "-h", "1", "--disk", "none")
    ada.ok(*whole, "-n", "first", "--wait")
    with terminal(ada, "gpu-dev", *whole, "-n", "second") as screen:
        screen.expect("Queued 8 x h100", "Starts by", "waiting in the queue, position 1")
        ada.ok("cancel", "first", "-y")
        told = screen.expect("Ready until", "gpu-dev connect second")
        assert screen.ended() == 0
    order = [told.index(words) for words in ("Queued", "Waiting.", "placed", "box ", "ssh ", "Ready until")]
    assert order == sorted(order)
    assert "waiting in the queue" not in screen.screen.text


@pytest.mark.parametrize("typed", [("-n", "big", "--disk", "proj"), ("--disk", "none"), ("--disk", "proj"), ()])
def test_the_sooner_line_starts_at_once_when_it_is_pasted(ada: Person, typed: tuple[str, ...]) -> None:
    ada.ok("reserve", "-t", "h100", "-g", "4", "-h", "1", "-n", "half", "--disk", "none", "--wait")
    with terminal(ada, "gpu-dev", "reserve", "-t", "h100", "-g", "8", "-h", "2", *typed, columns=200) as screen:
        screen.expect("Sooner: 4 x h100 now for", "gpu-dev cancel")
        shown = screen.expect("waiting in the queue")
        screen.type(CTRL_C)
        assert screen.ended() == 130
    [queued] = [view for view in ada.json("list")["reservations"] if view["state"] == "queued"]
    pasted = re.search(r"Sooner: .*(gpu-dev cancel .*)", shown)
    assert pasted, shown
    done = ada.run("bash", "-c", f"{pasted[1]} --wait")
    assert done.code == 0, done
    ready = ada.view(queued["name"])
    assert (ready["state"], ready["gpus"], ready["disk"]) == ("active", 4, queued["disk"])


@pytest.mark.parametrize("command", ["wait", "connect"])
def test_leaving_a_wait_says_how_to_come_back(ada: Person, command: str) -> None:
    whole = ("reserve", "-t", "h100", "-g", "8", "-h", "1", "--disk", "none")
    ada.ok(*whole, "-n", "first", "--wait")
    ada.ok(*whole, "-n", "second", "--no-wait")
    with terminal(ada, "gpu-dev", command, "second") as screen:
        screen.answer("waiting in the queue", CTRL_C)
        screen.expect("second stays queued. Come back: gpu-dev connect second")
        assert screen.ended() == 130
        assert screen.is_restored
    assert ada.view("second")["state"] == "queued"


@pytest.mark.parametrize("key", ["q", CTRL_C], ids=["q", "ctrl-c"])
def test_watching_redraws_in_place_and_restores_the_terminal(ada: Person, key: str) -> None:
    with terminal(ada, "gpu-dev", "list", "--watch") as screen:
        screen.expect("No reservations")
        ada.ok(*T4, "-n", "late", "--disk", "none", "--no-wait")
        screen.expect("late", "press q or Ctrl+C to quit")
        assert "No reservations" not in screen.screen.text
        screen.type(key)
        assert screen.ended() == 0
        assert screen.is_restored


@pytest.mark.parametrize("rows", [3, 4, 7])
def test_watching_never_scrolls_a_small_terminal(ada: Person, rows: int) -> None:
    for name in "abcdef":
        ada.ok("reserve", "-t", "cpu-x86", "-h", "1", "-n", name, "--disk", "none", "--no-wait")
    with terminal(ada, "gpu-dev", "list", "--watch", rows=rows) as screen:
        screen.expect("more lines", "press q or Ctrl+C to quit")
        ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "late", "--disk", "none", "--no-wait")
        hidden = 12 - rows
        screen.expect(f"… {hidden} more lines")
        screen.type("q")
        assert screen.ended() == 0
    assert len(screen.screen.lines) <= rows
    assert "\x1b[2J" not in screen.raw


def test_watching_follows_the_size_of_the_terminal(ada: Person) -> None:
    ada.ok(*T4, "-n", "one", "--disk", "none", "--wait")
    with terminal(ada, "gpu-dev", "list", "--watch", columns=80) as screen:
        screen.expect("NAME", "DISK", "node-2", "press q or Ctrl+C to quit")
        screen.resize(40, 10)
        shown = screen.expect("  disk   none", "  node   node-2", "press q or Ctrl+C to quit")
        assert shown.count("1 x t4") == 1
        screen.type("q")
        assert screen.ended() == 0
