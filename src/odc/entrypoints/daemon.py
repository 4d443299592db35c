"""The daemon, `odc serve`: the API in one thread, passes in another, tasks in a few more. Boxes outlive it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from pathlib import Path

from odc.api.app import build_app
from odc.api.unix_socket import UnixServer, recognizer
from odc.control.control_plane import ControlPlane
from odc.control.pass_loop import PassLoop
from odc.control.task_runner import ThreadRunner
from odc.operator.backend import Backend, Cloud
from odc.operator.daemon_state import noted, only_one
from odc.operator.hints import note_settings_file
from odc.operator.host_claims import claimed, keep_claim
from odc.operator.ownership import note_owner
from odc.operator.preflight import check_before_start
from odc.operator.settings import Settings

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0
"""How often the daemon checks that its socket still exists."""


def serve(settings: Settings, backend: Backend, file: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: of the cloud.
        backend: of these settings.
        file: where the settings are; None for the usual place.

    Raises:
        OdcError: the cloud cannot start; the message says what to do.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Every user of the machine must reach the socket, regardless of the umask of the shell that ran `odc up`.
    os.umask(0o022)
    check_before_start(settings, backend)
    with only_one(settings.state_folder):
        with claimed(settings, backend.lent_gpus()), noted(settings):
            cloud = backend.build()
        note_settings_file(settings, file)
        note_owner(settings.state_folder, settings.cloud)
        log.info("cloud is built", extra={"cloud": settings.cloud, "engine": cloud.engine})
        try:
            cloud.check_ports()
            _run(cloud, backend.lent_gpus(), stop)
        finally:
            cloud.close()
    log.info("stopped")


def _run(cloud: Cloud, gpus: tuple[str, ...], stop: threading.Event) -> None:
    runner = ThreadRunner(cloud.ports.wake.notify)
    plane = ControlPlane(cloud.ports, cloud.policy, runner)
    # Not the process id: we have the lock of the state folder, so an earlier daemon is dead and its lease is ours.
    loop = plane.pass_loop(holder=f"{socket.gethostname()}:{cloud.settings.state_folder}")
    app = build_app(plane, lambda caller: cloud.health(plane.status.current, caller))
    server = UnixServer(
        app, Path(cloud.settings.socket), recognizer(frozenset(cloud.settings.admins), cloud.find_lender)
    )
    passes = threading.Thread(target=_passes, args=(loop, stop), name="passes", daemon=True)
    server.start()
    passes.start()
    while not stop.wait(LOOK_AGAIN_S):
        _keep_run_files(cloud.settings, gpus, server)
    loop.stop()
    passes.join(30)
    server.stop()
    runner.close()


def _keep_run_files(settings: Settings, gpus: tuple[str, ...], server: UnixServer) -> None:
    """Restore files that were deleted from `/run`: the socket, and this cloud's host claim."""
    try:
        server.restore()
        if keep_claim(settings, gpus):
            log.warning("the host claim of this cloud was missing and was written again")
    except OSError as error:
        log.warning("files in /run cannot be made again", extra={"reason": str(error)})


def _passes(loop: PassLoop, stop: threading.Event) -> None:
    """Run passes; a bug ends the whole daemon, which is started again, rather than a daemon that does nothing."""
    try:
        loop.run()
    except BaseException:
        log.exception("the passes ended by a bug")
        stop.set()
        os._exit(70)
