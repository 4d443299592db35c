"""While one waits, each thing is told once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.unit.cli.screen import NOW, a_queued, a_view, an_output, text_of

from odc.api.messages.reservations import PhaseView, ReservationView
from odc.cli.context import Session
from odc.cli.follow import Follower


def told(*views: ReservationView, known: ReservationView | None = None) -> list[str]:
    session = Session(home=Path("/nowhere"), output=an_output(), now=lambda: NOW)
    follower = Follower(session, known)
    for view in views:
        follower.tell(view)
    return text_of(session.output.err).splitlines()


def phases(*seconds: float | None) -> tuple[PhaseView, ...]:
    names = ("disk", "box", "ssh")
    return tuple(PhaseView(name=n, seconds=s) for n, s in zip(names, seconds, strict=False))


def test_a_promise_is_told_once_until_it_is_another() -> None:
    earlier = a_queued(ready_by=NOW + timedelta(minutes=10))
    assert told(a_queued(), a_queued(version=4), earlier) == [
        "Starts by 14:42 (in 38 min) at the latest. Ahead: user2, 8 x h100.",
        "Starts by 14:14 (in 10 min) at the latest. Ahead: user2, 8 x h100.",
    ]


def test_what_the_user_has_read_is_not_told_again() -> None:
    assert told(a_queued(), known=a_queued()) == []


def test_a_phase_is_told_when_it_is_done() -> None:
    preparing = [a_view(state="preparing", phases=phases(*done)) for done in ([None], [0.2, None], [0.2, 0.3, 0.1])]
    assert told(*preparing) == [
        "  placed           node-1, GPUs 0-3",
        "  disk     0.2 s",
        "  box      0.3 s",
        "  ssh      0.1 s",
    ]


def test_another_attempt_tells_its_own_phases() -> None:
    first = a_view(state="preparing", phases=phases(0.2))
    back = a_view(state="ending", requeue=True, reason="its node was lost", phases=phases(0.2))
    second = a_view(state="preparing", attempt=2, phases=phases(0.5))
    lines = told(first, back, a_queued(attempt=1), second)
    assert "  goes back to the queue: its node was lost" in lines
    assert lines.count("  placed           node-1, GPUs 0-3") == 2
    assert lines[-1] == "  disk     0.5 s"


def test_the_start_of_a_reservation_that_ends_already_is_not_printed() -> None:
    ending = a_view(state="ending", phases=phases(0.2, 0.3, 0.1))
    ended = a_view(state="cancelled", phases=(*ending.phases, PhaseView(name="snapshot", seconds=0.4)))
    assert told(ending, ended) == ["  ending", "  snapshot 0.4 s"]


def test_trouble_is_told() -> None:
    assert told(a_queued(trouble="the engine does not answer"))[-1] == "  the engine does not answer; it is tried again"


def test_when_piped_there_is_no_passing_line() -> None:
    assert not any("\x1b" in line for line in told(a_queued(), a_view(state="preparing", phases=phases(None))))
