"""The user's own public keys: in `~/.ssh`, and in the agent."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from odc.cli.key_files import read_keys
from odc.cli.settings_file import is_file, private_half
from odc.domain.errors import InvalidRequest
from odc.domain.ssh_keys import fingerprint, parse_public_key

_ANY_HOST = "gpu-dev-box"
KEY_FILES = ("id_ed25519.pub", "id_ed25519_sk.pub", "id_ecdsa.pub", "id_ecdsa_sk.pub", "id_rsa.pub")


def find_public_keys(home: Path) -> list[Path]:
    """Return the public keys in `~/.ssh`, default names first."""
    folder = home / ".ssh"
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    found = [folder / name for name in KEY_FILES if (folder / name).is_file()]
    others = sorted(path for path in folder.glob("*.pub") if path not in found) if folder.is_dir() else []
    good = []
    for path in [*found, *others]:
        try:
            read_keys(path)
        except InvalidRequest:
            continue
        good.append(path)
    return good


class KeyFile(NamedTuple):
    """A key on this machine: its fingerprint, the file that the fingerprint is from, and the private half if it is
    here.
    """

    fingerprint: str
    path: Path
    private: Path | None


def key_files(home: Path, own: str) -> list[KeyFile]:
    """Return the keys in `~/.ssh`, with or without a public half next to them, and the key that the user has set.

    Args:
        home: the user's.
        own: the public key's file that the user has set; empty for none.
    """
    public = find_public_keys(home)
    if own and Path(own) not in public and is_file(Path(own)):
        public.append(Path(own))
    found = [KeyFile(fingerprint(key), path, private_half(path)) for path in public for key in read_keys(path)]
    known = {file.private for file in found}
    folder = home / ".ssh"
    others = [folder / name.removesuffix(".pub") for name in KEY_FILES]
    alone = [path for path in others if path not in known and os.access(path, os.R_OK)]
    return [*found, *(KeyFile(text, path, path) for path in alone if (text := _fingerprint_of_private(path)))]


def _fingerprint_of_private(path: Path) -> str:
    """Return the fingerprint of a private key's file; empty if it cannot be read without the passphrase."""
    try:
        done = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = done.stdout.split()
    return words[1] if done.returncode == 0 and len(words) > 1 else ""


def in_home(home: Path, path: Path) -> str:
    """Return the path as typed in a shell: `~/.ssh/id_ed25519.pub`."""
    return f"~/{shlex.quote(str(path.relative_to(home)))}" if path.is_relative_to(home) else shlex.quote(str(path))


def agent_socket(variable: str, home: Path) -> str:
    """Return the socket of the agent that ssh uses: `IdentityAgent` as set for every host, else the environment's.

    Args:
        variable: SSH_AUTH_SOCK; empty for none.
        home: the one that ssh uses.
    """
    from odc.cli.ssh_settings import trace

    setting = trace(["ssh"], _ANY_HOST).options.get("identityagent", "")
    if setting in ("", "SSH_AUTH_SOCK"):
        return variable
    if setting.lower() == "none":
        return ""
    if setting.startswith("~/"):
        setting = f"%d{setting[1:]}"
    tokens = {"%d": str(home), "%i": str(os.getuid()), "%u": home.name, "%%": "%"}
    expanded = re.sub("%[diu%]", lambda found: tokens[found[0]], setting)
    return os.path.expandvars(expanded)


def agent_keys(agent: str) -> list[str]:
    """Return the public keys in the agent; none without an agent.

    Args:
        agent: the agent's socket; empty for none.
    """
    if not agent:
        return []
    try:
        done = _list_agent(agent, 10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    keys = []
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        try:
            keys.append(parse_public_key(line))
        except InvalidRequest:
            continue
    return keys


def is_agent_silent(agent: str) -> bool:
    """Whether the agent accepts requests but does not answer, as one that was forwarded over a dead connection.

    Args:
        agent: the agent's socket; empty for none.
    """
    try:
        if agent:
            _list_agent(agent, 3)
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False
    return False


def _list_agent(agent: str, limit_s: float) -> subprocess.CompletedProcess[str]:
    environment = {"SSH_AUTH_SOCK": agent, "PATH": "/usr/bin:/bin"}
    return subprocess.run(["ssh-add", "-L"], env=environment, capture_output=True, text=True, timeout=limit_s)
