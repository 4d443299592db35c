"""`odc down`: stop the daemon and leave the boxes; or, with `--all`, end everything in order and leave nothing."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from odc.api.client import Client
from odc.api.connectors import settings_note
from odc.domain.box import BoxSeen
from odc.domain.commands import odc
from odc.domain.errors import ProviderError, ProviderUnavailable
from odc.host import poll_until
from odc.operator import systemd
from odc.operator.backend import Backend, MakeBackend, Say
from odc.operator.daemon_state import daemon_pid, only_one, running_settings
from odc.operator.hints import gpu_dev
from odc.operator.host_claims import forget_claim, is_alone, one_command
from odc.operator.settings import Settings
from odc.operator.up import started, wait_until_ready
from odc.ports.cluster import Cluster

END_LIMIT_S = 300.0
AGAIN_S = 2.0
STOP_LIMIT_S = 45.0
PAUSE_S = 0.05


def down(settings: Settings, make_backend: MakeBackend, file: Path | None, everything: bool, say: Say) -> None:
    """Stop the daemon and disable its start at boot; with `everything`, end all reservations first.

    Args:
        settings: of the cloud; those of a running daemon override them.
        make_backend: makes the backend of the settings in effect.
        file: the settings file.
        everything: cancel every reservation, then delete boxes without a record, and leave nothing running or mounted.
            Records and disks stay.
        say: called with each step, as a sentence.

    Raises:
        ProviderError: something does not end; nothing was removed by force.
    """
    state = settings.state_folder
    if not state.is_dir():
        say(f"There is no cloud in {state}.")
        return
    with one_command("down", settings, say):
        _down(settings, make_backend, file, everything, say)


def _down(settings: Settings, make_backend: MakeBackend, file: Path | None, everything: bool, say: Say) -> None:
    """See `down`; no other command starts or stops the cloud meanwhile."""
    state = settings.state_folder
    was_up = daemon_pid(state) is not None
    _resume(state)
    ours = _settings_of(settings, was_up)
    backend = make_backend(ours)
    if everything:
        _end_reservations(ours, backend, file, was_up, say)
    _stop_daemon(ours)
    if everything:
        with only_one(state):  # an `odc serve` that is typed now must not find half of what it needs
            _end_strays(ours, backend, say)
            _leave_nothing(ours, backend)
        say("Everything is down. Records and disks are kept.")
    elif was_up:
        say("The daemon is down; boxes go on. Start it again: " + odc("up"))
    elif _nothing_left(backend):
        say("The daemon is down already, and no reservation is left. Start it: " + odc("up"))
    else:
        end = ". End them too: " + odc("down --all")
        say("The daemon is down already; boxes go on. Start it: " + odc("up") + end)


def _settings_of(settings: Settings, was_up: bool) -> Settings:
    """Return the settings of the running daemon; if none runs, the given settings with the options of the last one."""
    last = running_settings(settings.state_folder)
    if last is None or was_up:
        return last or settings
    return msgspec.structs.replace(
        settings, simulate=settings.simulate or last.simulate, disks=settings.disks or last.disks
    )


def _end_reservations(settings: Settings, backend: Backend, file: Path | None, was_up: bool, say: Say) -> None:
    """End every reservation. Only a daemon can do that, so one is started if none runs."""
    if was_up:
        wait_until_ready(settings, 0, lambda: daemon_pid(settings.state_folder) is None)
        _end_all(settings, say)
        return
    count = _live_records(backend)
    if not count:
        return
    _forget_boot(settings)
    say(f"{_counted(count)} not ended; the daemon is started for that")
    typed = {"simulate": settings.simulate or None, "disks": settings.disks or None}
    with started(settings, backend, file, typed, at_boot=False) as (since, died):
        wait_until_ready(settings, since, died)
        _end_all(settings, say)


def _forget_boot(settings: Settings) -> None:
    """Disable the daemon's start at boot."""
    if systemd.is_enabled(settings.cloud):
        systemd.disable(settings.cloud)


def _live_records(backend: Backend) -> int:
    """Return how many recorded reservations are not ended; 0 without records."""
    if not backend.records.exist():
        return 0
    with backend.records.open() as store:
        stored = store.observe()
    return len(stored.reservations) + len(stored.unreadable)


def _nothing_left(backend: Backend) -> bool:
    """Whether the records say that no reservation is left; False if they cannot be read."""
    try:
        return not _live_records(backend)
    except ProviderError:
        return False


def _counted(count: int) -> str:
    return "1 reservation is" if count == 1 else f"{count} reservations are"


def _end_all(settings: Settings, say: Say) -> None:
    """Ask until every reservation has ended, also those that are made meanwhile."""
    client = Client(settings.socket)
    deadline = time.monotonic() + END_LIMIT_S
    asked_at = 0.0
    told = False
    try:
        while live := client.reservations(user="all").reservations:
            if time.monotonic() - asked_at > AGAIN_S:
                client.end_all()
                asked_at = time.monotonic()
            if not told:
                say(f"{_counted(len(live))} ending; disks are made safe first")
                told = True
            if time.monotonic() > deadline:
                names = ", ".join(f"{view.name} ({view.id[:8]}) of {view.owner}" for view in live)
                why = ("see why", f"{gpu_dev(settings)} show {live[0].id[:8]}")
                raise ProviderUnavailable(f"these do not end: {names}", why)
            time.sleep(PAUSE_S)
    finally:
        client.close()


def _resume(state: Path) -> None:
    """Let a suspended daemon run: it neither answers nor acts on a signal to end."""
    if pid := daemon_pid(state):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _stop_daemon(settings: Settings) -> None:
    """Stop the daemon and wait until it has exited; does nothing if none runs.

    Raises:
        ProviderUnavailable: it does not exit; the message says how to kill it, which is safe.
    """
    _forget_boot(settings)

    def has_stopped() -> bool:
        pid = daemon_pid(settings.state_folder)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)
        return pid is None

    stopped = poll_until(has_stopped, STOP_LIMIT_S, PAUSE_S)
    if not stopped and (pid := daemon_pid(settings.state_folder)) is not None:
        raise ProviderUnavailable(f"the daemon (process {pid}) does not stop", ("by force", f"kill -9 {pid}"))


def _end_strays(settings: Settings, backend: Backend, say: Say) -> None:
    """End the boxes that no record knows, which ODC leaves alone otherwise: now the operator has said so. Networks and
    files of boxes that are gone are deleted too; a daemon does that only from time to time.
    """
    with backend.boxes() as cluster:
        if cluster is None:
            return
        for box in cluster.list_boxes():
            say(f"ending box {box.name}, which no record knows; its disk stays as it is")
            _end_box(cluster, box, timedelta(seconds=settings.limits.grace_s))
        for reservation_id, attempt in cluster.list_remains():
            cluster.clean_up(reservation_id, attempt)


def _end_box(cluster: Cluster, box: BoxSeen, grace: timedelta) -> None:
    """End the box, and wait until it is gone.

    Raises:
        ProviderUnavailable: it does not end.
    """
    limit_s = grace.total_seconds() + STOP_LIMIT_S
    if not poll_until(lambda: cluster.end_box(box.name, box.uid, grace), limit_s, PAUSE_S):
        raise ProviderUnavailable(f"box {box.name} does not end")


def _leave_nothing(settings: Settings, backend: Backend) -> None:
    """Stop the services of boxes and remove the host claim. All boxes are deleted; records and disks stay."""
    backend.teardown(is_alone(settings))
    forget_claim(settings)
    settings_note(settings.socket).unlink(missing_ok=True)
