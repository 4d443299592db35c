"""Why ssh did not get in: the keys, a setting of the user's own, or a box that does not answer.

ssh is called again without asking anything: as the user's settings are, then without them. If only the second gets in,
a setting is in the way, and the line that sets it is named.
"""

from __future__ import annotations

import re
import subprocess
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from odc.api.messages.reservations import ReservationView
from odc.cli import screens, ssh_files, ssh_include, ssh_keys_screen, ssh_settings, ssh_setup
from odc.cli.context import Session
from odc.cli.local_keys import agent_keys, agent_socket, is_agent_silent, key_files
from odc.cli.settings_file import read_settings
from odc.domain.box_report import ServerState
from odc.domain.commands import gpu_dev
from odc.domain.errors import ProviderUnavailable
from odc.domain.status import ENDED, Status

_PROBE = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=INFO", "-o", "ControlPath=none", "-T")
_TIMEOUT_S = 20.0
_MAX_LINE = 200
_FORWARDS = ("localforward", "remoteforward", "dynamicforward", "exitonforwardfailure")
_CAUSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("no matching cipher", ("ciphers",)),
    ("no matching MAC", ("macs",)),
    ("no matching key exchange", ("kexalgorithms",)),
    ("no matching host key", ("hostkeyalgorithms",)),
    ("Address family", ("addressfamily",)),
    (r"^bind |Cannot assign requested", ("bindaddress", "bindinterface")),
    ("forwarding|Address already in use", _FORWARDS),
    ("revoked", ("revokedhostkeys",)),
    ("KnownHostsCommand", ("knownhostscommand",)),
    ("remote command", ("remotecommand",)),
    ("ControlPath|too long for Unix domain socket|mux", ("controlpath", "controlmaster")),
    (
        "Permission denied|Too many authentication",
        ("identityagent", "preferredauthentications", "pubkeyauthentication", "identityfile", "pkcs11provider"),
    ),
    ("UNKNOWN port|resolve|timed out|refused|closed", ("proxyjump", "proxycommand", "hostname", "bindaddress")),
)
"""Message with which ssh gives up, to the options that may be the cause, the likely ones first."""


_NO_CONNECTION = "refused|timed out|timeout|closed|reset|no route|unreachable|no connection"


class Way(NamedTuple):
    """How ssh is called: the command with everything but the name, the name, and options for a command in the box."""

    words: list[str]
    name: str
    for_command: tuple[str, ...] = ()


class Advice(NamedTuple):
    """The explanation, and whether to try again without the user's own settings."""

    lines: list[str]
    without_settings: bool = False


class Probe(Enum):
    """The result of one attempt to connect."""

    IN = "in"
    REFUSED = "refused"
    SILENT = "silent"


class Tried(NamedTuple):
    """How a try went, and ssh's own last line."""

    probe: Probe
    last: str


def explain(session: Session, view: ReservationView, way: Way, alone: Way, is_command: bool) -> Advice:
    """Return what to do after ssh gave up.

    Args:
        session: the command's.
        view: the reservation as it was before.
        way: how ssh was called.
        alone: the same without the user's own settings.
        is_command: a command ran in the box; then ssh's code may as well be the command's.
    """
    try:
        view = session.client().reservation(view.id)
    except ProviderUnavailable as error:
        return Advice([f"{error.message}; your box keeps running. Again: " + gpu_dev(f"connect {view.name}")])
    if view.state in (Status.ENDING, *ENDED):
        return Advice([screens.end_sentence(view, session.now())])
    if view.state is not Status.ACTIVE:
        return Advice([f"{screens.title(view)} is {view.state}. Wait for it: " + gpu_dev(f"wait {view.name}")])
    result = tried(way)
    if result.probe is Probe.IN:
        again = "The connection broke; the box answers. Again: " + gpu_dev(f"connect {view.name}")
        look = gpu_dev(f"show {view.name}")
        killed = "The command was killed in the box, or ended with 255. For lack of memory? " + look
        return Advice([killed if is_command else again])
    if advice := settings_advice(session, way, alone, result):
        return advice
    mark = session.output.paint("error: ", "red")
    if result.probe is Probe.REFUSED:
        batch = _batch_mode(session, way)
        return Advice([f"{mark}the box accepts none of your keys", *key_lines(session), *batch])
    return Advice(no_way_in(view, result.last))


