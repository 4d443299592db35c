"""A box as a request to the engine. Pure; the rights of a box are described in `docs/box.md` and `docs/security.md`."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odc.adapters.engine.box_limits import UNLIMITED, BoxLimits
from odc.adapters.engine.firewall import SUBNET_BITS
from odc.adapters.engine.resolver import Resolver
from odc.domain.box import BoxName, BoxSpec
from odc.domain.errors import ProviderRefused
from odc.domain.host_ids import ID_COUNT
from odc.domain.node import Node

OOM_SCORE = 500
PERIOD_US = 100_000
MOST_PIDS, LEAST_PIDS = 16384, 512


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of the machine and the operator for every box.

    Attributes:
        cloud: the cloud's name.
        state: folder for the boxes' files.
        listen: address at which boxes' ports are opened.
        ports: the first and the last of them.
        network: addresses for the boxes' networks.
        id_base: first host uid and gid of boxes that have no range of their own.
        cpus: the machine's cores, by number.
        open_files: limit for each process.
        processes: limit for each user.
        pids_per_unit: processes and threads that a box may have for each GPU or unit.
        sysctls: the kernel's network settings inside a box, by name.
        lxcfs: folder of this cloud's own lxcfs; None: boxes do without.
        program: `odc-box` on the host.
        gpu_kind: CDI kind of the GPUs.
        gpu_paths: GPU to the path that only a container with this GPU has.
        ignored_containers: names of other containers that may see GPUs without holding them.
        grace_s: seconds that processes have to end.
        metadata: whether boxes may reach link-local addresses and metadata services.
        limits: limits of each box for resources that the kernel counts for all boxes.
        image: the cloud's image of boxes.
        kept_files: files on the host that boxes use; they are written again if they are deleted.
        environment: of the engine's own commands.
        dns: DNS servers of boxes; empty: those of the host.
        dns_search: domains in which boxes look up short names; empty: the host's.
        broken_gpus: checks the machine's GPUs; returns GPU to the cause, for those that cannot be lent now. May take
            seconds.
    """

    cloud: str
    state: Path
    listen: str
    ports: tuple[int, int]
    network: str
    id_base: int
    cpus: Sequence[int]
    open_files: int
    processes: int
    pids_per_unit: int
    sysctls: Mapping[str, str]
    lxcfs: Path | None
    program: Path
    gpu_kind: str
    grace_s: int
    gpu_paths: Mapping[str, str] = field(default_factory=dict)
    ignored_containers: tuple[str, ...] = ()
    metadata: bool = False
    limits: BoxLimits = field(default_factory=BoxLimits)
    image: str = ""
    kept_files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    broken_gpus: Callable[[], Mapping[str, str]] = dict


def pids_per_unit(machine_pids: int, nodes: Iterable[Node]) -> int:
    """Return the process limit for one GPU or unit: all boxes together leave a quarter of the machine's processes to
    the host.

    Args:
        machine_pids: the kernel's limit of processes and threads.
        nodes: all nodes of the machine.
    """
    return machine_pids * 3 // 4 // max(sum(node.units for node in nodes), 1)


def is_everywhere(listen: str) -> bool:
    """Whether an address to listen at means all addresses of the machine."""
    return ipaddress.ip_address(listen).is_unspecified


def container_name(cloud: str, name: BoxName) -> str:
    """The engine's name of a box."""
    return f"odc-{cloud}-{name}"


def delete_command(container: str) -> str:
    """What an operator types to delete a box that no record of ODC knows."""
    return f"sudo podman rm -f {container}"


def network_name(cloud: str, reservation_id: str, attempt: int) -> str:
    """The engine's name of an attempt's network."""
    return f"odc-{cloud}-{reservation_id}-{attempt}"


def files_parent(options: EngineOptions) -> Path:
    """The host's folder of the boxes' files: a folder for each box, by its name."""
    return options.state / "boxes"


def subnet_of(options: EngineOptions, ssh_port: int) -> str:
    """Return the addresses of a box's network, in CIDR form; they are computed from its SSH port.

    Raises:
        ProviderRefused: the setting's addresses do not reach as far as its ports.
    """
    whole = ipaddress.ip_network(options.network)
    size = 2 ** (whole.max_prefixlen - SUBNET_BITS)
    index = ssh_port - options.ports[0]
    if not 0 <= index < whole.num_addresses // size:
        raise ProviderRefused(f"the network {options.network} is too small for port {ssh_port}")
    return f"{whole.network_address + index * size}/{SUBNET_BITS}"


