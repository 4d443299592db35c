"""What is free now, or when; and the way to start sooner."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.cli.screen import NOW, a_queued, an_output

from odc.api.messages.cloud import Availability, ChoiceView, NodeView, StatusView, TypeView
from odc.api.messages.reservations import PublicView
from odc.cli import cloud_screens
from odc.cli.interactive import count_lines, type_lines


def at(hours: float) -> Any:
    return NOW + timedelta(hours=hours)


def a_type(name: str = "h100", **changes: Any) -> TypeView:
    defaults: dict[str, Any] = {
        "name": name,
        "has_gpus": True,
        "free": 6,
        "total": 16,
        "cordoned": 0,
        "live": 2,
        "queued": 1,
        "first_queued": PublicView(user="user2", gpus=8, gpu_type="h100"),
        "waiting": "user2, 8 x h100",
        "simulated": False,
        "node_units": 8,
        "choices": (
            ChoiceView(gpus=1, start=NOW),
            ChoiceView(gpus=2, start=NOW),
            ChoiceView(gpus=4, start=NOW, until=at(3)),
            ChoiceView(gpus=8, start=at(0.27)),
        ),
    }
    return TypeView(**(defaults | changes))


SMALL = a_type(
    "t4-small", free=2, total=2, queued=0, first_queued=None, waiting="", choices=(ChoiceView(gpus=1, start=NOW),)
)
CPU = a_type(
    "cpu-x86",
    has_gpus=False,
    free=3,
    total=4,
    queued=0,
    first_queued=None,
    waiting="",
    choices=(ChoiceView(gpus=0, start=NOW),),
)
AVAIL = Availability(now=NOW, types=(a_type(), SMALL, CPU))


def test_avail_at_80_columns() -> None:
    assert cloud_screens.avail_lines(AVAIL, NOW, an_output(80)) == [
        "TYPE      FREE  1 GPU  2 GPUs     4 GPUs    8 GPUs    WAITING",
        "h100      6/16  now    now        now, 3 h  by 14:20  user2, 8 x h100",
        "t4-small  2/2   now    -          -         -         -",
        "cpu-x86   3/4   now    (no GPUs)                      -",
        '"now, 3 h": free now for at most 3 h.',
        '"by": promised, could be sooner.',
        "Next: gpu-dev reserve",
    ]


def test_avail_at_40_columns_has_one_fact_a_line() -> None:
    lines = cloud_screens.avail_lines(AVAIL, NOW, an_output(40))
    assert lines[:3] == ["h100", "  free     6/16", "  1 gpu    now"]
    assert "  8 gpus   by 14:20" in lines
    assert lines[lines.index("cpu-x86") + 1 :][:2] == ["  free     3/4", "  start    now"]
    assert not any("(no GPUs)" in line for line in lines)
    assert max(map(len, lines)) <= 40


def test_a_busy_cloud_is_a_table_at_80_columns() -> None:
    choices = [ChoiceView(gpus=count, start=NOW, until=at(1.95)) for count in (1, 2, 4)]
    choices.append(ChoiceView(gpus=8, start=at(0.27)))
    first = PublicView(user="somebody-with-a-long-name", gpus=8, gpu_type="h100")
    busy = a_type(first_queued=first, queued=4, choices=tuple(choices))
    lines = cloud_screens.avail_lines(Availability(now=NOW, types=(busy, SMALL, CPU)), NOW, an_output(80))
    assert lines[:2] == [
        "TYPE      FREE  1 GPU       2 GPUs      4 GPUs      8 GPUs    WAITING",
        "h100      6/16  now, 1.5 h  now, 1.5 h  now, 1.5 h  by 14:20  4",
    ]


def test_tomorrow_is_called_so_in_every_screen_and_fits_80_columns() -> None:
    full = a_type(choices=tuple(ChoiceView(gpus=count, start=at(20)) for count in (1, 2, 4, 8)))
    lines = cloud_screens.avail_lines(Availability(now=NOW, types=(full, SMALL, CPU)), NOW, an_output(80))
    assert lines[:2] == [
        "TYPE      FREE  1 GPU           2 GPUs          4 GPUs          8 GPUs",
        "h100      6/16  tomorrow 10:04  tomorrow 10:04  tomorrow 10:04  tomorrow 10:04",
    ]
    assert "A time: promised, could be sooner." in lines
    assert cloud_screens.choice_cell(full.choices[0], NOW, NOW) == "by tomorrow 10:04"


def test_pretended_gpus_are_called_so() -> None:
    lines = cloud_screens.avail_lines(Availability(now=NOW, types=(a_type(simulated=True), SMALL)), NOW, an_output())
    assert "Simulated: h100." in lines


def test_a_cloud_without_nodes_says_who_can_help() -> None:
    assert "odc doctor" in cloud_screens.avail_lines(Availability(now=NOW, types=()), NOW, an_output())[0]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (None, "-"),
        (ChoiceView(gpus=1, start=None), "-"),
        (ChoiceView(gpus=1, start=NOW), "now"),
        (ChoiceView(gpus=1, start=NOW, until=at(24)), "now"),
        (ChoiceView(gpus=1, start=NOW, until=at(23)), "now, 23 h"),
        (ChoiceView(gpus=1, start=NOW, until=at(1.95)), "now, 1.5 h"),
        (ChoiceView(gpus=1, start=NOW, until=at(0.995)), "now, 59 min"),
        (ChoiceView(gpus=1, start=at(1)), "by 15:04"),
        (ChoiceView(gpus=1, start=at(24)), "by tomorrow 14:04"),
    ],
)
def test_a_cell_says_now_or_when(choice: ChoiceView | None, told: str) -> None:
    assert cloud_screens.choice_cell(choice, NOW, NOW) == told


def sooner(*choices: ChoiceView, gpus: int = 8, hours: float = 8, has_gpus: bool = True, waiting: int = 2) -> str:
    view = a_type(choices=choices, has_gpus=has_gpus, queued=waiting)
    queued = a_queued(gpus=gpus, hours=hours, ready_by=at(0.6))
    return cloud_screens.sooner_line(Availability(now=NOW, types=(view,)), queued)


def test_sooner_is_the_most_gpus_that_can_be_had_now() -> None:
    line = sooner(
        ChoiceView(gpus=2, start=NOW), ChoiceView(gpus=4, start=NOW, until=at(3.3)), ChoiceView(gpus=8, start=at(0.6))
    )
    command = "gpu-dev cancel big -y && gpu-dev reserve -t h100 -g 4 -h 3.25 -n big"
    assert line == f"Sooner: 4 x h100 now for 3.25 h      {command}"


def test_sooner_is_not_bounded_by_the_promise_that_is_given_up_for_it() -> None:
    choice = ChoiceView(gpus=4, start=NOW, until=at(0.5))
    assert "-g 4 -h 8 " in sooner(choice, waiting=1)
    assert "-g 4 -h 0.25 " in sooner(choice, waiting=2)


def test_sooner_may_be_the_same_for_a_shorter_time() -> None:
    assert "-g 8 -h 1.5" in sooner(ChoiceView(gpus=8, start=NOW, until=at(1.55)))


def test_sooner_never_offers_more_or_longer_than_was_asked_for() -> None:
    assert "-g 4 -h 8" in sooner(ChoiceView(gpus=4, start=NOW, until=at(20)))
    assert sooner(ChoiceView(gpus=8, start=NOW), gpus=4) == ""


def test_there_is_no_sooner_without_a_real_one() -> None:
    assert sooner() == ""
    assert sooner(ChoiceView(gpus=4, start=at(0.5))) == ""
    assert sooner(ChoiceView(gpus=4, start=NOW, until=at(0.1))) == ""
    assert cloud_screens.sooner_line(AVAIL, a_queued(gpu_type="b200")) == ""
    assert cloud_screens.sooner_line(AVAIL, a_queued(ready_by=None)) == ""


def test_status_shows_types_nodes_and_what_is_odd() -> None:
    node = NodeView(name="node-1", gpu_type="h100", total=8, free=0, ready=True, cordoned=True, simulated=True, boxes=1)
    silent = NodeView(
        name="node-2", gpu_type="h100", total=8, free=0, ready=False, cordoned=False, simulated=True, boxes=0
    )
    view = StatusView(
        now=NOW,
        types=(a_type(),),
        nodes=(node, silent),
        quarantined=("odc-x on node-1 holds 4 h100",),
        warnings=("the clock jumped",),  # as a server of 0.1.0 sends them
    )
    assert cloud_screens.status_lines(view, an_output(80)) == [
        "TYPE  TOTAL  FREE  LIVE  QUEUED",
        "h100  16     6     2     1",
        "",
        "NODE    TYPE  FREE  BOXES  STATE",
        "node-1  h100  0/8   1      cordoned",
        "node-2  h100  0/8   0      silent",
        "Simulated: h100.",
        "quarantined: odc-x on node-1 holds 4 h100",
        "warning: the clock jumped",
    ]


def test_status_shows_who_has_the_gpus_that_are_not_free() -> None:
    mixed = a_type(free=1, held=8, quarantined=2, unavailable=5, cordoned=8)
    view = StatusView(now=NOW, types=(mixed, a_type("a100", total=8, free=4, held=4, live=1, queued=0)), nodes=())
    assert cloud_screens.status_lines(view, an_output(80))[:3] == [
        "TYPE  TOTAL  FREE  HELD  QUARANTINED  UNAVAILABLE  CORDONED  LIVE  QUEUED",
        "h100  16     1     8     2            5            8         2     1",
        "a100  8      4     4     0            0            0         1     0",
    ]


def test_questions_show_what_is_free_now_or_when() -> None:
    full = a_type("a100", free=0, total=8, choices=(ChoiceView(gpus=1, start=at(1)),))
    avail = Availability(now=NOW, types=(a_type(simulated=True), full))
    assert type_lines(avail, NOW) == [
        ("h100  6 of 16 free (simulated)", "h100"),
        ("a100  0 of 8 free, the first by 15:04", "a100"),
    ]
    assert count_lines(avail.types[0], avail, NOW)[2:] == [(" 4  now, 3 h", 4), (" 8  by 14:20", 8)]


def test_a_users_name_is_not_taken_for_a_limit() -> None:
    first = PublicView(user="now", gpus=8, gpu_type="t4")
    full = a_type("t4", first_queued=first, choices=(ChoiceView(gpus=1, start=NOW),))
    lines = cloud_screens.avail_lines(Availability(now=NOW, types=(full,)), NOW, an_output(80))
    assert "now, 8 x t4" in lines[1]
    assert not [line for line in lines if "at most" in line]
