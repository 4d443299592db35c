"""Why ssh did not get in: which keys the box accepts and which the user has, or that the box does not answer."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from odc.api.messages import KeyView, Me, ReservationView
from odc.cli import screens
from odc.cli.context import Session
from odc.cli.local_keys import agent_fingerprints, find_public_keys, in_home, read_key
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
    if view.state in screens.ENDED:
        return [screens.ended_sentence(view, session.now())]
    if view.state != "active":
        return [f"{screens.title(view)} is {view.state}. Wait for it: gpu-dev wait {view.name}"]
    try:
        done = subprocess.run(
            [ssh[0], *_PROBE, *ssh[1:], view.name, "true"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return _silent(view)
    if "Permission denied" in done.stderr:
        return [session.output.paint("error: ", "red") + "the box accepts none of your keys", *key_lines(session)]
    if done.returncode == 255:
        return _silent(view)
    return [] if is_command else [f"The connection broke; the box answers. Again: gpu-dev connect {view.name}"]


def _silent(view: ReservationView) -> list[str]:
    return [
        f"The box of {screens.title(view)} does not answer ssh; it may be restarting.",
        f"  look    gpu-dev show {view.name}",
        f"  again   gpu-dev connect {view.name}",
    ]


def key_lines(session: Session) -> list[str]:
    """Which keys the box accepts, which the agent and `~/.ssh` have, and what would help."""
    me = session.client().me()
    held = agent_fingerprints(session.agent)
    files = {fingerprint(read_key(path)): path for path in find_public_keys(session.home)}
    accepted = {key.fingerprint for key in me.keys}
    lines = [f"  the box accepts   {key.fingerprint} ({_origin(key, me)})" for key in me.keys]
    lines += [f"  your agent has    {text}" for text in held] or ["  your agent has    no key"]
    lines += [f"  ~/.ssh has        {text} ({path.name})" for text, path in files.items() if text not in held]
    if accepted & set(held):
        return [*lines, "  Your agent has a key that the box accepts."]
    near = [path for text, path in files.items() if text in accepted]
    if near and near[0].with_suffix("").exists():
        return [*lines, f"  unlock              ssh-add {in_home(session.home, near[0].with_suffix(''))}"]
    if near:
        lines.append(f"  The private half of {near[0].name} is not beside it: {near[0].with_suffix('')}")
    mine = [path for text, path in files.items() if text not in accepted]
    if mine:
        own = in_home(session.home, mine[0])
        return [*lines, f"  use this one        gpu-dev config set ssh_key {own}"]
    return [*lines, "  make a key        ssh-keygen -t ed25519"]


def _origin(key: KeyView, me: Me) -> str:
    return f"{me.github_user} on GitHub" if key.source == "GitHub" else f"{key.comment or key.kind}, set by you"
