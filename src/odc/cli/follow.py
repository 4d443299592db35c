"""Follow a reservation until it reaches a state: prints what it waits for, and each phase with its duration."""

from __future__ import annotations

import time
from collections.abc import Callable

from odc.api.messages.reservations import PhaseView, ReservationView
from odc.cli import screens
from odc.cli.context import Session
from odc.domain.errors import ProviderUnavailable
from odc.domain.status import Status

POLL_S = 25.0
PATIENCE_S = 120.0
RETRY_S = 0.5
UNCHANGED_PAUSE_S = 1.0
"""The pause after an answer that came at once without a change, as from a server that cannot hold a wait."""


class Follower:
    """Prints each change once, to standard error: standard output may be read by a script."""

    def __init__(self, session: Session, known: ReservationView | None = None) -> None:
        self._session = session
        self._said: set[str] = {_promise_of(known)} if known else set()
        self._phases = 0
        self._attempt = 0

    def tell(self, view: ReservationView) -> None:
        """Print the changes since the last view."""
        self._session.output.progress("")
        if view.attempt != self._attempt:
            self._begin(view)
        if view.state is Status.QUEUED:
            self._queued(view)
        self._tell_phases(view.phases)
        if view.trouble:
            self._once("  " + screens.trouble_text(view) + "; it is tried again")
        if view.state is Status.ENDING:
            self._once(f"  goes back to the queue: {screens.reason_text(view)}" if view.requeue else "  ending")
        self._session.output.progress(self._under_way(view))

    def _begin(self, view: ReservationView) -> None:
        """Report a new attempt, unless the reservation is already ending."""
        self._attempt, self._phases = view.attempt, 0
        if view.state is Status.ENDING:
            self._phases = len(_done(view.phases))
        else:
            self._placed(view)

    def _tell_phases(self, phases: tuple[PhaseView, ...]) -> None:
        """Print every finished phase that was not printed yet."""
        done = _done(phases)
        for phase in done[self._phases :]:
            self._say(f"  {phase.name:<8} {phase.seconds:.1f} s   {phase.detail}".rstrip())
        self._phases = max(self._phases, len(done))

    def _placed(self, view: ReservationView) -> None:
        for box in view.boxes if view.attempt else ():
            self._say(f"  placed           {box.node}{screens.gpus_text(box.gpu_indexes)}")

    def _queued(self, view: ReservationView) -> None:
        if _promise_of(view) not in self._said:
            self._said.add(_promise_of(view))
            self._say(screens.promise_line(view, self._session.now()))

    def _under_way(self, view: ReservationView) -> str:
        """Return what the reservation waits for now: on a terminal, the last line."""
        if view.state is Status.QUEUED:
            return f"  waiting in the queue, position {view.queue_position}" if view.queue_position else "  waiting"
        running = [phase.name for phase in view.phases if phase.seconds is None]
        if running:
            return f"  {running[-1]:<8} …"
        if view.state is Status.PREPARING:
            return "  preparing …"
        return "  making the disk safe …" if view.state is Status.ENDING and view.disk else ""

    def away(self) -> None:
        """Report that the ODC daemon does not answer."""
        self._session.output.progress("")
        self._say("The ODC daemon does not answer; waiting for it. The reservation stays.")

    def back(self) -> None:
        """Report that the ODC daemon answers again."""
        self._say("The ODC daemon answers again.")

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        self._session.output.note(text)


def _done(phases: tuple[PhaseView, ...]) -> list[PhaseView]:
    return [phase for phase in phases if phase.seconds is not None]


def _promise_of(view: ReservationView) -> str:
    """Return the parts by which promises are compared: the time to the minute, and who is ahead."""
    moment = view.ready_by or view.estimate
    return f"promise {moment:%d %H:%M} {view.ahead}" if moment else f"no promise {view.ahead}"


def wait_for(session: Session, view: ReservationView, until: tuple[Status, ...]) -> ReservationView:
    """Follow the reservation unless it is in one of these states already. Raises as `follow` does."""
    return view if view.state in until else follow(session, view, until)


def _nothing(view: ReservationView) -> None:
    """For `follow`, when nothing else is to be done meanwhile."""


def _next(session: Session, view: ReservationView) -> ReservationView:
    """Return the reservation once it has changed, or as it is when the server does not wait any longer."""
    began = time.monotonic()
    answer = session.client().reservation(view.id, wait_s=POLL_S, version=view.version)
    if answer.version == view.version and time.monotonic() - began < UNCHANGED_PAUSE_S:
        time.sleep(UNCHANGED_PAUSE_S)
    return answer


def follow(
    session: Session,
    view: ReservationView,
    until: tuple[Status, ...],
    known: ReservationView | None = None,
    meanwhile: Callable[[ReservationView], None] = _nothing,
) -> ReservationView:
    """Wait until the reservation is in one of these states, and print its progress; return its view.

    If the daemon stops answering it is waited for, up to two minutes.

    Args:
        session: the command's.
        view: as it is now.
        until: states.
        known: a view whose promise the user has read already.
        meanwhile: called with each view that is waited on; may raise ProviderUnavailable as the connection does.

    Raises:
        ProviderUnavailable: the daemon has not answered for two minutes; the reservation continues.
        KeyboardInterrupt: the user interrupted; the reservation continues.
    """
    follower = Follower(session, known)
    away_since: float | None = None
    try:
        while True:
            follower.tell(view)
            if view.state in until:
                return view
            try:
                meanwhile(view)
                view = _next(session, view)
                if away_since is not None:
                    follower.back()
                away_since = None
            except ProviderUnavailable:
                if away_since is None:
                    away_since = time.monotonic()
                    follower.away()
                if time.monotonic() - away_since > PATIENCE_S:
                    raise
                time.sleep(RETRY_S)
    finally:
        session.output.progress("")
