"""Checks the host's part of running boxes (packet filter, mounts, limits), and repairs it.

A reload of the host's packet filter (`firewall-cmd --reload`, `ufw reload`, `nft flush ruleset`) removes the rules that
lead to boxes and those that isolate them, and the engine does not notice. Each run therefore checks everything that a
box depends on. The isolation rules come first.

The current rules are compared with the earlier ones, not with a list of netavark's rules, which differ from version to
version. `podman network reload` creates a box's network again and closes its open connections, so it is done only for
boxes that cannot be reached.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from pathlib import Path
from typing import Any

from odc.adapters.engine.box_limits import limit_sockets
from odc.adapters.engine.container import EngineOptions
from odc.adapters.engine.firewall import SUBNET_BITS, keep_apart, read_rules
from odc.adapters.engine.kernel_limits import raise_limits
from odc.adapters.engine.links import is_link, is_working
from odc.adapters.engine.lxcfs import ensure_lxcfs, has_died
from odc.adapters.engine.network_namespaces import is_unmounted, mount_namespace, share_namespaces
from odc.adapters.engine.podman_api import PodmanApi
from odc.adapters.engine.ssh_banner import answering_ssh
from odc.adapters.engine.tcp_ports import has_address
from odc.domain.box import SSH, BoxSeen
from odc.domain.errors import ProviderError, ProviderUnavailable
from odc.domain.host import HostReport
from odc.domain.problem import Problem, ProblemKind
from odc.host import write_atomically

log = logging.getLogger(__name__)

BANNER_LIMIT_S = 3.0
MOST_RELOADS = 8
RELOAD_PAUSE_S = 20.0
RELOAD_LIMIT_S = 30.0
SURVEY_PAUSE_S = 20.0
SURVEY_LIMIT_S = 60.0
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
NO_ANSWER = "its SSH server does not answer; no fault of the host was found"


@dataclass(slots=True)
class _Facts:
    """Facts about a running box: its first process, its network namespace's mount, its address and network."""

    pid: int
    namespace: Path
    address: str
    network: str
    rules: int = 0
    silent: int = 0
    reloaded_at: float = field(default=-RELOAD_PAUSE_S)


