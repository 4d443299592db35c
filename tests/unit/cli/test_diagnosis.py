"""What `gpu-dev connect` says where ssh got no answer that it could use."""

from __future__ import annotations

import pytest
from tests.unit.cli.screen import a_box, a_view

from odc.api.messages.reservations import BoxReportView
from odc.cli import diagnosis
from odc.domain.box_report import HomeState, ServerState


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("ssh: connect to host 127.0.0.1 port 30122: Connection refused", "it may be restarting"),
        ("Connection timed out during banner exchange", "it may be restarting"),
        ("no connection within 20 seconds", "it may be restarting"),
        ("Host key verification failed.", "Another SSH server than that of train (b1946ac9) answers at its address"),
        ("Unable to negotiate with 127.0.0.1 port 30122: no matching cipher found.", "ssh does not get into the box"),
    ],
)
def test_only_a_box_that_does_not_answer_may_be_restarting(last: str, told: str) -> None:
    lines = diagnosis.no_way_in(a_view(), last)
    assert told in lines[0]
    assert ("restarting" in lines[0]) is ("restarting" in told)
    assert lines[1] == f"  ssh     {last}"


@pytest.mark.parametrize(
    ("sshd", "told"),
    [(ServerState.STOPPED, "sshd is not running in the box of train"), (ServerState.RUNNING, "restarting")],
)
def test_a_server_that_the_box_reports_as_stopped_is_named(sshd: ServerState, told: str) -> None:
    box = a_box(report=BoxReportView(sshd=sshd, home=HomeState.READY))
    assert told in diagnosis.no_way_in(a_view(boxes=(box,)), "Connection timed out during banner exchange")[0]
