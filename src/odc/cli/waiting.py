"""Following a reservation until it is what one waits for: shows what is waited for, and each phase with its time."""

from __future__ import annotations

import time

from odc.api.messages import ReservationView
from odc.cli import times
from odc.cli.context import Session
from odc.domain.errors import ProviderUnavailable

POLL_S = 25.0
PATIENCE_S = 120.0


class Follower:
    """Tells each thing once, on standard error when the answer itself is for a script."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: set[str] = set()
        self._phases = 0
        self._attempt = 0

    def tell(self, view: ReservationView) -> None:
        """Say what is new in the view."""
        now = self._session.now()
        if view.attempt != self._attempt:
            self._attempt, self._phases = view.attempt, 0
        if view.state == "queued":
            self._queued(view)
        for phase in view.phases[self._phases :]:
            if phase.seconds is not None:
                self._say(f"  {phase.name:<9} {phase.seconds:.1f} s   {phase.detail}".rstrip())
        self._phases = len(view.phases)
        if view.trouble:
            self._once(f"  {view.trouble}; trying again")
        if view.state == "ending" and view.requeue:
            self._once(f"  goes back to the queue: {view.reason}")
        if view.state == "preparing" and view.ready_by:
            self._once(f"  preparing, ready by {times.clock(view.ready_by, now)} at the latest")

    def _queued(self, view: ReservationView) -> None:
        now = self._session.now()
        ahead = f". Ahead: {view.ahead}" if view.ahead else ""
        if view.ready_by:
            text = f"Starts by {times.until(view.ready_by, now)} at the latest{ahead}."
            self._once(text, f"{view.ready_by} {ahead}")
        elif view.estimate:
            text = f"May start {times.until(view.estimate, now)}, when a node is added{ahead}."
            self._once(text, f"{view.estimate} {ahead}")

    def _once(self, text: str, fact: str = "") -> None:
        """Say it unless this fact (or else this text) was told already."""
        if (fact or text) not in self._said:
            self._said.add(fact or text)
            self._say(text)

    def _say(self, text: str) -> None:
        self._session.output.note(text)


def follow(session: Session, view: ReservationView, until: tuple[str, ...]) -> ReservationView:
    """Wait until the reservation is in one of these states, telling what happens meanwhile.

    A cloud that goes away for a while is waited for.

    Args:
        session: the command's.
        view: as it is now.
        until: states.

    Raises:
        ProviderUnavailable: the cloud has been away for two minutes; the reservation goes on.
        KeyboardInterrupt: the user went away; the reservation goes on.
    """
    follower = Follower(session)
    away_since: float | None = None
    while True:
        follower.tell(view)
        if view.state in until:
            return view
        try:
            view = session.client().reservation(view.id, wait_s=POLL_S, version=view.version)
            away_since = None
        except ProviderUnavailable:
            if away_since is None:
                away_since = time.monotonic()
                session.output.note("The cloud does not answer; waiting for it. The reservation stays.")
            if time.monotonic() - away_since > PATIENCE_S:
                raise
            time.sleep(0.5)
