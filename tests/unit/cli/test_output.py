"""The terminal as a port: nothing cut when piped, nothing steered by a stranger's text, ASCII where it must be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cli.screen import Paper, an_output, text_of

from odc.cli.output import Output, fit
from odc.cli.wrap import plain
from odc.domain.commands import gpu_dev, odc
from odc.domain.errors import InvalidRequest

HEADER = ("NAME", "STATE", "NODE")
ROWS = (("train", "active", "node-1"), ("a-long-name", "queued", "-"))


def test_columns_align_under_their_titles() -> None:
    assert an_output(80).table(HEADER, ROWS) == [
        "NAME         STATE   NODE",
        "train        active  node-1",
        "a-long-name  queued  -",
    ]


def test_colours_do_not_move_columns() -> None:
    output = an_output(80, colour=True)
    rows = [(name, output.paint(state, "green"), node) for name, state, node in ROWS]
    coloured = output.table(HEADER, rows)
    assert coloured != an_output(80).table(HEADER, ROWS)
    assert [plain(line) for line in coloured] == an_output(80).table(HEADER, ROWS)


def test_spare_columns_give_way_and_then_each_row_is_a_block() -> None:
    assert an_output(20).table(HEADER, ROWS, spare=("NODE",))[0] == "NAME         STATE"
    assert an_output(15).table(HEADER, ROWS, spare=("NODE",)) == [
        "train",
        "  state  active",
        "  node   node-1",
        "a-long-name",
        "  state  queued",
    ]


@given(
    st.lists(st.tuples(*[st.text("abc 12", max_size=30)] * 3), max_size=5),
    st.one_of(st.none(), st.integers(1, 90)),
)
def test_no_fact_is_cut_at_any_width(rows: list[tuple[str, str, str]], width: int | None) -> None:
    text = "\n".join(an_output(width).table(HEADER, rows))
    assert all(cell.strip() in text for row in rows for cell in row)


def test_without_colours_nothing_is_painted() -> None:
    assert an_output().paint("active", "green") == "active"
    assert an_output(colour=True).paint("active", "green") == "\x1b[32mactive\x1b[0m"
    assert an_output(colour=True).paint("", "green") == ""


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J", "a\rb", "a\nb", "\x9b2J", "\u202eevil", "\x1b[31;1m"])
def test_a_strangers_text_cannot_steer_the_terminal(text: str) -> None:
    shown = fit(f"key {text} end", Paper())
    assert not any(sign in shown for sign in ("\x1b", "\x07", "\r", "\n", "\x9b", "\u202e"))
    assert shown.startswith("key ")
    assert shown.endswith(" end")


def test_our_own_colours_pass() -> None:
    line = an_output(colour=True).paint("active", "green")
    assert fit(line + "\x07", Paper()) == line + "?"


def test_where_there_is_no_utf8_there_is_ascii() -> None:
    assert fit("wait … größe × 2", Paper("iso8859-1")) == "wait ... grosse x 2"
    assert fit("wait …", Paper("utf-8")) == "wait …"
    assert fit("wait …", Paper("UTF8")) == "wait …"


def test_commands_name_the_cloud_that_they_are_for() -> None:
    output = an_output(endpoint="unix:///x.sock", operator=lambda: "odc --config /x.toml")
    output.lines(
        ["Next: " + gpu_dev("reserve"), "wait: " + odc("clock accept"), "sudo " + odc("up") + " && " + gpu_dev("list")]
    )
    output.note("it is known that " + gpu_dev("list") + " shows it")
    output.line("a file called gpu-dev reserve")
    assert text_of(output.out).splitlines() == [
        "Next: gpu-dev --endpoint unix:///x.sock reserve",
        "wait: odc --config /x.toml clock accept",
        "sudo odc --config /x.toml up && gpu-dev --endpoint unix:///x.sock list",
        "a file called gpu-dev reserve",
    ]
    assert text_of(output.err) == "it is known that gpu-dev --endpoint unix:///x.sock list shows it\n"
    output = an_output()
    output.line("wait: " + odc("clock accept") + "; " + gpu_dev("list"))
    assert text_of(output.out) == "wait: odc clock accept; gpu-dev list\n"


def test_an_error_says_what_to_type() -> None:
    output = an_output()
    error = InvalidRequest("disk proj is in use", ("another disk", "gpu-dev a"), ("no disk", "gpu-dev b"))
    output.error(error, as_json=False)
    assert text_of(output.out) == ""
    assert text_of(output.err) == (
        "error: disk proj is in use\n  another disk   gpu-dev a\n  no disk        gpu-dev b\n"
    )


def test_an_error_for_scripts_is_json_on_standard_error() -> None:
    output = an_output()
    output.error(InvalidRequest("no", ("try", gpu_dev("a")), ("or", "gpu-dev b")), as_json=True)
    assert json.loads(text_of(output.err)) == {
        "error": "InvalidRequest",
        "message": "no",
        "when": None,
        "hint": "gpu-dev a",
        "hints": [{"label": "try", "command": "gpu-dev a"}, {"label": "or", "command": "gpu-dev b"}],
    }
    assert text_of(output.out) == ""


def redrawn(output: Output, *screens: list[str]) -> str:
    before = 0
    for lines in screens:
        before = output.redraw(lines, "q ends", before)
    return text_of(output.out)


def test_a_screen_is_redrawn_in_its_place() -> None:
    text = redrawn(an_output(80, height=24, live=True), ["one", "two"], ["three"])
    first, second = "one\x1b[K\ntwo\x1b[K\nq ends\x1b[K\n\x1b[J", "three\x1b[K\nq ends\x1b[K\n\x1b[J"
    assert text == f"{first}\x1b[3F{second}"


def test_wrapped_lines_count_as_the_rows_that_they_take() -> None:
    text = redrawn(an_output(10, height=24, live=True), ["x" * 25], ["y"])
    assert "\x1b[4Fy\x1b[K" in text


def test_a_full_row_keeps_its_last_character() -> None:
    assert redrawn(an_output(10, height=24, live=True), ["x" * 10]).startswith("x" * 10 + "\n")


def test_a_screen_higher_than_the_terminal_says_how_much_is_hidden() -> None:
    text = redrawn(an_output(80, height=6, live=True), [f"row {n}" for n in range(10)])
    assert text.replace("\x1b[K", "") == "row 0\nrow 1\nrow 2\n… 7 more lines\nq ends\n\x1b[J"


def test_a_screen_that_just_fits_is_shown_whole() -> None:
    text = redrawn(an_output(80, height=6, live=True), [f"row {n}" for n in range(4)])
    assert "more" not in text
    assert "row 3" in text


def test_passing_lines_are_for_terminals_only() -> None:
    piped, live = an_output(20, live=True), an_output(20, live=True, err_is_terminal=True)
    piped.progress("waiting")
    live.progress("waiting " * 9)
    assert text_of(piped.err) == ""
    assert len(text_of(live.err).rpartition("\x1b[K")[2]) == 19


def test_errors_in_a_file_have_no_colours_though_the_answer_is_on_a_terminal() -> None:
    filed, seen = an_output(80, colour=True), an_output(80, colour=True, err_is_terminal=True)
    for output in (filed, seen):
        output.error(InvalidRequest("no"), as_json=False)
    assert text_of(filed.err) == "error: no\n"
    assert text_of(seen.err) == "\x1b[31merror: \x1b[0mno\n"


def test_long_lines_are_folded_on_terminals_and_never_when_piped() -> None:
    text = "Starts by 14:20 (in 38 min) at the latest."
    narrow, piped = an_output(30), an_output()
    narrow.line(text)
    piped.line(text)
    assert text_of(narrow.out) == "Starts by 14:20 (in 38 min) at\n  the latest.\n"
    assert text_of(piped.out) == text + "\n"
