"""Why ssh did not get in: which keys the box accepts and which the user has, or that the box does not answer."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence, Set
from enum import Enum
from pathlib import Path

from odc.api.messages import KeyView, Me, ReservationView
from odc.cli import screens
from odc.cli.context import Session
from odc.cli.local_keys import KeyFile, agent_keys, in_home, key_files
from odc.cli.settings_file import read_settings
from odc.domain.errors import ProviderUnavailable
from odc.domain.ssh_keys import fingerprint

_PROBE = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=INFO", "-o", "RemoteCommand=none")


def explain(session: Session, view: ReservationView, ssh: Sequence[str], is_command: bool) -> list[str]:
    """What to say after ssh gave up.

    Args:
        session: the command's.
        view: the reservation as it was before.
        ssh: the ssh command with everything but the name.
        is_command: a command ran in the box; then ssh's code may as well be the command's.
    """
    try:
        view = session.client().reservation(view.id)
    except ProviderUnavailable as error:
        return [f"{error.message}; your box goes on. Again: gpu-dev connect {view.name}"]
    if view.state in ("ending", *screens.ENDED):
        return [screens.end_sentence(view, session.now())]
    if view.state != "active":
        return [f"{screens.title(view)} is {view.state}. Wait for it: gpu-dev wait {view.name}"]
    match _probed(ssh, view.name):
        case Probe.REFUSED:
            return [session.output.paint("error: ", "red") + "the box accepts none of your keys", *key_lines(session)]
        case Probe.SILENT:
            return _silent(view)
        case Probe.IN:
            again = f"The connection broke; the box answers. Again: gpu-dev connect {view.name}"
            return [] if is_command else [again]


def verdict(view: ReservationView, ssh: Sequence[str]) -> list[str]:
    """Whether ssh gets in now; arguments as for `explain`."""
    match _probed(ssh, view.name):
        case Probe.REFUSED:
            return ["ssh is refused: the box accepts none of the keys that ssh can use without a question."]
        case Probe.SILENT:
            return _silent(view)
        case Probe.IN:
            return [f"ssh gets in. Next: gpu-dev connect {view.name}"]


class Probe(Enum):
    """What became of a try to get in."""

    IN = "in"
    REFUSED = "refused"
    SILENT = "silent"


def _probed(ssh: Sequence[str], name: str) -> Probe:
    """Try it without asking the user anything."""
    try:
        done = subprocess.run([ssh[0], *_PROBE, *ssh[1:], name, "true"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return Probe.SILENT
    if "Permission denied" in done.stderr:
        return Probe.REFUSED
    return Probe.SILENT if done.returncode == 255 else Probe.IN


def _silent(view: ReservationView) -> list[str]:
    return [
        f"The box of {screens.title(view)} does not answer ssh; it may be restarting.",
        f"  look    gpu-dev show {view.name}",
        f"  again   gpu-dev connect {view.name}",
    ]


def key_lines(session: Session) -> list[str]:
    """Which keys the box accepts, which the agent and the files have, and what would help."""
    me = session.client().me()
    held = [fingerprint(key) for key in agent_keys(session.agent)]
    files = key_files(session.home, read_settings(session.folder).get("ssh_key", ""))
    lines = [f"  the box accepts   {key.fingerprint} ({_origin(key, me)})" for key in me.keys]
    lines += [f"  your agent has    {text}" for text in held] or ["  your agent has    no key"]
    for file in files:
        alone = "" if file.private else ", without its private half"
        lines.append(f"  a file has        {file.fingerprint} ({in_home(session.home, file.path)}{alone})")
    return [*lines, _way_in({key.fingerprint for key in me.keys}, held, files, session.home)]


def _way_in(accepted: Set[str], held: Sequence[str], files: Sequence[KeyFile], home: Path) -> str:
    """The key that opens the box, or how to come to one."""
    if accepted & set(held):
        return "  Your agent has a key that the box accepts."
    private = [file.private for file in files if file.fingerprint in accepted and file.private]
    if private:
        return f"  This file opens the box; if it has a passphrase: ssh-add {in_home(home, private[0])}"
    mine = [file.path for file in files if file.private and file.path != file.private]
    if mine:
        return f"  use this one      gpu-dev config set ssh_key {in_home(home, mine[0])}"
    return "  make a key        ssh-keygen -t ed25519"


def _origin(key: KeyView, me: Me) -> str:
    return f"{me.github_user} on GitHub" if key.source == "GitHub" else f"{key.comment or key.kind}, set by you"
