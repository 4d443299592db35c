"""What `gpu-dev show` says of a box that reports that something is wrong inside."""

from __future__ import annotations

import pytest
from tests.unit.cli.screen import NOW, a_box, a_view, an_output

from odc.api.messages.reservations import BoxReportView
from odc.cli import show_screen
from odc.domain.box_report import HomeState, ServerState


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (None, ""),
        (BoxReportView(sshd=ServerState.RUNNING, home=HomeState.READY), ""),
        (BoxReportView(sshd=ServerState("later"), home=HomeState("later")), ""),
        (BoxReportView(sshd=ServerState.STOPPED, home=HomeState.READY), "sshd is not running in the box"),
        (BoxReportView(sshd=ServerState.RUNNING, home=HomeState.READ_ONLY), "the home is read-only"),
        (BoxReportView(sshd=ServerState.RUNNING, home=HomeState.MISSING), "the home is missing"),
        (
            BoxReportView(sshd=ServerState.RUNNING, home=HomeState.READY, not_set_up=("home", "ping")),
            "the box could not set up: home, ping",
        ),
    ],
)
def test_show_says_what_the_box_reports_as_wrong(report: BoxReportView | None, told: str) -> None:
    lines = show_screen.show_lines(a_view(boxes=(a_box(report=report),)), NOW, an_output())
    assert [line for line in lines if "trouble" in line] == ([f"  trouble   {told}"] if told else [])
