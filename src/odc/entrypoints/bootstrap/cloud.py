"""From settings to a working cloud whose boxes run on this machine."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from odc.adapters.engine.box_limits import BoxLimits, box_limits, most_boxes
from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.engine.container import EngineOptions, pids_per_unit
from odc.adapters.engine.firewall import keep_apart
from odc.adapters.engine.image import box_files
from odc.adapters.engine.kernel_limits import raise_limits, wanted_limits
from odc.adapters.engine.nodes import machine_capacity, machine_nodes, simulated_nodes
from odc.adapters.engine.service import EngineService, Machine, inspect_machine
from odc.adapters.engine.simulated_gpus import device_kind, devices_file, facts_file, write_devices
from odc.adapters.engine.tcp_ports import check_ports
from odc.adapters.github.key_source import GitHubKeySource
from odc.adapters.localdisk.blob_store import FileBlobStore
from odc.adapters.localdisk.immutable_settings import check_ids
from odc.adapters.localdisk.volumes import open_volumes
from odc.adapters.sql.disk_reserve import DiskReserve
from odc.adapters.system.accounts import SystemAccounts
from odc.adapters.system.audit_log import AuditFile
from odc.adapters.system.clock import SystemClock
from odc.adapters.system.gpus import find_gpus
from odc.adapters.system.host_keys import OpensshHostKeys
from odc.adapters.system.known_gpus import broken_gpus, machine_gpus, note_gpus
from odc.adapters.system.wake import LocalWake
from odc.control.context import Policy, Ports
from odc.domain.host_ids import IdRanges
from odc.domain.node import Node
from odc.domain.resources import Capacity
from odc.entrypoints.bootstrap.id_checks import why_shared
from odc.entrypoints.bootstrap.run_cloud import Cloud
from odc.host import write_atomically
from odc.operator.daemon_state import known_nodes, note_nodes
from odc.operator.settings import Settings
from odc.ports.blob_store import BlobStore
from odc.ports.box_layers import BoxLayers
from odc.ports.cluster import Cluster
from odc.ports.volumes import Volumes

if TYPE_CHECKING:
    from odc.adapters.sql.state_store import SqlStateStore

log = logging.getLogger(__name__)

NVIDIA_KIND = "nvidia.com/gpu"


def find_nodes(settings: Settings, policy: Policy) -> tuple[Node, ...]:
    """Return the simulated nodes of the settings, or the machine itself.

    Raises:
        InvalidRequest: what is to be simulated is not understood.
    """
    machine = machine_capacity()
    kept = Capacity(cpu_millis=int(settings.keep_cpus * 1000), memory_bytes=int(settings.keep_memory_gib * 2**30))
    if settings.simulate:
        nodes = simulated_nodes(settings.simulate, policy.catalog, machine, kept)
    else:
        known = known_nodes(settings.state_folder)
        nodes = machine_nodes(
            machine_gpus(settings.state_folder), policy.catalog, machine, kept, settings.keep_types, known
        )
    return tuple(replace(node, address=settings.box_address) for node in nodes)


def lent_gpus(settings: Settings) -> tuple[str, ...]:
    """The machine's own GPUs that a cloud of these settings lends, by identity; none if it simulates them."""
    if settings.simulate:
        return ()
    return tuple(gpu for node in find_nodes(settings, settings.policy()) for gpu in node.gpus)


def engine_service(settings: Settings, environment: Mapping[str, str]) -> EngineService:
    """The engine's service of this cloud; the environment is for its commands."""
    return EngineService(settings.state_folder / "engine", environment)


@dataclass(frozen=True, slots=True)
class MachineCloud(Cloud):
    """A cloud that is served to one machine's users.

    Attributes:
        find_lender: returns the login whose subordinate uid this is; None if it is not a subordinate uid.
        check_ports: raises `ProviderRefused` if other programs have all ports of boxes and there is no box yet.
    """

    find_lender: Callable[[int], str | None]
    check_ports: Callable[[], None]


def build_cloud(settings: Settings, environment: Mapping[str, str]) -> MachineCloud:
    """Open the records and disks, start the engine's service, and return the cloud.

    Raises:
        ProviderError, InvalidRequest: a component is missing; the message says what to do.
    """
    from odc.adapters.sql.state_store import SqlStateStore  # slow to import, and most commands read no records

    policy = settings.policy()
    nodes = find_nodes(settings, policy)
    state = settings.state_folder
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    _note_hardware(settings, nodes)
    store = SqlStateStore(settings.database_address, None if settings.database else DiskReserve(state))
    blobs = FileBlobStore(state / "blobs")
    volumes = open_volumes(settings.disks_folder, int(settings.disk_file_gib * 2**30), settings.box_id_base, blobs)
    check_ids(settings.box_id_base, settings.disks_folder)
    program = _install_box_programs(settings, nodes, policy)
    layers = volumes.layers(int(settings.layer_gib * 2**30))
    cluster, engine, machine = _open_cluster(settings, environment, nodes, program, layers)
    policy = dataclasses.replace(policy, ids=_id_ranges(settings, engine))
    ports = machine_ports(settings, store, cluster, volumes, blobs)
    return MachineCloud(
        policy=policy,
        ports=ports,
        nodes=nodes,
        find_lender=SystemAccounts().find_lender,
        check_ports=partial(check_ports, settings.listen, settings.ports, cluster),
        close=store.close,
        engine=_engine_text(engine, machine),
    )


