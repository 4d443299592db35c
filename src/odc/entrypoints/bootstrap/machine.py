"""The daemon that serves one machine's users, `odc serve`: folder lock, host claim and socket around `run_cloud`.

Boxes outlive it. They run on the machine itself or in a Kubernetes cluster.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Protocol

from odc.api.unix_socket import UnixServer, recognizer
from odc.entrypoints.bootstrap.cloud import MachineCloud
from odc.entrypoints.bootstrap.run_cloud import run_cloud
from odc.operator.backend import Backend
from odc.operator.daemon_state import noted, only_one
from odc.operator.hints import note_settings_file
from odc.operator.host_claims import claimed, keep_claim
from odc.operator.ownership import note_owner
from odc.operator.preflight import check_before_start
from odc.operator.settings import Settings

log = logging.getLogger(__name__)


class ServedBackend(Backend, Protocol):
    """A backend from which a daemon is made."""

    def build(self) -> MachineCloud:
        """Open the records, and start what boxes need.

        Raises:
            ProviderError, InvalidRequest: a component is missing; the message says what to do.
        """


def serve(settings: Settings, backend: ServedBackend, file: Path | None = None) -> None:
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
            _run(cloud, settings, backend.lent_gpus(), stop)
        finally:
            cloud.close()
    log.info("stopped")


def _run(cloud: MachineCloud, settings: Settings, gpus: tuple[str, ...], stop: threading.Event) -> None:
    # Not the process id: we have the lock of the state folder, so an earlier daemon is dead and its lease is ours.
    holder = f"{socket.gethostname()}:{settings.state_folder}"
    recognize = recognizer(frozenset(settings.admins), cloud.find_lender)
    run_cloud(
        cloud,
        holder,
        lambda app: UnixServer(app, Path(settings.socket), recognize),
        lambda server: _keep_run_files(settings, gpus, server),
        stop,
    )


def _keep_run_files(settings: Settings, gpus: tuple[str, ...], server: UnixServer) -> None:
    """Restore files that were deleted from `/run`: the socket, and this cloud's host claim."""
    try:
        server.restore()
        if keep_claim(settings, gpus):
            log.warning("the host claim of this cloud was missing and was written again")
    except OSError as error:
        log.warning("files in /run cannot be made again", extra={"reason": str(error)})
