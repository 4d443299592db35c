"""Following a reservation until it is what one waits for: shows what is waited for, and each phase with its time."""

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


class Follower:
    """Tells each thing once, on standard error: the answer itself may be for a script."""

    def __init__(self, session: Session, known: ReservationView | None = None) -> None:
        self._session = session
        self._said: set[str] = {_promise_of(known)} if known else set()
        self._phases = 0
        self._attempt = 0

    def tell(self, view: ReservationView) -> None:
        """Say what is new in the view."""
        self._session.output.progress("")
        if view.attempt != self._attempt:
            self._begin(view)
        if view.state is Status.QUEUED:
            self._queued(view)
        self._tell_phases(view.phases)
        if view.trouble:
            self._once(f"  {view.trouble}; it is tried again")
        if view.state is Status.ENDING:
            self._once(f"  goes back to the queue: {view.reason}" if view.requeue else "  ending")
        self._session.output.progress(self._under_way(view))

    def _begin(self, view: ReservationView) -> None:
        """Another attempt; of one that ends already the start is no news."""
        self._attempt, self._phases = view.attempt, 0
        if view.state is Status.ENDING:
            self._phases = len(_done(view.phases))
        else:
            self._placed(view)

    def _tell_phases(self, phases: tuple[PhaseView, ...]) -> None:
        """Every phase that is done and was not told yet."""
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
        """What is waited for now; on a terminal it stands below the rest."""
        if view.state is Status.QUEUED:
            return f"  waiting in the queue, position {view.queue_position}" if view.queue_position else "  waiting"
        running = [phase.name for phase in view.phases if phase.seconds is None]
        if running:
            return f"  {running[-1]:<8} …"
        if view.state is Status.PREPARING:
            return "  preparing …"
        return "  making the disk safe …" if view.state is Status.ENDING and view.disk else ""

    def away(self) -> None:
        """Say that the ODC daemon does not answer."""
        self._session.output.progress("")
        self._say("The ODC daemon does not answer; waiting for it. The reservation stays.")

    def back(self) -> None:
        """Say that it answers again."""
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
    """What makes a promise another one: to the minute, or who is ahead."""
    moment = view.ready_by or view.estimate
    return f"promise {moment:%d %H:%M} {view.ahead}" if moment else f"no promise {view.ahead}"


def wait_for(session: Session, view: ReservationView, until: tuple[Status, ...]) -> ReservationView:
    """Follow it, unless it is there already: then there is nothing to tell. Raises as `follow` does."""
    return view if view.state in until else follow(session, view, until)


def _nothing(view: ReservationView) -> None:
    """For `follow`, when nothing else is to be done meanwhile."""


def follow(
    session: Session,
    view: ReservationView,
    until: tuple[Status, ...],
    known: ReservationView | None = None,
    meanwhile: Callable[[ReservationView], None] = _nothing,
) -> ReservationView:
    """Wait until the reservation is in one of these states, telling what happens meanwhile.

    A cloud that goes away for a while is waited for.

    Args:
        session: the command's.
        view: as it is now.
        until: states.
        known: a view whose promise the user has read already.
        meanwhile: called with each view that is waited on; may raise ProviderUnavailable as the cloud does.

    Raises:
        ProviderUnavailable: the cloud has been away for two minutes; the reservation goes on.
        KeyboardInterrupt: the user went away; the reservation goes on.
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
                view = session.client().reservation(view.id, wait_s=POLL_S, version=view.version)
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