def port_of(options: EngineOptions, subnet: str) -> int | None:
    """Return the SSH port to which a network's addresses belong, as in `subnet_of`; None if it is not in the range."""
    whole, first = ipaddress.ip_network(options.network), ipaddress.ip_network(subnet).network_address
    if first not in whole:
        return None
    size = 2 ** (whole.max_prefixlen - SUBNET_BITS)
    port = options.ports[0] + (int(first) - int(whole.network_address)) // size
    return port if port <= options.ports[1] else None


def network_request(options: EngineOptions, name: BoxName, ssh_port: int) -> dict[str, Any]:
    """Return the attempt's own isolated network; its addresses are computed from an SSH port, so no two live ones
    share any.

    Args:
        options: what every box gets.
        name: of its first box.
        ssh_port: of its first box.

    Raises:
        ProviderRefused: the setting's addresses do not reach as far as its ports.
    """
    return {
        "name": network_name(options.cloud, name.reservation_id, name.attempt),
        "driver": "bridge",
        "subnets": [{"subnet": subnet_of(options, ssh_port)}],
        "options": {"isolate": "true"},
        "dns_enabled": False,
        "labels": {
            "odc.cloud": options.cloud,
            "odc.reservation": name.reservation_id,
            "odc.attempt": str(name.attempt),
        },
    }


@dataclass(frozen=True, slots=True)
class HostPart:
    """What the machine gives to one box.

    Attributes:
        ports: its published ports. Key: name, value: the port of the machine.
        address: where users reach them.
        resolver: its DNS servers.
        shown: files that replace the kernel's: path in the box to path on the host.
        core: the largest core file in bytes; None for the engine's default.
    """

    ports: Mapping[str, int]
    address: str = ""
    resolver: Resolver = field(default_factory=Resolver)
    shown: Mapping[str, Path] = field(default_factory=dict)
    core: int | None = None


def container_request(options: EngineOptions, spec: BoxSpec, part: HostPart) -> dict[str, Any]:
    """Return the request for the box's container.

    Args:
        options: what every box gets.
        spec: of this box.
        part: what the machine gives to it.
    """
    return {
        **_user_namespace(options, spec),
        **_network(options, spec, part),
        "name": container_name(options.cloud, spec.name),
        "image": spec.image,
        "entrypoint": ["/usr/local/bin/odc-box", "run"],
        "command": [],
        "hostname": spec.hostname,
        "user": "0:0",
        "work_dir": "/",
        "env": {"ODC_GRACE": str(options.grace_s)},
        "labels": _labels(options, spec, part),
        "mounts": _mounts(options, spec, part.shown),
        # Labels, sizes and devices of the host's file systems.
        "mask": ["/sys/fs/btrfs"],
        # Volumes that an image declares are part of the limited writable layer, not volumes of the engine.
        "image_volume_mode": "ignore",
        "devices": [{"path": f"{options.gpu_kind}={gpu}"} for gpu in spec.gpus],
        "resource_limits": _limits(options, spec),
        "r_limits": _process_limits(options, part.core),
        "sysctl": dict(options.sysctls),
        "shm_size": spec.resources.shm_bytes,
        "stop_timeout": options.grace_s + 5,
        "restart_policy": "no",
        "log_configuration": {"driver": "k8s-file", "size": 2**20},
        # When the whole machine lacks memory, processes of boxes are killed before those of the host. Where the engine
        # may raise limits, no process of a box can lower this number. odc-box adds to it for sessions.
        "oom_score_adj": OOM_SCORE,
        "cap_add": ["AUDIT_WRITE"],
        # Packets made by hand could carry others' addresses, and fill the host's tables of neighbours and connections.
        "cap_drop": ["NET_RAW"],
        **({"seccomp_profile_path": str(options.limits.seccomp)} if options.limits.seccomp else {}),
    }


def _process_limits(options: EngineOptions, core: int | None) -> list[dict[str, Any]]:
    """The limits of each process in the box."""
    return [
        _at_most("nofile", options.open_files),
        _at_most("nproc", options.processes),
        _at_most("memlock", options.limits.locked_memory),
        _at_most("sigpending", options.limits.signals),
        *([] if core is None else [_at_most("core", core)]),
    ]


def _user_namespace(options: EngineOptions, spec: BoxSpec) -> dict[str, Any]:
    """The box's user namespace: its root is one id of the range, and nobody on the host."""
    mapping = [{"container_id": 0, "host_id": spec.id_base or options.id_base, "size": ID_COUNT}]
    return {
        "userns": {"nsmode": "private"},
        "idmappings": {"UIDMap": mapping, "GIDMap": mapping, "HostUIDMapping": False, "HostGIDMapping": False},
    }


