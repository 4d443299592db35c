"""`odc doctor`: everything that the cloud needs, each as one line that is ok or says what to do.

It changes nothing and leaves nothing running. Without root it checks what it can read, and lists what needs root.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from odc.api.client import Client
from odc.api.connectors import is_hung
from odc.api.problem_views import wordings
from odc.domain.commands import joined, odc
from odc.domain.errors import OdcError, ProviderUnavailable
from odc.domain.finding import Finding
from odc.operator.backend import Backend, Check, MakeBackend
from odc.operator.daemon_state import daemon_pid, running_settings
from odc.operator.disks import overcommit_text, read_storage
from odc.operator.host_claims import check_claim
from odc.operator.preflight import reachable_by_all
from odc.operator.settings import Settings
from odc.operator.users import advice, read_users

ANSWER_LIMIT_S = 5.0


def examine(settings: Settings, make_backend: MakeBackend) -> tuple[Finding, ...]:
    """Run all checks, with the daemon's settings if one runs; a failing check never hides another."""
    # Only root may see whether a daemon runs.
    running = os.geteuid() == 0 and daemon_pid(settings.state_folder) is not None
    if running:
        settings = running_settings(settings.state_folder) or settings
    backend = make_backend(settings)
    checks: dict[str, Check] = {
        "daemon": partial(_daemon, settings),
        "users": partial(_users, settings, backend, running),
        "machine": partial(_host_claims, settings, backend),
    }
    for subject, check in backend.checks(running).items():
        checks[subject] = check
        if subject == "disks" and running:
            checks["disk sizes"] = partial(_disk_sizes, settings)
    findings: list[Finding] = []
    for subject, check in checks.items():
        try:
            findings += check()
        except OdcError as error:
            hint = f"{error.hints[0].label}: " + error.hints[0].command if error.hints else ""
            findings.append(Finding("fail", subject, error.message, hint))
        except OSError as error:
            findings.append(Finding("fail", subject, f"{error.filename or 'it'}: {error.strerror or error}"))
    return tuple(findings)


def _daemon(settings: Settings) -> Iterator[Finding]:
    client = Client(settings.socket, timeout_s=ANSWER_LIMIT_S)
    try:
        health = client.health()
    except OdcError as error:
        restart = "run: sudo " + odc("down") + " && sudo " + odc("up")
        is_stuck = is_hung(error.__cause__)
        yield Finding("warn", "daemon", error.message, restart if is_stuck else "run: sudo " + odc("up"))
        return
    finally:
        client.close()
    for problem in wordings(health.problem_details, health.problems):
        yield Finding("warn", "daemon", problem.text, joined("; ", problem.ways))
    if not health.ready:
        yield Finding("fail", "daemon", f"answers on {settings.socket}, but has not seen its nodes yet")
        return
    closed = reachable_by_all(Path(settings.socket))
    if closed is None:
        yield Finding("ok", "daemon", f"{health.version} answers on {settings.socket}")
    else:
        text = f"answers on {settings.socket}, but users may not enter {closed}"
        yield Finding("fail", "daemon", text, f"run: sudo chmod a+x {closed}")


def _users(settings: Settings, backend: Backend, running: bool) -> Iterator[Finding]:
    """Report only users that an operator has to decide about; without a daemon no user is refused."""
    for name in settings.admins:
        if backend.accounts.find_uid(name) is None:
            text = f"admins names {name}, which is not a login of this machine"
            yield Finding("warn", "users", text, "check admins in the settings")
    if not running:
        return
    try:
        users = read_users(settings, ANSWER_LIMIT_S).users
    except ProviderUnavailable:
        return  # reported by the daemon's own line
    for user in users:
        text, hints = advice(user)
        if user.held or (user.login is None and user.reservations):
            ways = joined("; ", (f"{hint.label}: sudo " + hint.command for hint in hints))
            yield Finding("warn", "users", text, ways)
        if user.name in settings.admins and user.login != user.name:
            text = f"admins names {user.name}, who is recorded with uid {user.uid}; that login is another uid now"
            yield Finding("warn", "users", text, "check admins in the settings")


def _host_claims(settings: Settings, backend: Backend) -> Iterator[Finding]:
    """Report only a conflict with another cloud of the machine."""
    if os.geteuid() == 0:
        check_claim(settings, backend.lent_gpus())
    yield from ()


def _disk_sizes(settings: Settings) -> Iterator[Finding]:
    with contextlib.suppress(ProviderUnavailable):  # a daemon that does not answer is a finding of its own
        view = read_storage(settings, timeout_s=ANSWER_LIMIT_S)
        over = view.sizes_bytes > view.total_bytes > 0
        hint = "fine while they are not full; who uses it: sudo " + odc("disk list") if over else ""
        yield Finding("warn" if over else "ok", "disk sizes", overcommit_text(view), hint)
