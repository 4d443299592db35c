"""`odc doctor`: everything that the cloud needs, each as one line that is ok or says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from odc.adapters.engine.image import box_version
from odc.adapters.engine.service import look_at_machine
from odc.adapters.localdisk.health import examine_storage
from odc.adapters.system.gpus import driver_version, find_gpus
from odc.api.unix_socket import is_served
from odc.domain.errors import OdcError
from odc.entrypoints.bootstrap import engine_service, find_nodes, images
from odc.entrypoints.settings import Settings


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line: `ok`, `warn` or `fail`; of what; what was found; what to do."""

    level: str
    subject: str
    text: str
    hint: str = ""


def examine(settings: Settings) -> tuple[Finding, ...]:
    """Look at everything; one failing check never hides another."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _daemon,
        _engine,
        _limits,
        _image,
        _gpus,
        _ports,
        _disks,
        _internet,
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(settings)
        except OdcError as error:
            hint = f"{error.hints[0].label}: {error.hints[0].command}" if error.hints else ""
            subject = check.__name__.strip("_")
            findings.append(Finding(level="fail", subject=subject, text=error.message, hint=hint))
    return tuple(findings)


def _daemon(settings: Settings) -> Iterator[Finding]:
    if is_served(Path(settings.socket)):
        yield Finding(level="ok", subject="daemon", text=f"answers on {settings.socket}")
    else:
        text = f"does not answer on {settings.socket}"
        yield Finding(level="warn", subject="daemon", text=text, hint="run: sudo odc up")


def _engine(settings: Settings) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding(level="warn", subject="engine", text="only root can look", hint="run: sudo odc doctor")
        return
    api = engine_service(settings).ensure()
    version = (api.get("/version") or {}).get("Version", "?")
    machine = look_at_machine()
    groups = "cgroup v2" if machine.cgroup_v2 else "cgroup v1"
    yield Finding(level="ok", subject="engine", text=f"podman {version}, {machine.runtime}, {groups}")
    if shutil.which("iptables") is None and shutil.which("nft") is None:
        hint = "run: sudo apt-get install iptables"
        yield Finding(level="fail", subject="network", text="iptables is not installed", hint=hint)
    if shutil.which("lxcfs") is None:
        text = "lxcfs is not installed: free shows the host's memory inside boxes"
        yield Finding(level="warn", subject="lxcfs", text=text, hint="run: sudo apt-get install lxcfs")


def _limits(settings: Settings) -> Iterator[Finding]:
    machine = look_at_machine()
    low = machine.open_files < 4096
    text = f"{machine.open_files} open files, {machine.processes} processes in each box"
    yield Finding(level="warn" if low else "ok", subject="limits", text=text)


def _image(settings: Settings) -> Iterator[Finding]:
    if os.geteuid() != 0:
        return
    version = images(settings).version_of(settings.image)
    build = "run: sudo odc image build        (about 2 minutes)"
    if version is None:
        yield Finding(level="fail", subject="image", text=f"{settings.image} is not built", hint=build)
    elif version and version != box_version():
        yield Finding(level="warn", subject="image", text=f"{settings.image} is older than this ODC", hint=build)
    else:
        yield Finding(level="ok", subject="image", text=settings.image)


def _gpus(settings: Settings) -> Iterator[Finding]:
    policy = settings.policy()
    nodes = find_nodes(settings, policy)
    if settings.simulate:
        text = ", ".join(f"{node.units} x {node.gpu_type}" for node in nodes)
        yield Finding(level="ok", subject="GPUs", text=f"SIMULATED: {text}")
        return
    found = find_gpus()
    if not found:
        text = f"none; the machine serves {nodes[0].gpu_type}"
        yield Finding(level="warn", subject="GPUs", text=text, hint="try it: odc up --simulate h100=1x8")
        return
    text = f"{len(found)} x {found[0].name}, driver {driver_version()}, as {nodes[0].gpu_type}"
    yield Finding(level="ok", subject="GPUs", text=text)
    if not any(Path(folder).glob("nvidia*") for folder in ("/etc/cdi", "/var/run/cdi") if Path(folder).is_dir()):
        hint = "run: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        yield Finding(level="fail", subject="CDI", text="the GPUs are not described to the engine", hint=hint)


def _ports(settings: Settings) -> Iterator[Finding]:
    first, last = settings.ports
    sample = range(first, last + 1, max((last - first) // 50, 1))
    taken = [port for port in sample if not _is_free(settings.listen, port)]
    text = f"{first} to {last} on {settings.listen}"
    if len(taken) * 2 > len(sample):
        hint = "choose others: ports = [FIRST, LAST] in the settings"
        yield Finding(level="warn", subject="ports", text=f"{text}: many are taken", hint=hint)
    else:
        yield Finding(level="ok", subject="ports", text=text)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _disks(settings: Settings) -> Iterator[Finding]:
    for line in examine_storage(settings.disks_folder, int(settings.disk_file_gib * 2**30)):
        yield Finding(level=line.level, subject=line.subject, text=line.text, hint=line.hint)


def _internet(settings: Settings) -> Iterator[Finding]:
    try:
        urllib.request.urlopen(settings.github, timeout=3).close()  # noqa: S310  # the operator's own address
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        text = f"{settings.github} cannot be reached: {error}"
        hint = "users set their own keys: gpu-dev config set ssh_key FILE"
        yield Finding(level="warn", subject="HTTPS", text=text, hint=hint)
        return
    yield Finding(level="ok", subject="HTTPS", text=f"{settings.github} answers")
