"""The checks of `odc doctor` on a machine that runs boxes itself: the engine, GPUs, ports, disks, records, the network.

They change nothing and leave nothing running. Checks that need root say so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from odc.adapters.engine.box_limits import UNLIMITED, locked_memory, most_boxes
from odc.adapters.engine.firewall import is_kept_apart
from odc.adapters.engine.image import Images, box_version
from odc.adapters.engine.kernel_limits import low_limits, raised_limits, wanted_limits
from odc.adapters.engine.lxcfs import has_died
from odc.adapters.engine.nodes import by_type
from odc.adapters.engine.resolver import PUBLIC, answers, find_resolver
from odc.adapters.engine.seccomp import SOURCES
from odc.adapters.engine.service import EngineService, Machine, inspect_machine
from odc.adapters.engine.tcp_ports import check_listen, ephemeral_ports, taken_ports
from odc.adapters.github.key_source import why_not
from odc.adapters.localdisk.health import examine_storage
from odc.adapters.sql.disk_reserve import REFUSE_BYTES, WARN_BYTES
from odc.adapters.system.cdi import GENERATE, undescribed
from odc.adapters.system.gpus import driver_version, survey_gpus
from odc.adapters.system.known_gpus import gpus_file, lost_gpus
from odc.domain.box import BOX_PORTS
from odc.domain.commands import gpu_dev, odc
from odc.domain.finding import Finding
from odc.entrypoints.bootstrap.cloud import engine_service, find_nodes
from odc.entrypoints.bootstrap.id_checks import foreign_ids, why_shared
from odc.operator.backend import Check, KernelLimits
from odc.operator.settings import EVERYWHERE, Settings

BUILD = "run: sudo " + odc("image build") + "        (about 2 minutes)"
_AGAIN = odc("down") + " && " + odc("up")
LEAST_FILES = 4096


def machine_checks(settings: Settings, environment: Mapping[str, str], running: bool) -> dict[str, Check]:
    """Return subject to check, in the order in which they are shown.

    Args:
        settings: of the cloud.
        environment: for the engine's own commands.
        running: a daemon of this cloud runs.
    """
    return {
        "cgroups": partial(_cgroups, settings, running),
        "engine": partial(_engine, settings, environment, running),
        "programs": partial(_programs, settings, running),
        "GPUs": partial(_gpus, settings),
        "ports": partial(_ports, settings),
        "records": partial(_records, settings),
        "audit log": partial(_audit_log, settings),
        "disks": partial(_disks, settings),
        "DNS": partial(_dns, settings),
        "HTTPS": partial(_internet, settings),
    }


def _only_root(subject: str) -> Finding:
    return Finding("warn", subject, "only root can look", "run: sudo " + odc("doctor"))


def _disks(settings: Settings) -> Iterator[Finding]:
    yield from examine_storage(settings.disks_folder, int(settings.disk_file_gib * 2**30))


def _cgroups(settings: Settings, running: bool) -> Iterator[Finding]:
    machine = inspect_machine()
    if machine.cgroup_v2:
        yield Finding("ok", "cgroups", "v2: shares of cores and memory hold")
    elif all(Path("/sys/fs/cgroup", name).is_dir() for name in ("cpu", "cpuset", "memory", "pids")):
        yield Finding("ok", "cgroups", "v1: shares of cores and memory hold")
    else:
        hint = "boot with systemd.unified_cgroup_hierarchy=1"
        yield Finding("fail", "cgroups", "neither v2 nor the controllers cpu, cpuset, memory and pids of v1", hint)
    yield from _limits(machine)
    yield _kernel(settings, running)


def _limits(machine: Machine) -> Iterator[Finding]:
    # The limits of this process: only root's are those of the daemon, from which boxes get theirs.
    if os.geteuid() != 0:
        yield _only_root("limits")
        return
    text = f"{machine.open_files} open files, {machine.processes} processes in each box"
    again = ", and then: " + _AGAIN
    if machine.open_files < LEAST_FILES:
        yield Finding("warn", "limits", text, "raise the hard limit: ulimit -Hn 1048576" + again)
    elif locked_memory() != UNLIMITED:
        text += f"; only {locked_memory() // 2**20} MiB of locked memory, and RDMA and NCCL may need more"
        yield Finding("warn", "limits", text, "run the daemon with CAP_SYS_RESOURCE, or: ulimit -l unlimited" + again)
    else:
        yield Finding("ok", "limits", text)


def kernel_limits(settings: Settings) -> KernelLimits:
    """Return the state of the kernel limits that the boxes of these settings share."""
    wanted = _wanted(settings)
    return KernelLimits(low=len(low_limits(wanted)), raised=len(raised_limits(wanted)), total=len(wanted))


def _wanted(settings: Settings) -> dict[str, int]:
    return wanted_limits(most_boxes(find_nodes(settings, settings.policy())))


def _kernel(settings: Settings, running: bool) -> Finding:
    """Check the kernel limits that all boxes share, which one box could use up."""
    limits, wanted = kernel_limits(settings), _wanted(settings)
    low = low_limits(wanted)
    if not low:
        return Finding("ok", "kernel", limits.text or f"all {limits.total} kernel limits are high enough")
    names = ", ".join(f"{name} is {value}" for name, (value, _) in low.items())
    if os.geteuid() != 0 or not running:
        count = f" raises {limits.low} of {limits.total} kernel limits until "
        return Finding("ok", "kernel", odc("up") + count + odc("down --all") + f": {names}")
    command = " ".join(f"{name}={target}" for name, (_, target) in low.items())
    return Finding("warn", "kernel", f"one box can use up what all share: {names}", f"run: sudo sysctl -w {command}")


def _engine(settings: Settings, environment: Mapping[str, str], running: bool) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield _only_root("engine")
        yield _only_root("image")
        return
    with _some_engine(settings, environment) as service:
        info = service.ensure().get("/info") or {}
        version = info.get("version", {}).get("Version", "?")
        yield Finding("ok", "engine", f"podman {version} with {inspect_machine().runtime}")
        yield _host_ids(settings, info, running)
        if service.is_outdated():
            text = "podman was replaced since its service started, as by an upgrade"
            yield Finding("warn", "engine", text, "to use the new one: " + _AGAIN + " (boxes go on)")
        known = Images(service.environment)
        yield _image(settings, known.version_of(settings.image), known.oh_my_zsh_of(settings.image))


def _host_ids(settings: Settings, engine: Mapping[str, Any], running: bool) -> Finding:
    """Check whether each box has its own host ids, so that the kernel's limits by user apply to each box alone."""
    why = why_shared(settings, engine, has_disks=running)
    if why:
        text = f"all boxes share one range of host ids, and with it what the kernel counts by user: {why}"
        return Finding("warn", "host ids", text, "what that means: docs/security.md, Ids")
    ranges = settings.id_ranges
    text = f"{ranges.base} to {ranges.last}: a range for homes, and one for each box"
    others = list(foreign_ids(settings))
    if not others:
        return Finding("ok", "host ids", text)
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    choose = "a cloud without disks can have others: box_id_base = NUMBER in the settings"
    return Finding("warn", "host ids", f"{text}; the same ids are those of {others[0]}{more}", choose)


