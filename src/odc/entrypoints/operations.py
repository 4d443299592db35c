"""What the operator's commands do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from odc.adapters.engine.image import box_version
from odc.adapters.engine.lxcfs import stop_lxcfs
from odc.adapters.engine.simulated import devices_file
from odc.adapters.localdisk.volumes import open_volumes
from odc.adapters.sql.backup import restore_sqlite
from odc.adapters.sql.state_store import SqlStateStore
from odc.api.client import Client
from odc.api.messages import Done, Health
from odc.api.unix_socket import is_served
from odc.domain.errors import InvalidRequest, ProviderError, ProviderRefused, ProviderUnavailable
from odc.domain.requests import AcceptClock, EndAll
from odc.entrypoints import boot
from odc.entrypoints.bootstrap import engine_service, images
from odc.entrypoints.settings import Settings

Say = Callable[[str], None]
READY_LIMIT_S = 60.0
END_LIMIT_S = 300.0
STOP_LIMIT_S = 40.0


def up(settings: Settings, file: Path | None, changes: Mapping[str, object], say: Say) -> None:
    """Start the cloud and wait until it is ready; if it is up, say so.

    Args:
        settings: with the command line's changes.
        file: the settings file, to be named again in the daemon's command.
        changes: the command line's, likewise.
        say: hears what is being done.

    Raises:
        ProviderError: it does not come up, with the daemon's last words.
    """
    if is_served(Path(settings.socket)):
        say("It is up already.")
        _summary(settings, _wait_until_ready(settings, _log_size(settings)), say)
        return
    build_image(settings, say)
    command = _serve_command(file, changes)
    since = _log_size(settings)
    if boot.has_systemd():
        boot.enable(settings.cloud, command)
    else:
        _start_detached(settings, command)
    _summary(settings, _wait_until_ready(settings, since), say)


def _serve_command(file: Path | None, changes: Mapping[str, object]) -> list[str]:
    command = [sys.executable, "-m", "odc.entrypoints.odc"]
    if file is not None:
        command += ["--config", str(file)]
    command.append("serve")
    for name, value in changes.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    return command


def _log_file(settings: Settings) -> Path:
    return settings.state_folder / "odc.log"


def _start_detached(settings: Settings, command: list[str]) -> None:
    settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _log_file(settings).open("ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True)


def _health(settings: Settings) -> Health:
    client = Client(settings.socket, timeout_s=5)
    try:
        return client.health()
    finally:
        client.close()


def _log_size(settings: Settings) -> int:
    try:
        return _log_file(settings).stat().st_size
    except OSError:
        return 0


def _wait_until_ready(settings: Settings, since: int) -> Health:
    """Wait for the daemon whose log begins at this byte; what an earlier one said at its end is no news."""
    deadline = time.monotonic() + READY_LIMIT_S
    why = "it does not answer"
    while time.monotonic() < deadline:
        try:
            health = _health(settings)
        except ProviderError:
            if _died(settings, since):
                break
        else:
            if health.ready:
                return health
            why = "; ".join(health.problems) or "it has not seen its nodes yet"
        time.sleep(0.1)
    raise ProviderUnavailable(
        f"the cloud does not come up: {_last_error(settings, since) or why}",
        ("look closer", "odc doctor"),
        ("its log", str(_log_file(settings))),
    )


def _died(settings: Settings, since: int) -> bool:
    """Whether the daemon that was started has ended: nobody holds its lock, and it has had time to take it."""
    words = _last_error(settings, since)
    return bool(words) and _daemon_pid(settings) is None


def _last_error(settings: Settings, since: int) -> str:
    """The daemon's last line from this byte on, if it is no log entry: what it said when it could not start."""
    try:
        lines = _log_file(settings).read_bytes()[since:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].removeprefix("error: ") if lines and not lines[-1].startswith("{") else ""


def _summary(settings: Settings, health: Health, say: Say) -> None:
    types = ", ".join(f"{count} x {name}" for name, count in sorted(health.types.items()))
    pretended = " (SIMULATED GPUs)" if health.simulated else " on this machine"
    say(f"ODC is up: {types}{pretended}, disks on {health.storage}, {health.engine}")
    starts = "yes (systemd)" if boot.has_systemd() else "no (there is no systemd)"
    say(f"Starts at boot: {starts}. Stop: odc down. Check: odc doctor")
    for problem in health.problems:
        say(f"warning: {problem}")
    say("Next: gpu-dev reserve")