class HostChecks:
    """See `Cluster.check_host`. Keeps the facts of each box, so that it notices what is missing."""

    def __init__(self, api: PodmanApi, options: EngineOptions, address: str) -> None:
        """Store the arguments; the engine is not called yet.

        Args:
            api: of the engine.
            options: what every box gets.
            address: at which this machine reaches the boxes' SSH ports.
        """
        self._api = api
        self._options = options
        self._address = address
        self._facts: dict[str, _Facts] = {}
        self.broken_gpus: Mapping[str, str] = options.broken_gpus()
        self._surveyed_at = time.monotonic()
        self._surveyor: threading.Thread | None = None
        self._kept = {path: path.read_bytes() for path in options.kept_files if path.is_file()}

    def check(self, boxes: Sequence[BoxSeen]) -> HostReport:
        """Check the host, repair it, and return what was found; a repair that fails is one of its problems.

        Args:
            boxes: running boxes, whose SSH is probed and whose network is repaired.
        """
        repaired: list[Problem] = []
        problems: list[Problem] = []
        blocked = self._isolate(repaired)
        if blocked:
            problems.append(Problem(kind=ProblemKind.ISOLATION_FAILED, detail=blocked))
        repairs = (
            self._restore_files,
            self._restore_forwarding,
            self._restore_lxcfs,
            self._restore_namespaces,
            self._restore_limits,
        )
        for repair in repairs:
            try:
                repaired += repair()
            except (OSError, ProviderError) as error:
                problems.append(Problem(kind=ProblemKind.REPAIR_FAILED, detail=str(error)))
        for box in boxes:  # a box that was restarted by hand has lost the limit
            limit_sockets(box.uid, self._options.limits.socket_bytes_per_unit * box.units)
        problems += self._survey()
        problems += self._find_address()
        unreachable, reachable = self._reach(boxes)
        return HostReport(
            reachable=frozenset(reachable),
            unreachable=unreachable,
            repaired=tuple(repaired),
            problems=tuple(problems),
            blocked=blocked,
            missing_image=self._missing_image(),
        )

    def _find_address(self) -> Iterable[Problem]:
        """Yield a problem if the machine lacks the listening address: then no port can be opened."""
        listen = self._options.listen
        if not has_address(listen):
            yield Problem(kind=ProblemKind.ADDRESS_LOST, address=listen)

    def _survey(self) -> Iterable[Problem]:
        """Yield a problem if the GPU driver hangs. A separate thread asks it from time to time, so that it cannot block
        other checks.
        """
        since = time.monotonic() - self._surveyed_at
        if self._surveyor is not None and self._surveyor.is_alive():
            if since > SURVEY_LIMIT_S:
                # In whole minutes: the problem is logged whenever it differs.
                yield Problem(kind=ProblemKind.GPU_DRIVER_HANGS, seconds=since // 60 * 60)
        elif since >= SURVEY_PAUSE_S:
            self._surveyed_at = time.monotonic()
            self._surveyor = threading.Thread(target=self._inspect_gpus, daemon=True, name="gpus")
            self._surveyor.start()

    def _inspect_gpus(self) -> None:
        found = self._options.broken_gpus()
        for gpu in found.keys() - self.broken_gpus.keys():
            log.error("a GPU cannot be used", extra={"gpu": gpu, "reason": found[gpu]})
        for gpu in self.broken_gpus.keys() - found.keys():
            log.warning("a GPU can be used again", extra={"gpu": gpu})
        self.broken_gpus = found

    def _isolate(self, repaired: list[Problem]) -> str:
        """Restore the rules that isolate boxes; return why that failed, or empty text."""
        options = self._options
        try:
            networks = (options.network, *sorted(self._earlier_networks()))
            faults = [keep_apart(options.cloud, network, options.metadata) for network in networks]
            repaired += [Problem(kind=ProblemKind.ISOLATION_RESTORED, detail=fault) for fault in set(faults) if fault]
        except ProviderError as error:
            return error.message
        return ""

    def _earlier_networks(self) -> set[str]:
        """Return the networks of running boxes that were started while the settings had another `network`."""
        now = ip_network(self._options.network)
        alive = (facts.address for facts in self._facts.values() if Path(f"/proc/{facts.pid}").exists())
        found = {_network_of(address) for address in alive if address}
        return {str(network) for network in found if not network.overlaps(now)}

    def _restore_files(self) -> Iterable[Problem]:
        """Restore files that new boxes mount (the simulated GPUs' description and programs); yield each repair."""
        for path, content in self._kept.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content, 0o755 if path.parent.name == "programs" else 0o644)
                yield Problem(kind=ProblemKind.FILE_RESTORED, path=str(path))

    def _restore_forwarding(self) -> Iterable[Problem]:
        """Turn on the kernel's forwarding again, which all traffic of boxes needs; yield the repair."""
        if self._facts and FORWARDING.read_text().strip() == "0":
            FORWARDING.write_text("1")
            yield Problem(kind=ProblemKind.FORWARDING_RESTORED)

    def _restore_lxcfs(self) -> Iterable[Problem]:
        folder = self._options.lxcfs
        if folder is not None and has_died(folder) and ensure_lxcfs(folder) is not None:
            yield Problem(kind=ProblemKind.LXCFS_RESTARTED)

    def _restore_limits(self) -> Iterable[Problem]:
        raised = raise_limits(self._options.limits.kernel, self._options.limits.noted)
        if raised:
            yield Problem(kind=ProblemKind.KERNEL_LIMITS_RAISED, detail=", ".join(raised))

    def _restore_namespaces(self) -> Iterable[Problem]:
        """Mount the boxes' network namespaces again, which the engine needs to list and remove networks; yield the
        repair.
        """
        lost = [facts for facts in self._facts.values() if is_unmounted(facts.pid, facts.namespace)]
        if not lost:
            return
        share_namespaces()
        for facts in lost:
            mount_namespace(facts.pid, facts.namespace)
        yield Problem(kind=ProblemKind.NAMESPACES_RESTORED, count=len(lost))

    def _reach(self, boxes: Sequence[BoxSeen]) -> tuple[dict[str, str], set[str]]:
        """Return uid to cause of the unreachable boxes, and the uids of the others."""
        here = {box.uid for box in boxes}
        places = {box.uid: (self._address, box.ports.get(SSH, 0)) for box in boxes}
        greeted = answering_ssh(places.values(), BANNER_LIMIT_S)
        known = {box.uid: self._facts.get(box.uid) or self._learn(box) for box in boxes}
        # At its own address, which needs no rule of the packet filter. All at once: each may take the whole limit.
        silent = {facts.address for uid, facts in known.items() if facts and places[uid] not in greeted}
        inside = {place[0] for place in answering_ssh([(address, 22) for address in silent if address], BANNER_LIMIT_S)}
        rules = read_rules()
        unreachable: dict[str, str] = {}
        reachable: set[str] = set()
        reloads = 0
        for box in boxes:
            facts = known[box.uid]
            if facts is None:
                continue
            cause = self._cause(box, facts, places[box.uid] in greeted, inside, rules)
            if cause is None:
                reachable.add(box.uid)
            elif cause:
                unreachable[box.uid] = cause
                if cause != NO_ANSWER and reloads < MOST_RELOADS:
                    reloads += self._reload(box, facts)
        if len(self._facts) > 4 * len(here) + 256:
            self._facts = {uid: facts for uid, facts in self._facts.items() if Path(f"/proc/{facts.pid}").exists()}
        return unreachable, reachable

    def _learn(self, box: BoxSeen) -> _Facts | None:
        """Return the facts of a box that was not checked before; None if it has ended meanwhile."""
        try:
            known: Mapping[str, Any] | None = self._api.get(f"/containers/{box.uid}/json")
        except ProviderError:
            return None
        if known is None or known["State"]["Status"] != "running":
            return None
        settings = known["NetworkSettings"]
        networks: dict[str, dict[str, Any]] = settings.get("Networks") or {}
        network = next(iter(networks), "")
        facts = _Facts(
            pid=int(known["State"]["Pid"]),
            namespace=Path(settings.get("SandboxKey") or "/nonexistent"),
            address=networks.get(network, {}).get("IPAddress") or "",
            network=network,
        )
        self._facts[box.uid] = facts
        return facts

    def _cause(self, box: BoxSeen, facts: _Facts, greets: bool, inside: set[str], rules: Sequence[str]) -> str | None:
        """Return why users do not reach the box: empty while that is not certain yet, None if they do. `inside` has the
        addresses of boxes whose SSH answers there, but not at their port.
        """
        if not Path(f"/proc/{facts.pid}").exists():
            # It was started again: everything about it is new.
            del self._facts[box.uid]
            return ""
        count = _rules_of(box, facts, rules)
        if greets:
            facts.silent = 0
            if count >= facts.rules:
                facts.rules = count
                # The last reload helped, so the next fault is a new one, which need not wait.
                facts.reloaded_at = -RELOAD_PAUSE_S
                return None
        if count < facts.rules:
            return "the host's packet filter has lost rules that lead to it"
        facts.silent += 1
        return self._diagnose(box, facts, facts.address in inside)

    def _diagnose(self, box: BoxSeen, facts: _Facts, greets_inside: bool) -> str:
        if greets_inside:
            return f"nothing leads from {self._address}, port {box.ports.get(SSH, 0)} to it any more"
        try:
            network = self._api.get(f"/networks/{facts.network}/json") or {}
        except ProviderError:
            network = {}
        bridge = network.get("network_interface", "")
        if bridge and not is_link(bridge):
            return f"the bridge {bridge} of its network is gone from the host"
        if bridge and not is_working(bridge):
            return f"the bridge {bridge} of its network is down, has lost its address, or the box is not attached to it"
        if not _has_interface(facts.pid):
            return "its network interface is gone"
        if facts.silent < 2:
            return ""
        return NO_ANSWER

    def _reload(self, box: BoxSeen, facts: _Facts) -> int:
        """Create the box's network again, not again soon if that did not help; return how many commands were run."""
        if time.monotonic() - facts.reloaded_at < RELOAD_PAUSE_S:
            return 0
        facts.reloaded_at = time.monotonic()
        # The rules that exist when its SSH server next answers are the complete set.
        facts.rules = 0
        try:
            self._podman("network", "reload", box.uid)
        except ProviderError as error:
            log.warning("could not reload a box's network", extra={"box": str(box.name), "reason": error.message})
        return 1

    def _podman(self, *words: str) -> None:
        program = shutil.which("podman")
        if program is None:
            raise ProviderUnavailable("Podman is not installed any more")
        environment = dict(self._options.environment)
        try:
            done = subprocess.run(
                [program, *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=RELOAD_LIMIT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderUnavailable(f"podman {words[0]} {words[1]} did not end: {error}") from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise ProviderUnavailable(said[-1] if said else f"podman ended with {done.returncode}")

    def _missing_image(self) -> str:
        image = self._options.image
        try:
            return image if image and self._api.get(f"/images/{image}/json") is None else ""
        except ProviderError:
            return ""


def _network_of(address: str) -> IPv4Network | IPv6Network:
    """Return the network of a box with this address."""
    return ip_interface(f"{address}/{SUBNET_BITS}").network


def _rules_of(box: BoxSeen, facts: _Facts, rules: Sequence[str]) -> int:
    """Return the number of the packet filter's rules that the box needs: those with its ports, address or network, and
    the jumps to the engine's chains. 0 if none has one of the former.
    """
    # The box's own network, which the setting may not have any more.
    signs = [f"{_network_of(facts.address)} "] if facts.address else []
    # One port, or the first of a range.
    signs += [f"--dport {port}{end}" for port in box.ports.values() for end in " :"]
    signs.append(f"--to-destination {facts.address}:")
    ours = sum(any(sign in rule for sign in signs) for rule in rules)
    # The jump to the engine's isolation comes and goes with any network.
    jumps = sum("-j NETAVARK" in rule and rule.startswith(_CHAINS) and "ISOLATION" not in rule for rule in rules)
    return ours + min(jumps, _JUMPS) if ours else 0


_CHAINS = ("-A PREROUTING -m addrtype", "-A OUTPUT -m addrtype", "-A FORWARD -m comment", "-A POSTROUTING -j")
_JUMPS = 4


def _has_interface(pid: int) -> bool:
    """Whether the process has a network interface other than the loopback."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return True
    return any(not line.strip().startswith("lo:") for line in lines)