def settings_advice(session: Session, way: Way, alone: Way, result: Tried) -> Advice | None:
    """Return what to do if one of the user's settings is the cause; None if it is not. Arguments as for `explain`."""
    if result.probe is Probe.IN or way == alone or tried(alone).probe is not Probe.IN:
        return None
    mark = session.output.paint("error: ", "red")
    lines = [f"{mark}ssh: {result.last}", *_in_the_way(session, way, result.last)]
    if _cause_of(result.last) == _FORWARDS:
        return Advice(lines)
    return Advice([*lines, "Connecting without your own ssh settings."], without_settings=True)


def verdict(session: Session, view: ReservationView, way: Way, alone: Way) -> list[str]:
    """Whether ssh gets in now, by `gpu-dev connect` and by name; arguments as for `explain`."""
    if silent := _silent_agent(session, view, way):
        return silent
    result = tried(way)
    entered: list[str] = ["ssh gets in. Next: " + gpu_dev(f"connect {view.name}")]
    lines = {
        Probe.REFUSED: ["ssh is refused: the box accepts none of the keys that ssh can use without a question."],
        Probe.SILENT: no_way_in(view, result.last),
        Probe.IN: entered,
    }[result.probe]
    if result.probe is not Probe.IN and way != alone and tried(alone).probe is Probe.IN:
        lines = [f"ssh: {result.last}", *_in_the_way(session, way, result.last)]
        lines.append("Without your own ssh settings it gets in. Next: " + gpu_dev(f"connect {view.name}"))
    return lines + _by_name(session, view, way)


def _silent_agent(session: Session, view: ReservationView, way: Way) -> list[str]:
    """Return a note that the agent does not answer, for which ssh waits without limit; none if it answers or there is
    none.
    """
    home = session.account_home or session.home
    agent = agent_socket(session.agent, home)
    if not is_agent_silent(agent):
        return []
    lines = [f"Your agent does not answer, and ssh waits for it: {agent}"]
    found = ssh_settings.find_option(ssh_settings.trace(way.words, way.name), ("identityagent",), session.folder)
    if found is not None:
        return [*lines, f"  in the way   {found[0].shown(home)}: {found[1]}"]
    return [*lines, "  without it   SSH_AUTH_SOCK= " + gpu_dev(f"connect {view.name}")]


def _by_name(session: Session, view: ReservationView, way: Way) -> list[str]:
    """Return why `ssh NAME` does not connect; empty if it does, or if names were never enabled."""
    home = session.account_home
    file = ssh_include.ssh_file(home) if home else None
    if file is not None and ssh_include.is_too_low(file):
        text = f"ssh {way.name} may not lead to this box: in {file}, your own settings come before the reservations."
        return [f"{text} Put them first: {ssh_include.ENABLE}"]
    if file is None or not ssh_include.is_included(file):
        return []
    plain = Way(["ssh"], way.name, way.for_command)
    if not ssh_include.is_known(plain.name, view.id, ssh_files.config_path(session.folder, view.id)):
        seen = ssh_settings.trace(plain.words, plain.name)
        why = f": {seen.errors[0]}" if seen.code > 0 and seen.errors else ""
        return [f"ssh {plain.name} does not lead to this box{why}"]
    result = tried(plain)
    if result.probe is Probe.IN:
        return []
    return [f"ssh {plain.name} fails: {result.last}", *_in_the_way(session, plain, result.last)]


