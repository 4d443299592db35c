"""Long lines on narrow terminals: no word and no command is broken, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from odc.cli.wrap import plain, wrap_line


def test_what_fits_stays_as_it_is() -> None:
    assert wrap_line("  ssh       ssh train", 40) == ["  ssh       ssh train"]


def test_a_fact_goes_on_below_itself() -> None:
    assert wrap_line("  box       train-0 on h100-node-1, GPUs 0-3, 1 CPU, 8.4 GiB", 40) == [
        "  box       train-0 on h100-node-1, GPUs",
        "            0-3, 1 CPU, 8.4 GiB",
    ]


def test_the_text_of_a_history_goes_on_below_itself() -> None:
    assert wrap_line("08:18:16  odc  placed on h100-node-1 (1 GPU); SSH answers at the latest 08:21", 60) == [
        "08:18:16  odc  placed on h100-node-1 (1 GPU); SSH answers at",
        "               the latest 08:21",
    ]
    assert wrap_line("08:18:17  someone  SSH answers, 0.6 s after the request; ends 09:18", 60) == [
        "08:18:17  someone  SSH answers, 0.6 s after the request;",
        "                   ends 09:18",
    ]


def test_each_fact_of_a_line_is_whole() -> None:
    assert wrap_line("  ssh       ssh train        ssh dev@127.0.0.1 -p 35968", 40) == [
        "  ssh       ssh train",
        "            ssh dev@127.0.0.1 -p 35968",
    ]


def test_a_command_stands_alone_and_can_be_pasted() -> None:
    command = "gpu-dev reserve -t h100 -g 1 -h 1 --disk my-project-2"
    assert wrap_line(f"  another disk   {command}", 40) == ["  another disk", f"  {command}"]
    assert wrap_line(f"The same by one command: {command}", 40) == ["The same by one command:", f"  {command}"]
    assert wrap_line("train expired 18:00. Disk proj safe. Again: gpu-dev reserve --like train", 40) == [
        "train expired 18:00. Disk proj safe.",
        "  Again: gpu-dev reserve --like train",
    ]


def test_an_address_stands_alone() -> None:
    link = "vscode://vscode-remote/ssh-remote+train/home/dev"
    assert wrap_line(f"  VS Code   {link}", 40) == ["  VS Code", f"  {link}"]


def test_a_headline_goes_on_a_step_to_the_right_and_its_facts_stay_whole() -> None:
    state = "queued, starts by 04:14 (in 3 h 50 min) at the latest"
    assert wrap_line(f"big (5e0d22b7)   8 x h100 (simulated)   {state}", 80) == [
        "big (5e0d22b7)   8 x h100 (simulated)",
        f"  {state}",
    ]
    assert wrap_line(f"big (5e0d22b7)   8 x h100   {state}", 40) == [
        "big (5e0d22b7)   8 x h100   queued,",
        "  starts by 04:14 (in 3 h 50 min) at the",
        "  latest",
    ]


def test_a_short_aside_in_brackets_is_not_broken() -> None:
    assert wrap_line("Starts by tomorrow 04:14 (in 3 h 50 min) at the latest.", 36) == [
        "Starts by tomorrow 04:14",
        "  (in 3 h 50 min) at the latest.",
    ]


def test_colours_take_no_room() -> None:
    text = "\x1b[31merror: \x1b[0m" + "x" * 33
    assert wrap_line(text, 40) == [text]


@given(
    st.lists(st.text("abc,.1", min_size=1, max_size=60), min_size=1),
    st.integers(1, 90),
    st.integers(0, 6),
    st.sampled_from([" ", "  ", "     "]),
)
def test_nothing_is_lost_and_no_word_is_broken(words: list[str], width: int, indent: int, gap: str) -> None:
    lines = wrap_line(" " * indent + gap.join(words), width)
    assert " ".join(lines).split() == words
    assert all(len(plain(line)) <= width or len(line.split()) == 1 for line in lines)