@contextlib.contextmanager
def _some_engine(settings: Settings, environment: Mapping[str, str]) -> Iterator[EngineService]:
    """Yield the cloud's own service if it runs, else a temporary one."""
    own = engine_service(settings, environment)
    if own.answers():
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="odc-doctor-") as folder:
        service = EngineService(Path(folder), environment)
        try:
            yield service
        finally:
            service.stop()


def _image(settings: Settings, version: str | None, oh_my_zsh: str) -> Finding:
    if version is None:
        return Finding("fail", "image", f"{settings.image} is not built", BUILD)
    if version and version != box_version():
        return Finding("warn", "image", f"{settings.image} is older than this ODC", BUILD)
    if version and settings.oh_my_zsh and not oh_my_zsh:
        text = f"{settings.image} has a small loader in place of oh-my-zsh, which could not be fetched"
        again = "run: sudo " + odc("image build --fresh") + "        (a mirror: oh_my_zsh in the settings)"
        return Finding("warn", "image", text, again)
    return Finding("ok", "image", settings.image)


def _is_installed(program: str) -> bool:
    """Also where only root's path leads: anyone may ask."""
    return (shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")) is not None


def _programs(settings: Settings, running: bool) -> Iterator[Finding]:
    if os.geteuid() == 0 and running and not is_kept_apart(settings.cloud):
        text = "the packet filter lacks the rules that keep boxes from each other and from this machine's own services,"
        text += " or has others first that accept packets"
        yield Finding("fail", "network", text, "run: sudo " + odc("down") + " && sudo " + odc("up"))
    if not _is_installed("iptables"):
        text = "iptables is not installed: boxes cannot be kept apart"
        yield Finding("fail", "network", text, "run: sudo apt-get install iptables")
    if not _is_installed("ssh-keygen"):
        text = "ssh-keygen is not installed: boxes get no host keys"
        yield Finding("fail", "ssh", text, "run: sudo apt-get install openssh-client")
    if not any(path.exists() for path in SOURCES):
        text = "the engine's seccomp profile is missing: a box can make btrfs subvolumes, which no quota counts"
        yield Finding("warn", "seccomp", text, "run: sudo apt-get install golang-github-containers-common")
    if not _is_installed("lxcfs"):
        text = "lxcfs is not installed: free shows the host's memory inside boxes"
        yield Finding("warn", "lxcfs", text, "run: sudo apt-get install lxcfs")
    if has_died(settings.state_folder / "lxcfs"):
        text = "lxcfs has died or hangs: free fails in boxes that run, until they are started again"
        yield Finding("warn", "lxcfs", text, "the next box brings it back; no need to act")


def _gpus(settings: Settings) -> Iterator[Finding]:
    nodes = find_nodes(settings, settings.policy())
    if settings.simulate:
        text = ", ".join(f"{node.units} x {node.gpu_type}" for node in nodes)
        yield Finding("ok", "GPUs", f"SIMULATED: {text}")
        return
    if os.geteuid() != 0:
        # The GPUs of earlier starts, which may be lost now, are noted in the state folder, which only root may read.
        yield _only_root("GPUs")
        return
    survey = survey_gpus()
    for gpu_type, gpus in by_type(survey.gpus, settings.policy().catalog).items():
        use = "kept for the host" if gpu_type in settings.keep_types else f"lent as {gpu_type}"
        yield Finding("ok", "GPUs", f"{len(gpus)} x {gpus[0].name}, driver {driver_version()}, {use}")
    for fault in survey.faults:
        yield Finding("fail", "GPUs", fault, "look for its cause: sudo dmesg | grep -iE 'nvrm|xid'")
    for gpu in lost_gpus(settings.state_folder):
        text = f"{gpu.name} {gpu.uuid} was here at an earlier start and does not answer now"
        forget = f"if it was taken out on purpose: rm {gpus_file(settings.state_folder)}, and then: " + _AGAIN
        yield Finding("fail", "GPUs", text, forget)
    if not any(node.gpus for node in nodes):
        text = f"none to lend; the machine serves {nodes[0].units} x {nodes[0].gpu_type}"
        yield Finding("warn", "GPUs", text, "" if survey.gpus else "try it: " + odc("up --simulate h100=1x8"))
    here = {gpu.uuid for gpu in survey.gpus}
    unknown = undescribed(gpu for node in nodes for gpu in node.gpus if gpu in here)
    if unknown:
        example, why = next(iter(unknown.items()))
        text = f"{len(unknown)} GPUs cannot be given to boxes, such as {example}: {why.partition('; run:')[0]}"
        yield Finding("fail", "CDI", text, f"run: {GENERATE}")


def _ports(settings: Settings) -> Iterator[Finding]:
    check_listen(settings.listen)
    if settings.listen in EVERYWHERE and not settings.address:
        text = f"boxes listen on every address, but users are told {settings.box_address}"
        yield Finding("warn", "address", text, 'set what they can reach: address = "HOST" in the settings')
    first, last = settings.ports
    taken = taken_ports(settings.listen, range(first, last + 1))
    text = f"{first} to {last} on {settings.listen}"
    choose = "choose others: ports = [FIRST, LAST] in the settings"
    low, high = ephemeral_ports()
    if last - first + 1 - len(taken) < len(BOX_PORTS):
        yield Finding("fail", "ports", f"{text}: all are taken", choose)
    elif first <= high and low <= last:
        yield Finding("warn", "ports", f"{text}: outgoing connections use {low} to {high} too", choose)
    else:
        yield Finding("ok", "ports", f"{text}, {len(taken)} in use" if taken else text)


def _records(settings: Settings) -> Iterator[Finding]:
    state = settings.state_folder
    if os.geteuid() != 0 or settings.database or not state.is_dir():
        return
    free = shutil.disk_usage(state).free
    text = f"{free / 2**30:.1f} GiB free at {state}, where the records are"
    hint = f"make room: df -h {state}"
    if free < REFUSE_BYTES:
        yield Finding("fail", "records", f"{text}: no new reservations are taken", hint)
    else:
        yield Finding("warn", "records", text, hint) if free < WARN_BYTES else Finding("ok", "records", text)


def _audit_log(settings: Settings) -> Iterator[Finding]:
    """Whether the history of ended reservations can be exported; until then they stay in the records."""
    if os.geteuid() != 0 or not settings.audit_log:
        return
    path, stays = Path(settings.audit_log), "ended reservations are not deleted"
    if path.is_dir():
        yield Finding(
            "fail", "audit log", f"{path} is a folder: {stays}", f'name a file: audit_log = "{path}/audit.jsonl"'
        )
    elif not path.parent.is_dir():
        text = f"{path.parent} is not a folder: {stays}"
        yield Finding("fail", "audit log", text, f"run: sudo mkdir -p {path.parent}")
    elif os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        yield Finding("fail", "audit log", f"the file system of {path} is read-only: {stays}")
    else:
        yield Finding("ok", "audit log", str(path))


def _dns(settings: Settings) -> Iterator[Finding]:
    """The servers that boxes ask, as this machine reaches them."""
    resolver = find_resolver(settings.dns, settings.dns_search)
    choose = 'name servers that boxes can reach: dns = ["ADDRESS"] in the settings, then: ' + _AGAIN
    if not resolver.servers:
        text = (
            "no DNS server is known that boxes can reach: this machine asks its own loopback or an IPv6 address; "
            f"boxes ask {' and '.join(PUBLIC)}"
        )
        works = any(map(answers, PUBLIC))
        yield Finding("warn" if works else "fail", "DNS", text + ("" if works else ", which do not answer"), choose)
        return
    silent = [server for server in resolver.servers if not answers(server)]
    text = f"boxes ask {', '.join(resolver.servers)} ({resolver.source})"
    if len(silent) == len(resolver.servers):
        yield Finding("fail", "DNS", f"{text}: none answers", choose)
    elif silent:
        yield Finding("warn", "DNS", f"{text}: {', '.join(silent)} does not answer", choose)
    else:
        yield Finding("ok", "DNS", text)


def _internet(settings: Settings) -> Iterator[Finding]:
    try:
        urllib.request.urlopen(settings.github, timeout=3).close()  # noqa: S310  # the operator's own address
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        text = f"{settings.github} cannot be reached: {why_not(error)}"
        yield Finding("warn", "HTTPS", text, "users set their own keys: " + gpu_dev("config set ssh_key FILE"))
        return
    yield Finding("ok", "HTTPS", f"{settings.github} answers")
