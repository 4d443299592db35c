"""Packet filter rules of each cloud: boxes are reachable only by their published ports, and cannot reach the machine's
loopback or a metadata service.

The engine's own isolation is not enough. netavark removes the jump to it whenever any network is deleted, and does not
restrict containers that are not isolated themselves. To publish ports on 127.0.0.1 it also lets the kernel route from
the boxes' bridges to the loopback, which a box with raw sockets can use (CVE-2020-8558). The rules are in `mangle`,
which is evaluated before every `ACCEPT` of `filter`, and match by destination, so a forged sender address does not
evade them.

A rule that accepts a packet ends its way through the table. So each check also moves our rules above those of other
programs that may accept packets; the programs' own rules are left alone.

Link-local addresses and the metadata services of cloud providers are blocked too, since they return the machine's own
credentials. DNS stays open there: some providers' resolver has the same address.

Source: netavark 1.4, `firewall/varktables/types.rs` (the jump to NETAVARK_ISOLATION_1 has the policy OnComplete),
`network/bridge.rs` (route_localnet).
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from itertools import pairwise

from odc.domain.commands import odc
from odc.domain.errors import ProviderUnavailable

log = logging.getLogger(__name__)

_TABLE = ("-t", "mangle")
_PRECEDED = "the packet filter had a rule that accepts packets before those that keep boxes apart"
_LOST = "the packet filter had lost rules that keep boxes apart from each other and the host"
_WAIT_S = 10
# Link-local with the metadata services of AWS, Google, Azure, Oracle and others; Azure's wire server; Alibaba's.
_METADATA = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32")
_LIMIT_S = 30.0
_ACCEPTING = frozenset({"ACCEPT", "QUEUE", "NFQUEUE", "TPROXY"})
"""Targets after which a packet does not meet the later rules of its chain."""
SUBNET_BITS = 28
"""Bits of the network of one reservation."""
NEW_CONNECTIONS, CONNECTION_BURST = 1000, 5000
"""New connections per second of one reservation, and how many may come at once."""


def keep_apart(cloud: str, network: str, metadata: bool = False) -> str:
    """Drop packets routed into the cloud's networks, except answers to boxes and those to published ports; packets to
    the machine's loopback from other interfaces; and those from boxes to metadata services. Repeatable.

    Boxes of one reservation share a bridge, so packets between them are not routed.

    Args:
        cloud: names the rules.
        network: addresses of the cloud's networks, in CIDR form.
        metadata: whether boxes may reach link-local addresses and metadata services.

    Returns:
        What was wrong with the rules and was corrected, as a sentence without its full stop; empty if nothing was.

    Raises:
        ProviderUnavailable: a rule could not be made; no box may be started.
    """
    program = _program()
    if program is None:
        raise _not_apart("iptables is not installed")
    table = _read_table(program)
    rules = _rules(table, cloud)
    if metadata:
        for rule in rules:
            if _place(rule)[2] in _METADATA:
                _run(program, "-D", *rule)
        rules = [rule for rule in rules if _place(rule)[2] not in _METADATA]
    there = {_place(rule) for rule in rules}
    missing = [rule for rule in _wanted(cloud, network, metadata) if _place(rule) not in there]
    for rule in missing:
        _insert(program, rule)
    earlier = find_earlier_accept(table, cloud)
    if earlier:
        for rule in rules:
            _run(program, "-D", *rule)  # a crash here leaves a missing rule, which the next check makes
            _insert(program, rule)
        # Not every caller reports it: a start of a box does not.
        log.warning(_PRECEDED, extra={"cloud": cloud, "rule": shlex.join(earlier)})
        return f"{_PRECEDED} ({shlex.join(earlier)}); it comes after them now"
    return f"{_LOST}; it was put back" if missing else ""


def _insert(program: str, rule: list[str]) -> None:
    done = _run(program, "-I", *rule)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise _not_apart(words[0] if words else f"status {done.returncode}")


def find_earlier_accept(table: Sequence[list[str]], cloud: str) -> list[str] | None:
    """Return another program's rule that may accept packets before they meet one of the cloud's rules; None if there is
    none.

    What such a rule matches is not compared with ours: whether some packet meets both cannot be told in general.

    Args:
        table: the words of each rule of the table, in the order of `iptables -S`, without `-A`.
        cloud: names the cloud's rules.
    """
    accepting = set(_ACCEPTING)
    while more := {rule[0] for rule in table if _target(rule) in accepting} - accepting:
        accepting |= more
    earlier: dict[str, list[str]] = {}
    for rule in table:
        if _comment(cloud) in rule:
            if rule[0] in earlier:
                return earlier[rule[0]]
        # From a built-in chain, RETURN and -g end at the chain's policy.
        elif _target(rule) in {*accepting, "RETURN"} or "-g" in rule:
            earlier.setdefault(rule[0], rule)
    return None


def _target(rule: list[str]) -> str:
    """Return the target or chain of a rule; empty if it has none."""
    return next((after for word, after in pairwise(rule) if word in ("-j", "-g")), "")


def _not_apart(reason: str) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"boxes cannot be kept apart: {reason}", ("see what is missing", "sudo " + odc("doctor"))
    )


def _wanted(cloud: str, network: str, metadata: bool) -> list[list[str]]:
    apart = ["FORWARD", "-d", network, "-m", "physdev", "!", "--physdev-is-bridged"]
    apart += ["-m", "conntrack", "!", "--ctstate", "ESTABLISHED,RELATED,DNAT"]
    rules = [apart, ["PREROUTING", "-d", "127.0.0.0/8", "!", "-i", "lo"]]
    if not metadata:
        # Before routing: a metadata service may also be an address of this machine. Their order does not matter.
        rules += [
            ["PREROUTING", "-s", network, "-d", target, "-p", protocol, "!", "--dport", "53"]
            for target in _METADATA
            for protocol in ("tcp", "udp")
        ]
        # And nothing else: ICMP, UDP-Lite, SCTP, tunnels. One rule cannot negate two protocols, so conntrack names UDP.
        others = ["!", "-p", "tcp", "-m", "conntrack", "!", "--ctproto", "17"]
        rules += [["PREROUTING", "-s", network, "-d", target, *others] for target in _METADATA]
    rules.append(["PREROUTING", "-s", network, "-m", "conntrack", "--ctstate", "NEW", *_too_many(cloud)])
    return [[*rule, "-m", "comment", "--comment", _comment(cloud), "-j", "DROP"] for rule in rules]


def _too_many(cloud: str) -> list[str]:
    """Match new connections of one reservation's network above its rate: all share the kernel's connection table, and
    when it is full the machine is unreachable. Connections that were never answered are removed after 2 minutes.
    """
    rate = ["--hashlimit-above", f"{NEW_CONNECTIONS}/sec", "--hashlimit-burst", str(CONNECTION_BURST)]
    group = ["--hashlimit-mode", "srcip", "--hashlimit-srcmask", str(SUBNET_BITS)]
    return ["-m", "hashlimit", *rate, *group, "--hashlimit-name", f"odc-{zlib.crc32(cloud.encode()):x}"]


def is_kept_apart(cloud: str) -> bool:
    """Whether the cloud's rules exist, and come before all rules of others that may accept packets."""
    program = _program()
    table = [] if program is None else _read_table(program)
    chains = {rule[0] for rule in _rules(table, cloud)}
    return chains == {"FORWARD", "PREROUTING"} and find_earlier_accept(table, cloud) is None


