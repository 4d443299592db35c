"""Nobody enters a cloud's boxes but through their published ports: one rule of the host's packet filter for each cloud.

The engine's own isolation is not enough: netavark takes the rule that leads to it away whenever any network ends, and
does nothing against containers that are not isolated themselves. This one stands in `mangle`, which is asked before
every `ACCEPT` of `filter`, and matches by destination, so that a forged sender does not pass it.

Source: netavark 1.4, `firewall/varktables/types.rs` (the jump to NETAVARK_ISOLATION_1 has the policy OnComplete).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from odc.domain.errors import ProviderUnavailable

_TABLE = ("-t", "mangle")
_WAIT_S = 10
_LIMIT_S = 30.0


def keep_apart(cloud: str, network: str) -> None:
    """Drop what is routed into the cloud's networks, unless it answers a box or comes by a published port. Repeatable.

    Boxes of one reservation share a bridge: what they send each other is not routed. Without iptables nothing is done:
    such an engine filters with nftables, where its isolation lasts.

    Args:
        cloud: names the rule.
        network: addresses of the cloud's networks, in CIDR form.

    Raises:
        ProviderUnavailable: the rule could not be made; no box is to be started.
    """
    program = _program()
    if program is None:
        return
    rule = ["FORWARD", "-d", network, "-m", "physdev", "!", "--physdev-is-bridged", "-m", "conntrack", "!"]
    rule += ["--ctstate", "ESTABLISHED,RELATED,DNAT", "-m", "comment", "--comment", _comment(cloud), "-j", "DROP"]
    if _run(program, "-C", *rule).returncode == 0:
        return
    done = _run(program, "-I", *rule)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        reason = words[0] if words else f"status {done.returncode}"
        raise ProviderUnavailable(f"boxes cannot be kept apart: {reason}", ("see what is missing", "sudo odc doctor"))


def is_kept_apart(cloud: str) -> bool | None:
    """Whether the cloud's rule is there; None where no rule of ODC is needed."""
    program = _program()
    return None if program is None else bool(_rules(program, cloud))


def forget_rules(cloud: str) -> None:
    """Take the cloud's rules away, when no box is left; there may be none."""
    program = _program()
    if program is not None:
        for rule in _rules(program, cloud):
            _run(program, "-D", *rule)


def _comment(cloud: str) -> str:
    return f"odc {cloud}: boxes"


def _rules(program: str, cloud: str) -> list[list[str]]:
    """The rules that carry the cloud's name, also those for addresses that the settings do not name any more."""
    lines = [shlex.split(line) for line in _run(program, "-S", "FORWARD").stdout.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["-A"] and _comment(cloud) in words]


def _program() -> str | None:
    return shutil.which("iptables", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Ask iptables; it waits for others that change the rules now."""
    command = [program, "-w", str(_WAIT_S), *_TABLE, *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProviderUnavailable(f"iptables does not answer: {error}") from error
