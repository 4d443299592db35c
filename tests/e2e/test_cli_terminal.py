"""`gpu-dev` on a real pseudo-terminal: arrow keys, giving up, waiting, watching."""

from __future__ import annotations

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.terminal import CTRL_C, DOWN, ENTER, SPACE, terminal

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def reserve(person: Person, name: str, *more: str) -> None:
    person.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", name, "--disk", "none", *more)


def test_the_answers_reserve_what_the_shown_command_says(ada: Person) -> None:
    with terminal(ada, "gpu-dev", "reserve") as screen:
        screen.answer("h100     8 of 8 free", ENTER)
        screen.answer("How many GPUs?", DOWN + ENTER)
        screen.answer("For how many hours?", "0.5" + ENTER)
        screen.answer("Which disk", ENTER)
        screen.expect("The same by one command: gpu-dev reserve -t h100 -g 2 -h 0.5 --disk default")
        screen.answer("Reserve it?", "y" + ENTER)
        screen.expect("Ready until", "gpu-dev connect default")
        assert screen.ended() == 0
    view = ada.view("default")
    assert (view["gpu_type"], view["gpus"], view["hours"], view["disk"]) == ("h100", 2, 0.5, "default")


def test_cancel_ends_only_what_is_marked(ada: Person) -> None:
    reserve(ada, "one", "--wait")
    reserve(ada, "two", "--wait")
    with terminal(ada, "gpu-dev", "cancel") as screen:
        screen.answer("Which ones?", DOWN + SPACE + ENTER)
        screen.answer("End two", "y" + ENTER)
        assert screen.ended() == 0
    ada.until("two", "cancelled")
    assert ada.view("one")["state"] == "active"


def test_leaving_a_wait_leaves_it_queued_and_says_how_to_come_back(ada: Person, ben: Person) -> None:
    ada.ok("reserve", "-t", "h100", "-g", "4", "-h", "1", "-n", "half", "--disk", "none", "--wait")
    command = ("reserve", "-t", "h100", "-g", "8", "-h", "2", "-n", "big", "--disk", "none")
    with terminal(ben, "gpu-dev", *command) as screen:
        shown = screen.expect("Starts by", "Ctrl+C leaves it queued")
        # A line may break in any place: "tomorrow" makes it longer late in the evening.
        words = " ".join(shown.split())
        assert f"Ahead: {ada.name}, 4 x h100." in words
        assert "Sooner: 4 x h100 now for" in words
        screen.type(CTRL_C)
        assert screen.ended() == 130
        assert "Come back: gpu-dev connect big" in screen.screen.text
        assert screen.is_restored
    assert ben.view("big")["state"] == "queued"


def test_a_wait_outlives_the_daemon(ada: Person, ben: Person, cloud: Cloud) -> None:
    whole = ("reserve", "-t", "h100", "-g", "8", "-h", "1", "--disk", "none")
    ada.ok(*whole, "-n", "first", "--wait")
    with terminal(ben, "gpu-dev", *whole, "-n", "second") as screen:
        screen.expect("waiting in the queue, position 1")
        cloud.kill()
        screen.expect("The ODC daemon does not answer; waiting for it. The reservation stays.")
        cloud.odc("up")
        screen.expect("The ODC daemon answers again.", "waiting in the queue, position 1")
        ada.ok("cancel", "first", "--yes")
        screen.expect("Ready until", "gpu-dev connect second")
        assert screen.ended() == 0


def test_a_shell_is_a_whole_terminal(ada: Person) -> None:
    reserve(ada, "one", "--wait")
    reserve(ada, "two", "--wait")
    with terminal(ada, "gpu-dev", "connect", columns=91, rows=33) as screen:
        screen.answer("Which one?", DOWN + ENTER)
        screen.expect("two", "➜")
        screen.type("stty size; tput colors; hostname" + ENTER)
        screen.expect("\n33 91\n256\ntwo\n")
        # The process that says "started" is the one that Ctrl+C ends: the shell has given it the terminal.
        screen.type("sh -c 'echo st\"\"arted; exec sleep 1000' && echo slept" + ENTER)
        screen.expect("\nstarted\n")
        screen.type(CTRL_C)
        screen.answer("^C", "echo st''ill here" + ENTER)
        screen.expect("still here\n")
        screen.type("exit 3" + ENTER)
        assert screen.ended() == 3
        assert screen.is_restored
    assert "slept\n" not in screen.screen.text.replace("echo slept\n", "")


def test_a_command_in_the_box_ends_by_ctrl_c(ada: Person) -> None:
    reserve(ada, "one", "--wait")
    with terminal(ada, "gpu-dev", "connect", "one", "--", "echo started; sleep 1000") as screen:
        screen.answer("started", CTRL_C)
        assert screen.ended() == 130
        assert screen.is_restored
    assert "Traceback" not in screen.screen.text
    assert ada.view("one")["state"] == "active"


def test_a_slip_in_an_id_never_runs_as_a_command(ada: Person) -> None:
    reserve(ada, "train", "--wait")
    done = ada.gpu_dev("connect", "trian", "--", "echo", "ran")
    assert (done.code, done.out) == (2, "")
    assert "did you mean train?" in done.err
    assert ada.gpu_dev("connect", "--", "cat; exit 7", input="from here").out == "from here"
