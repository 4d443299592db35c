"""`odc up`: start the daemon, wait until it is ready, and print its status and the next commands."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from odc.api.client import Client
from odc.api.connectors import is_hung
from odc.api.messages.cloud import Health
from odc.api.problem_views import wordings
from odc.api.unix_socket import is_served
from odc.domain.commands import joined, odc
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable
from odc.operator import systemd
from odc.operator.backend import Backend, Say
from odc.operator.daemon_state import daemon_pid, running_settings
from odc.operator.hints import gpu_dev
from odc.operator.host_claims import forget_claim, is_claimed
from odc.operator.image import ensure_image
from odc.operator.logs import why_not_started
from odc.operator.preflight import check_before_start, check_unchanged
from odc.operator.settings import DEFAULT_FILE, Settings
from odc.operator.settings_check import as_toml
from odc.operator.settings_edit import unfinished, written

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
PAUSE_S = 0.05
ANSWER_LIMIT_S = 3.0
ANSWER_TRIES = 2


def up(settings: Settings, backend: Backend, file: Path | None, options: Mapping[str, str], say: Say) -> None:
    """Start the cloud and wait until it is ready; if it is up already, report that, and which of these settings differ.

    Args:
        settings: with the options on top.
        backend: of these settings.
        file: the settings file, for the daemon's command line.
        options: settings that the command line gives; they are written to the file before the start; a start that
            fails restores the file.
        say: called with each step; the last line is the cloud's status.

    Raises:
        OdcError: it did not start, with the daemon's own reason. Everything started for it has been stopped again.
    """
    intent = settings.state_folder / "up.json"
    if left := unfinished(file or DEFAULT_FILE, intent):
        say(f"An earlier start was killed before the cloud was ready. It wrote {left} to {file or DEFAULT_FILE}.")
    before = backend.kernel_limits()
    if daemon_pid(settings.state_folder) is not None:
        if _say_running(settings, backend, options, say):
            return
        say("The daemon has ended meanwhile; it is started again.")
    check_before_start(settings, backend)
    if is_served(Path(settings.socket)):
        text = f"another server answers on {settings.socket}"
        raise ProviderRefused(text, ("choose another", 'socket = "/…" in the settings'))
    ensure_image(settings, backend.image, say)
    # The daemon reads the file at this start and at every boot.
    with (
        written(file or DEFAULT_FILE, options, intent) as said,
        started(settings, backend, file, {}) as (since, died),
    ):
        health = wait_until_ready(settings, since, died)
    if said:
        back = "   (the machine's own GPUs: " + odc("up --simulate none") + ")" if options.get("simulate") else ""
        say(f"Wrote {said} to {file or DEFAULT_FILE}" + back)
    limits = backend.kernel_limits()
    if limits.low < before.low and limits.raised:
        say(limits.text + ": see " + odc("doctor"))
    _say_ready(settings, health, say)


def _say_running(settings: Settings, backend: Backend, options: Mapping[str, str], say: Say) -> bool:
    """Report a cloud that is up already; return False if its daemon has ended before it was ready, as when it was being
    stopped by a signal.
    """
    running = running_settings(settings.state_folder) or settings
    say("It is up already.")
    # Settings that the next start would refuse are refused now: the advice below stops the daemon first.
    check_unchanged(running, settings, backend)
    if settings.box_id_base != running.box_id_base:
        backend.check_ids()
    _say_differences(settings, running, options, say)
    _check_answers(running)
    try:
        health = wait_until_ready(running, _size(log_file(running)), lambda: daemon_pid(settings.state_folder) is None)
    except ProviderError:
        if daemon_pid(settings.state_folder) is None:
            return False
        raise
    _say_ready(running, health, say)
    return True


def _check_answers(running: Settings) -> None:
    """Return at once if the daemon answers, or refuses connections because it is starting or ending.

    Raises:
        ProviderUnavailable: it accepts connections and does not answer, as when it is suspended.
    """
    for _ in range(ANSWER_TRIES):
        try:
            _health(running, ANSWER_LIMIT_S)
        except ProviderError as error:
            if not is_hung(error.__cause__):
                return
            last = error
        else:
            return
    again = ("restart it", odc("down") + " && " + odc("up"))
    raise ProviderUnavailable(last.message, again, ("its log", f"less {log_file(running)}"))


@contextlib.contextmanager
def started(
    settings: Settings, backend: Backend, file: Path | None, changes: Mapping[str, object], at_boot: bool = True
) -> Iterator[tuple[int, Callable[[], bool]]]:
    """Start the daemon; with systemd, also at every boot. If the block fails, the daemon is stopped, and its mounts and
    services are removed.

    Args:
        settings: of the cloud.
        backend: of these settings.
        file: the settings file.
        changes: the command line's.
        at_boot: False for a daemon that runs for one command only.

    Yields:
        The byte of the log at which its output begins, and a function that returns whether it has exited.
    """
    command = _serve_command(file, changes)
    log = log_file(settings)
    log.touch(mode=0o600)
    since = _size(log)
    by_systemd = at_boot and systemd.has_systemd()
    known = systemd.is_enabled(settings.cloud)
    rollback, claimed = backend.rollback(), is_claimed(settings)
    child = None if by_systemd else _start_detached(log, command)
    try:
        if child is None:
            systemd.enable(settings.cloud, command, log, _folders(settings))
        yield since, lambda: systemd.has_failed(settings.cloud) if child is None else child.poll() is not None
    except BaseException:
        if child is not None:
            _end(child)
        elif not known:
            systemd.disable(settings.cloud)
        rollback()
        if not claimed:
            forget_claim(settings)
        raise


def log_file(settings: Settings) -> Path:
    """Return the file with the daemon's output, if `odc up` started it."""
    return settings.state_folder / "odc.log"


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _folders(settings: Settings) -> tuple[Path, ...]:
    return (settings.state_folder, *(() if settings.context else (settings.disks_folder,)))