def _network(options: EngineOptions, spec: BoxSpec, part: HostPart) -> dict[str, Any]:
    """The network of the box's reservation, its published ports, and its DNS servers."""
    return {
        "netns": {"nsmode": "bridge"},
        "Networks": {network_name(options.cloud, spec.name.reservation_id, spec.name.attempt): {}},
        "portmappings": [
            {
                # An empty address means all of them; 0.0.0.0 would match nothing.
                "host_ip": "" if is_everywhere(options.listen) else options.listen,
                "host_port": outer,
                "container_port": inner,
                "range": count,
                "protocol": "tcp",
            }
            for outer, inner, count in _port_ranges(part.ports, spec.ports)
        ],
        # The engine copies from the host's file what is empty here.
        "dns_server": list(part.resolver.servers),
        "dns_search": list(part.resolver.search),
    }


def _port_ranges(outer: Mapping[str, int], inner: Mapping[str, int]) -> list[tuple[int, int, int]]:
    """Return a box's ports as few ranges: the engine makes eight rules for each of them, one after the other.

    Args:
        outer: name to port of the machine.
        inner: name to port in the box.

    Returns:
        For each range its first port of the machine, its first port in the box, and the number of ports.
    """
    ranges: list[tuple[int, int, int]] = []
    for port, target in sorted((outer[name], inner[name]) for name in outer):
        first, first_target, count = ranges[-1] if ranges else (0, 0, 0)
        if count and (port, target) == (first + count, first_target + count):
            ranges[-1] = (first, first_target, count + 1)
        else:
            ranges.append((port, target, 1))
    return ranges


def _at_most(kind: str, most: int) -> dict[str, Any]:
    """Return a resource limit of every process; the engine's largest number for no limit."""
    value = 2**64 - 1 if most == UNLIMITED else most
    return {"type": kind, "soft": value, "hard": value}


def _labels(options: EngineOptions, spec: BoxSpec, part: HostPart) -> dict[str, str]:
    return {
        "odc.cloud": options.cloud,
        "odc.reservation": spec.name.reservation_id,
        "odc.attempt": str(spec.name.attempt),
        "odc.rank": str(spec.name.rank),
        "odc.node": spec.node,
        "odc.gpu_type": spec.gpu_type,
        "odc.gpus": ",".join(spec.gpus),
        "odc.units": str(spec.units),
        "odc.address": part.address,
        "odc.ports": ",".join(f"{name}={port}" for name, port in part.ports.items()),
        "odc.id_base": str(spec.id_base),
    }


def _mounts(options: EngineOptions, spec: BoxSpec, shown: Mapping[str, Path]) -> list[dict[str, Any]]:
    def bind(source: Path | str, target: str, *flags: str) -> dict[str, Any]:
        return {"type": "bind", "source": str(source), "destination": target, "options": ["rbind", "rprivate", *flags]}

    mounts = [
        bind(files_parent(options) / str(spec.name), "/run/odc", "ro", "nosuid", "nodev"),
        bind(options.program, "/usr/local/bin/odc-box", "ro"),
        _own_files(),
        _terminals(options.limits.terminals),
    ]
    for mount in spec.mounts:
        flags = ["nosuid", "nodev", *(["ro"] if mount.read_only else [])]
        mounts.append(bind(mount.handle, mount.target, *flags))
    mounts += [bind(source, target) for target, source in shown.items()]
    return mounts


def _terminals(most: int) -> dict[str, Any]:
    """The box's own terminals: as the engine mounts them, but limited, since the kernel counts those of all boxes."""
    flags = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", f"max={most}"]
    return {"type": "devpts", "source": "devpts", "destination": "/dev/pts", "options": flags}


def _own_files() -> dict[str, Any]:
    """The folder of odc-box's own files: in memory, so that keys still change when the box's writable layer is full."""
    flags = ["nosuid", "nodev", "noexec", "mode=0755", "size=4m"]
    return {"type": "tmpfs", "source": "tmpfs", "destination": "/run/odc-box", "options": flags}


def _limits(options: EngineOptions, spec: BoxSpec) -> dict[str, Any]:
    resources = spec.resources
    count = min(resources.cpus, len(options.cpus))
    first = zlib.crc32(str(spec.name).encode()) % len(options.cpus)
    chosen = sorted(options.cpus[(first + step) % len(options.cpus)] for step in range(count))
    return {
        "cpu": {
            "period": PERIOD_US,
            "quota": max(resources.limit.cpu_millis * PERIOD_US // 1000, 1000),
            "shares": max(resources.request.cpu_millis * 1024 // 1000, 2),
            "cpus": ",".join(map(str, chosen)),
        },
        "memory": {
            "limit": resources.limit.memory_bytes,
            "reservation": min(resources.request.memory_bytes, resources.limit.memory_bytes),
            "swap": resources.limit.memory_bytes,
        },
        "pids": {"limit": min(max(options.pids_per_unit * spec.units, LEAST_PIDS), MOST_PIDS)},
    }