def down(settings: Settings, everything: bool, say: Say) -> None:
    """Stop the daemon; with `everything`, end all reservations first and leave nothing running.

    Raises:
        ProviderUnavailable: reservations do not end, or the daemon does not stop; nothing was removed by force.
    """
    served = is_served(Path(settings.socket))
    if everything and served:
        _end_all(settings, say)
    if not served and _daemon_pid(settings) is None:
        say("The cloud is down already.")
    else:
        _stop_daemon(settings)
        say("The cloud is down." if everything else "The daemon is down; boxes go on. Start it again: odc up")
    if everything:
        _leave_nothing(settings)


def _end_all(settings: Settings, say: Say) -> None:
    client = Client(settings.socket)
    answer = client.send(EndAll())
    say(answer.message if isinstance(answer, Done) else "every reservation is ending")
    deadline = time.monotonic() + END_LIMIT_S
    while live := client.reservations(user="all").reservations:
        if time.monotonic() > deadline:
            names = ", ".join(view.id[:8] for view in live)
            raise ProviderUnavailable(f"these do not end: {names}", ("see why", f"gpu-dev show {live[0].id}"))
        time.sleep(0.1)
    client.close()


def _daemon_pid(settings: Settings) -> int | None:
    """The process that holds the cloud's lock, or None."""
    import fcntl

    path = settings.state_folder / "daemon.lock"
    try:
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read().strip() or 0) or None
            return None
    except (OSError, ValueError):
        return None


def _stop_daemon(settings: Settings) -> None:
    if boot.is_enabled(settings.cloud):
        boot.disable(settings.cloud)
    pid = _daemon_pid(settings)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_LIMIT_S
    while _daemon_pid(settings) is not None:
        if time.monotonic() > deadline:
            raise ProviderUnavailable(f"the daemon (process {pid}) does not stop", ("by force", f"kill -9 {pid}"))
        time.sleep(0.05)


def _leave_nothing(settings: Settings) -> None:
    """Stop what serves boxes. Boxes are gone; the records and disks stay."""
    engine_service(settings).stop()
    stop_lxcfs(settings.state_folder / "lxcfs")
    devices_file(settings.cloud).unlink(missing_ok=True)
    if settings.disks_folder.exists():
        open_volumes(settings.disks_folder, int(settings.disk_file_gib * 2**30), settings.box_id_base).close()


def back_up(settings: Settings, target: Path, say: Say) -> None:
    """Copy the records to a new file.

    Raises:
        ProviderRefused: there is nothing to back up, or the file exists.
    """
    if not settings.database and not (settings.state_folder / "odc.db").exists():
        raise ProviderRefused(f"there are no records in {settings.state_folder}", ("start it", "odc up"))
    store = SqlStateStore(settings.database_address)
    try:
        store.back_up(target)
    finally:
        store.close()
    target.chmod(0o600)
    say(f"All records are in {target}. Disks are not: they lie in {settings.disks_folder}")


def restore(settings: Settings, source: Path, say: Say) -> None:
    """Take the records back from a file.

    Raises:
        ProviderRefused: the daemon runs, or the file is no backup; nothing was changed.
    """
    if _daemon_pid(settings) is not None:
        raise ProviderRefused("the daemon is up; records are taken back while it is down", ("stop it", "odc down"))
    if settings.database:
        raise InvalidRequest("these records lie in PostgreSQL", ("use it", "pg_restore"))
    kept = restore_sqlite(source, settings.state_folder / "odc.db")
    say(f"The records are those of {source}." + (f" The ones before lie in {kept}" if kept else ""))
    say("Boxes that the backup does not know are left alone and shown by gpu-dev status. Next: odc up")


def accept_clock(settings: Settings, say: Say) -> None:
    """Accept the wall clock."""
    client = Client(settings.socket)
    answer = client.send(AcceptClock())
    say(answer.message if isinstance(answer, Done) else "accepted")


def build_image(settings: Settings, say: Say, again: bool = False) -> None:
    """Make the image of boxes if there is none, or it is to be made again.

    Raises:
        ProviderRefused: a program is missing or a step failed.
    """
    service = engine_service(settings)
    service.ensure()
    engine = images(settings)
    version = engine.version_of(settings.image)
    if version is not None and not again:
        if version and version != box_version():
            say(f"The image {settings.image} is older than this ODC. Renew it: odc image build")
        return
    say(f"Building the image of boxes, {settings.image} (about 2 minutes)")
    engine.build(settings.image, lambda step: say(f"  {step}"))