def read_rules() -> list[str]:
    """Return every rule of the packet filter as iptables writes it; none if iptables fails."""
    program = _program()
    save = f"{program}-save" if program is not None else None
    if save is None or shutil.which(save) is None:
        return []
    try:
        done = subprocess.run([save], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.startswith("-A ")]


def forget_rules(cloud: str) -> None:
    """Delete the cloud's rules, if any. No box may be left."""
    program = _program()
    if program is not None:
        for rule in _rules(_read_table(program), cloud):
            _run(program, "-D", *rule)


def _comment(cloud: str) -> str:
    return f"odc {cloud}: boxes"


def _read_table(program: str) -> list[list[str]]:
    """Return the words of each rule of the table, chain by chain, without `-A`."""
    lines = [shlex.split(line) for line in _run(program, "-S").stdout.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["-A"]]


def _rules(table: Sequence[list[str]], cloud: str) -> list[list[str]]:
    """Return the rules with the cloud's name, including those for addresses of earlier settings."""
    return [words for words in table if _comment(cloud) in words]


def _place(rule: list[str]) -> tuple[str, ...]:
    """Return the chain, addresses, protocol and its negation, by which a cloud's rules are distinguished."""
    found = (rule[rule.index(word) + 1] if word in rule else "" for word in ("-s", "-d", "-p"))
    negated = "-p" in rule and rule[rule.index("-p") - 1] == "!"
    return rule[0], *found, "!" if negated else ""


def _program() -> str | None:
    return shutil.which("iptables") or shutil.which("iptables", path="/usr/sbin:/sbin")


def _run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run iptables; it waits for other programs that are changing the rules."""
    command = [program, "-w", str(_WAIT_S), *_TABLE, *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProviderUnavailable(f"iptables does not answer: {error}") from error