def not_there(session: Session, view: ReservationView) -> list[str]:
    """Return why there is no box to connect to: the reservation is not active, or belongs to another user."""
    if not view.mine:
        return [f"{screens.title(view)} is {view.owner}'s, not yours."]
    if view.state in (Status.ENDING, *ENDED):
        return [screens.end_sentence(view, session.now())]
    if view.state is Status.QUEUED:
        place = f", position {view.queue_position}" if view.queue_position else ""
        promise = screens.promise_line(view, session.now())
        return [
            f"{screens.title(view)} is queued{place}: it has no box yet. {promise}",
            "Wait for it: " + gpu_dev(f"wait {view.name}"),
        ]
    text = f"{screens.title(view)} is {view.state}: its box does not answer yet. Wait for it: "
    return [text + gpu_dev(f"wait {view.name}")]


def tried(way: Way) -> Tried:
    """Try to connect without prompting the user; return the result."""
    words = [way.words[0], *_PROBE, *way.words[1:], *way.for_command, way.name, "true"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S
        )
    except OSError as error:
        return Tried(Probe.SILENT, f"{error.strerror}")
    except subprocess.TimeoutExpired:
        return Tried(Probe.SILENT, f"no connection within {_TIMEOUT_S:g} seconds")
    last = _last_line(done.stderr)
    if done.returncode != 255:
        return Tried(Probe.IN, last)
    refused = "Permission denied" in done.stderr or "Too many authentication failures" in done.stderr
    return Tried(Probe.REFUSED if refused else Probe.SILENT, last)


def _last_line(text: str) -> str:
    """Return the line in which ssh gives its reason; its later lines about the lost connection are less specific."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _cause_of(line) and not line.startswith("Disconnected from")]
    return (telling or lines or ["it does not say why"])[-1][:_MAX_LINE]


def _cause_of(line: str) -> tuple[str, ...]:
    return next((keys for pattern, keys in _CAUSES if re.search(pattern, line, re.IGNORECASE)), ())


def _in_the_way(session: Session, way: Way, last: str) -> list[str]:
    """Return the user's line that is the likely cause, or else the files that contain it."""
    home = session.account_home or session.home
    seen = ssh_settings.trace(way.words, way.name)
    found = ssh_settings.find_option(seen, _cause_of(last), session.folder)
    if found is not None:
        return [f"  in the way   {found[0].shown(home)}: {found[1]}"]
    files = [file for file in seen.files if Path(file).parent != session.folder]
    return [f"  in the way   a setting in {', '.join(files)}"] if files else []


def _batch_mode(session: Session, way: Way) -> list[str]:
    """Return a note that ssh may not ask for a passphrase, if the user has set that."""
    seen = ssh_settings.trace(way.words, way.name)
    found = ssh_settings.find_option(seen, ("batchmode",), session.folder)
    if found is None or seen.options.get("batchmode") not in ("yes", "true"):
        return []
    return [f"  ssh may not ask   {found[0].shown(session.account_home or session.home)}: {found[1]}"]


def no_way_in(view: ReservationView, last: str) -> list[str]:
    """Return the explanation for a connection that got no usable answer.

    Args:
        view: the reservation.
        last: ssh's own last line.
    """
    title = screens.title(view)
    if "Host key verification failed" in last:
        what = f"Another SSH server than that of {title} answers at its address; ssh did not log in there."
    elif any(box.report and box.report.sshd is ServerState.STOPPED for box in view.boxes):
        what = f"sshd is not running in the box of {title}."
    elif re.search(_NO_CONNECTION, last, re.IGNORECASE):
        what = f"The box of {title} does not answer ssh; it may be restarting."
    else:
        what = f"ssh does not get into the box of {title}."
    return [
        what,
        f"  ssh     {last}",
        "  look    " + gpu_dev(f"show {view.name}"),
        "  again   " + gpu_dev(f"connect {view.name}"),
    ]


def key_lines(session: Session) -> list[str]:
    """Return the keys that the box accepts, those of the agent and of the files, and what would help."""
    me = session.client().me()
    held = agent_keys(agent_socket(session.agent, session.account_home or session.home))
    files = key_files(session.home, read_settings(session.folder).get("ssh_key", ""))
    blocked = ssh_setup.unreadable(session)
    return ssh_keys_screen.key_lines(me, held, files, session.home, blocked.repair if blocked else "")