def _serve_command(file: Path | None, changes: Mapping[str, object]) -> list[str]:
    command = [sys.executable, "-m", "odc.entrypoints.odc"]
    if file is not None:
        command += ["--config", str(file)]
    command.append("serve")
    for name, value in changes.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    return command


def _start_detached(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as said:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", start_new_session=True
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_until_ready(settings: Settings, since: int, died: Callable[[], bool]) -> Health:
    """Wait until the daemon is ready and return its status.

    Args:
        settings: that it runs with.
        since: where its part of the log begins.
        died: whether it has ended.

    Raises:
        ProviderError: it has ended, with its own reason; or it is not ready in time.
    """
    deadline = time.monotonic() + READY_LIMIT_S
    why = "it does not answer"
    while time.monotonic() < deadline:
        ended = died()
        try:
            health = _health(settings)
        except ProviderError:
            if ended:
                raise _reason(settings, since) from None
        else:
            if health.ready:
                return health
            why = (
                joined("; ", (one.line for one in wordings(health.problem_details, health.problems)))
                or "it has not seen its nodes yet"
            )
        time.sleep(PAUSE_S)
    raise ProviderUnavailable(
        f"the cloud is not ready after {READY_LIMIT_S:.0f} s: " + why,
        ("look closer", "sudo " + odc("doctor")),
        ("its log", f"less {log_file(settings)}"),
    )


def _health(settings: Settings, timeout_s: float = 5.0) -> Health:
    client = Client(settings.socket, timeout_s=timeout_s)
    try:
        return client.health()
    finally:
        client.close()


def _reason(settings: Settings, since: int) -> ProviderError:
    """Return the error of a daemon that exited, with its own hints, or the command that shows its log."""
    log = log_file(settings)
    said = why_not_started(log, since)
    message, hints = said or ("it ended without a word", ())
    look = (("look closer", "sudo " + odc("doctor")), ("its log", f"less {log}"))
    return ProviderRefused(f"the ODC daemon did not start: {message}", *(hints or look))


def _say_differences(wanted: Settings, running: Settings, options: Mapping[str, str], say: Say) -> None:
    """Which settings are not those that the daemon runs with, and how they come into effect."""
    different = []
    for name in Settings.__struct_fields__:
        new, old = getattr(wanted, name), getattr(running, name)
        for key, fresh, stale in _parts(name, new, old):
            different.append(key)
            say(f"Not in effect: {_shown(key, fresh)} (it runs with {_shown(key, stale)})")
    if different:
        typed = _typed(options)
        say("To use other settings: " + odc("down") + " && " + odc(f"up{typed}") + "   (boxes go on)")


def _typed(options: Mapping[str, str]) -> str:
    """Return the options of the command line that gave these settings."""
    words = [f"--{name} {value or 'none'}" for name, value in options.items() if name != "kubeconfig"]
    if "context" in options:
        words.insert(0, "--kubernetes")
    return "".join(f" {word}" for word in words)


def _parts(name: str, new: object, old: object) -> Iterator[tuple[str, object, object]]:
    """The keys whose values differ: the setting itself, or `limits.grace_s` and the like of a table."""
    if isinstance(new, msgspec.Struct) and isinstance(old, msgspec.Struct):
        for key in new.__struct_fields__:
            if getattr(new, key) != getattr(old, key):
                yield f"{name}.{key}", getattr(new, key), getattr(old, key)
    elif new != old:
        yield name, new, old


def _shown(name: str, value: object) -> str:
    return as_toml(name, msgspec.to_builtins(value))


def _say_ready(settings: Settings, health: Health, say: Say) -> None:
    for problem in wordings(health.problem_details, health.problems):
        say("warning: " + problem.line)
    mark = " (SIMULATED)" if health.simulated else ""
    types = ", ".join(f"{count} x {name}" for name, count in sorted(health.types.items()))
    at_boot = "yes, by systemd" if systemd.is_enabled(settings.cloud) else "no"
    say(f"ODC is up: {types}{mark}" if types else "ODC is up, but has no node that takes boxes: see " + odc("doctor"))
    say(f"  disks    {health.storage}")
    say(f"  engine   {health.engine}")
    say(f"  socket   {settings.socket}")
    say(f"  at boot  {at_boot}" + ("" if systemd.has_systemd() else ": there is no systemd here"))
    say("Check: " + odc("doctor"))
    say("Stop: " + odc("down"))
    say(f"Next: {gpu_dev(settings)} reserve")
