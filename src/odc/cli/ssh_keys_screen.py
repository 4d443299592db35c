"""The explanation of `gpu-dev connect` when a box accepts none of the user's keys. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from odc.api.messages.users import KeySource, KeyView, Me
from odc.cli.local_keys import KeyFile, in_home
from odc.cli.screens import LONGEST_COMMENT
from odc.domain.commands import gpu_dev
from odc.domain.names import cut
from odc.domain.ssh_keys import fingerprint

_GITHUB = "https://github.com/settings/keys"


def key_lines(me: Me, held: Sequence[str], files: Sequence[KeyFile], home: Path, repair: str = "") -> list[str]:
    """Return the keys that the box accepts, those of the agent and of the files, and what would help.

    Args:
        me: with the keys that the box accepts.
        held: the public keys of the agent.
        files: the keys in files.
        home: the user's.
        repair: the command that lets the user read `~/.ssh`; empty if that can be read.
    """
    prints = [fingerprint(key) for key in held]
    lines = [f"  the box accepts   {key.fingerprint} ({_origin(key, me)})" for key in me.keys] or [
        "  the box accepts   no key: you have set none"
    ]
    lines += [f"  your agent has    {text}" for text in prints] or ["  your agent has    no key"]
    for file in files:
        alone = "" if file.private else ", without its private half"
        lines.append(f"  a file has        {file.fingerprint} ({in_home(home, file.path)}{alone})")
    if repair:
        return [*lines, f"  ssh cannot read your keys. Repair it: {repair}"]
    return [*lines, *_ways_in(me, prints, files, home)]


def _ways_in(me: Me, held: Sequence[str], files: Sequence[KeyFile], home: Path) -> list[str]:
    """Return the key that the box accepts, or how to get one."""
    accepted = {key.fingerprint for key in me.keys}
    if accepted & set(held):
        return ["  Your agent has a key that the box accepts."]
    private = [file.private for file in files if file.fingerprint in accepted and file.private]
    if private:
        return [f"  This file opens the box; if it has a passphrase: ssh-add {in_home(home, private[0])}"]
    lines = [f"  load that key     ssh-add FILE, with the private half of {me.keys[0].fingerprint}"] if me.keys else []
    mine = [file.path for file in files if file.private and file.path != file.private]
    if mine:
        lines.append("  use this one      " + gpu_dev(f"config set ssh_key {in_home(home, mine[0])}"))
    elif held:
        lines.append("  use your agent's  ssh-add -L > ~/agent.pub && " + gpu_dev("config set ssh_key ~/agent.pub"))
    else:
        lines.append(
            "  make a key        ssh-keygen -t ed25519 && " + gpu_dev("config set ssh_key ~/.ssh/id_ed25519.pub")
        )
    if me.github_user:
        lines.append(f"  or on GitHub      add your public key to {me.github_user}: {_GITHUB}")
    return lines


def _origin(key: KeyView, me: Me) -> str:
    name = cut(key.comment, LONGEST_COMMENT) or key.kind
    return f"{me.github_user} on GitHub" if key.source is KeySource.GITHUB else f"{name}, set by you"
