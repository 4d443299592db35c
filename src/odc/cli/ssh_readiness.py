"""Before ssh: wait, with a note, until a box on this machine that is restarting answers."""

from __future__ import annotations

import time

from odc.api.connectors import is_local
from odc.api.messages.reservations import ReservationView, SshView
from odc.cli import screens
from odc.cli.context import Session
from odc.cli.follow import wait_for
from odc.cli.ssh_probe import answers, is_loopback
from odc.domain.status import ENDED, Status

PATIENCE_S = 60.0
PROBE_INTERVAL_S = 1.0


def wait_until_reachable(session: Session, view: ReservationView) -> ReservationView:
    """Return the reservation once its box answers, or it has ended.

    Only boxes on this machine are tried: the way to another one may lead through the user's own ssh settings. After a
    minute, ssh runs anyway so that its own error is shown.

    Raises:
        ProviderUnavailable: the daemon has not answered for two minutes.
        KeyboardInterrupt: the user gave up.
    """
    end = time.monotonic() + PATIENCE_S
    told = False
    while (
        (ssh := _here(view, session.endpoint))
        and not answers(ssh.host, ssh.port, 2 * PROBE_INTERVAL_S)
        and time.monotonic() < end
    ):
        if not told:
            session.output.note(
                f"The box of {screens.title(view)} does not answer ssh; waiting for it, it may be restarting."
            )
            told = True
        time.sleep(PROBE_INTERVAL_S)
        view = wait_until_active(session, session.client().reservation(view.id))
    return view


def wait_until_active(session: Session, view: ReservationView) -> ReservationView:
    """Return the reservation once it is active or has ended, and print its progress."""
    going_back = view.state is Status.ENDING and view.requeue
    return wait_for(session, view, (Status.ACTIVE, *ENDED, *(() if going_back else (Status.ENDING,))))


def _here(view: ReservationView, endpoint: str) -> SshView | None:
    """Return the first box's address and port if it is active and on this machine; else None."""
    if not is_local(endpoint):
        return None
    ssh = view.boxes[0].ssh if view.state is Status.ACTIVE and view.mine and view.boxes else None
    return ssh if ssh is not None and is_loopback(ssh.host) else None
