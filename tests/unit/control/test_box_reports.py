"""Reports of boxes: shown to people, and the ground of no decision."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.world import ADA, MINUTE, World

from odc.api.messages.reservations import BoxPhaseView, BoxReportView
from odc.api.views import reservation_view
from odc.control.queries import ReservationDetail
from odc.domain.box_report import BoxPhase, BoxReport, HomeState, ServerState
from odc.domain.reservation import Reservation, State

AT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
BAD = BoxReport(sshd=ServerState.STOPPED, home=HomeState.MISSING, keys=0, memory_kills=9, expires_at=AT, started_at=AT)


def shown(world: World, record: Reservation) -> BoxReportView | None:
    (box,) = reservation_view(ReservationDetail(world.get(record)), ADA, world.status.current).boxes
    return box.report


@pytest.mark.parametrize("report", [BAD, None])
def test_no_report_of_a_box_changes_its_reservation(report: BoxReport | None) -> None:
    world = World()
    record = world.reserve()
    world.settle()
    before = world.get(record)
    (box,) = world.cluster.peek()
    world.cluster.reports[box.name] = report
    world.pass_time(5 * MINUTE)
    assert world.get(record).state is State.ACTIVE
    assert world.get(record) == before
    assert [seen.uid for seen in world.cluster.peek()] == [box.uid]


def test_the_report_of_a_box_is_shown_and_an_unknown_one_is_none() -> None:
    world = World()
    record = world.reserve()
    (box,) = world.cluster.peek()
    world.cluster.reports[box.name] = BoxReport(
        sshd=ServerState.RUNNING, home=HomeState.READY, keys=2, phases=(BoxPhase("setup", 0.04),)
    )
    world.pass_once()
    assert shown(world, record) == BoxReportView(
        sshd=ServerState.RUNNING, home=HomeState.READY, keys=2, phases=(BoxPhaseView(name="setup", seconds=0.04),)
    )
    world.cluster.reports[box.name] = None
    world.pass_once()
    assert shown(world, record) is None