def machine_ports(
    settings: Settings, store: SqlStateStore, cluster: Cluster, volumes: Volumes, blobs: BlobStore
) -> Ports:
    """Return the adapters of a cloud that is served to one machine's users, with these for records, boxes and disks."""
    return Ports(
        store=store,
        documents=store,
        history=store,
        leases=store,
        pruning=store,
        space=store,
        wake=LocalWake(),
        cluster=cluster,
        volumes=volumes,
        blobs=blobs,
        keys=GitHubKeySource(settings.github, settings.github_api),
        host_keys=OpensshHostKeys(),
        clock=SystemClock(),
        accounts=SystemAccounts(),
        audit_log=AuditFile(Path(settings.audit_log)) if settings.audit_log else None,
    )


def _open_cluster(
    settings: Settings, environment: Mapping[str, str], nodes: tuple[Node, ...], program: Path, layers: BoxLayers | None
) -> tuple[EngineCluster, Mapping[str, Any], Machine]:
    """Start the engine's service and prepare the machine for boxes.

    Returns:
        The cluster, what the engine says of itself, and the machine.
    """
    api = engine_service(settings, environment).ensure(renew=True)
    keep_apart(settings.cloud, settings.network, settings.metadata_service)
    raise_limits(kernel := wanted_limits(most_boxes(nodes)))
    machine = inspect_machine()
    limits = box_limits(nodes, program.with_name("seccomp.json"), settings.nested_namespaces, kernel)
    options = _options(settings, environment, machine, nodes, limits, program)
    return EngineCluster(api, nodes, options, layers), api.get("/info") or {}, machine


def _engine_text(engine: Mapping[str, Any], machine: Machine) -> str:
    """Return the engine, its runtime and the cgroup version, as `odc up` shows them."""
    version = engine.get("version", {}).get("Version", "?")
    return f"podman {version}, {machine.runtime}, cgroup {'v2' if machine.cgroup_v2 else 'v1'}"


def _note_hardware(settings: Settings, nodes: Iterable[Node]) -> None:
    """Note real nodes and GPUs in the state folder: names stay, and a GPU that is lost later is missed."""
    if not settings.simulate:
        note_nodes(settings.state_folder, {node.gpu_type: node.name for node in nodes})
        note_gpus(settings.state_folder)


def _id_ranges(settings: Settings, engine: Mapping[str, Any]) -> IdRanges:
    """The host ids of boxes: a range for each, where that works."""
    why = why_shared(settings, engine, has_disks=True)
    if why:
        log.warning("all boxes share one range of host ids: %s", why)
    return replace(settings.id_ranges, separate=not why)


def _options(
    settings: Settings,
    environment: Mapping[str, str],
    machine: Machine,
    nodes: tuple[Node, ...],
    limits: BoxLimits,
    program: Path | None = None,
) -> EngineOptions:
    """The engine's options; without the program that boxes mount, for boxes that are only listed and ended."""
    state = settings.state_folder
    return EngineOptions(
        cloud=settings.cloud,
        state=settings.state_folder,
        listen=settings.listen,
        ports=settings.ports,
        network=settings.network,
        id_base=settings.box_id_base,
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        open_files=machine.open_files,
        processes=machine.processes,
        pids_per_unit=pids_per_unit(machine.pids, nodes),
        sysctls=machine.sysctls,
        lxcfs=state / "lxcfs" if program is not None else None,
        program=program or state,
        gpu_kind=device_kind(settings.cloud) if settings.simulate else NVIDIA_KIND,
        grace_s=int(settings.limits.grace_s),
        gpu_paths=_gpu_paths(settings, nodes),
        ignored_containers=settings.ignored_containers,
        metadata=settings.metadata_service,
        limits=limits,
        image=settings.image,
        kept_files=_kept_files(settings, nodes),
        environment=engine_service(settings, environment).environment,
        dns=settings.dns,
        dns_search=settings.dns_search,
        broken_gpus=partial(broken_gpus, () if settings.simulate else [gpu for node in nodes for gpu in node.gpus]),
    )


def _kept_files(settings: Settings, nodes: Iterable[Node]) -> tuple[Path, ...]:
    """Return the host's files that are mounted into boxes in addition to their own files."""
    programs = settings.state_folder / "programs"
    files = [programs / "odc-box", programs / "nvidia-smi-simulated"]
    if settings.simulate:
        files += [devices_file(settings.cloud)]
        files += [facts_file(settings.state_folder, gpu) for node in nodes for gpu in node.gpus]
    return tuple(files)


def _gpu_paths(settings: Settings, nodes: Iterable[Node]) -> dict[str, str]:
    """GPU to the path that only a container with this GPU has."""
    if settings.simulate:
        return {gpu: str(facts_file(settings.state_folder, gpu)) for node in nodes for gpu in node.gpus}
    return {gpu.uuid: gpu.device for gpu in find_gpus() if gpu.device}


def present_boxes(settings: Settings, environment: Mapping[str, str]) -> EngineCluster:
    """Yield the cloud's boxes as the engine lists them, to read and to delete; it cannot create boxes.

    Raises:
        ProviderError: the engine does not start.
    """
    api = engine_service(settings, environment).ensure()
    return EngineCluster(api, (), _options(settings, environment, inspect_machine(), (), BoxLimits()))


def _install_box_programs(settings: Settings, nodes: tuple[Node, ...], policy: Policy) -> Path:
    """Copy the files that boxes mount to the state folder: an upgrade of ODC must not remove them from running
    boxes. Simulated GPUs mount one of them.

    Returns:
        The boxes' first process.
    """
    folder = settings.state_folder / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in ("odc-box", "nvidia-smi-simulated"):
        write_atomically(folder / name, (box_files() / name).read_bytes(), 0o755)
        paths.append(folder / name)
    program, smi = paths
    if settings.simulate:
        write_devices(settings.cloud, nodes, policy.catalog, settings.state_folder, smi)
    return program
