"""A private engine service with a cloud of its own on the machine's real Podman, for tests."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.boxes import end_box
from tests.image import IMAGE, ensure_image
from tests.lane import BLOCKS, engine_network, engine_ports, lane_name
from tests.links import links_in
from tests.storage import ID_BASE
from tests.waiting import DEADLINE_S, eventually

from odc.adapters.engine.box_limits import box_limits
from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.engine.container import EngineOptions, container_name, pids_per_unit
from odc.adapters.engine.firewall import forget_rules
from odc.adapters.engine.image import box_files
from odc.adapters.engine.lxcfs import stop_lxcfs
from odc.adapters.engine.nodes import machine_capacity, simulated_nodes
from odc.adapters.engine.podman_api import PodmanApi
from odc.adapters.engine.service import EngineService, inspect_machine
from odc.adapters.engine.simulated_gpus import device_kind, devices_file, facts_file, write_devices
from odc.domain.box import SSH, BoxName, BoxSeen, BoxSpec
from odc.domain.catalog import Catalog
from odc.domain.errors import ProviderUnavailable
from odc.domain.host_ids import IdRanges
from odc.domain.node import Node
from odc.domain.resources import Capacity, share_of
from odc.entrypoints.process_environment import cleaned

RANGES = 50
"""Ranges of host ids that are given in turn."""


@dataclass
class Keys:
    """A user's key and a box's host key, made by OpenSSH."""

    private: Path
    public: str
    host_private: str
    host_public: str


@dataclass
class Engine:
    """One cloud's service, nodes and cluster; its folder goes when the test session ends."""

    cloud: str
    state: Path
    service: EngineService
    api: PodmanApi
    nodes: tuple[Node, ...]
    options: EngineOptions
    cluster: EngineCluster
    keys: Keys
    held: IO[str] | None = None

    def spec(self, **changes: Any) -> BoxSpec:
        """A box on the first node with one GPU, and a range of ids of its own."""
        rank = changes.pop("rank", 0)
        attempt = changes.pop("attempt", 1)
        name = BoxName(changes.pop("reservation_id", uuid.uuid4().hex), attempt, rank)
        node = self.nodes[0]
        ranges = IdRanges(base=ID_BASE, count=RANGES, separate=True).all()
        defaults: dict[str, Any] = {
            "name": name,
            "node": node.name,
            "image": IMAGE,
            "hostname": "train",
            "gpus": node.gpus[:1],
            "gpu_type": node.gpu_type,
            "units": 1,
            "resources": share_of(node.allocatable, 1, node.units),
            "id_base": ranges[next(_specs) % RANGES],
            "files": self.files(),
        }
        return BoxSpec(**(defaults | changes))

    def files(self) -> dict[str, bytes]:
        """What `docs/box.md` says that a box reads, in its smallest form."""
        texts = {
            "authorized_keys": self.keys.public + "\n",
            "ssh_host_ed25519_key": self.keys.host_private,
            "ssh_host_ed25519_key.pub": self.keys.host_public + "\n",
            "name": "train\n",
            "env": "",
            "disk_id": "",
        }
        return {path: text.encode() for path, text in texts.items()}

    def ssh_command(self, spec: BoxSpec, command: str, port: int | None = None) -> list[str]:
        """Real ssh to the box, as `dev`; at this port if it is not one that the cluster made."""
        options = ["-F", "none", "-i", str(self.keys.private), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return ["ssh", *options, "-p", str(port or self.box(spec).ports[SSH]), "dev@127.0.0.1", command]

    def ssh(self, spec: BoxSpec, command: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the box by real ssh."""
        return subprocess.run(
            self.ssh_command(spec, command, port), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def up(self, spec: BoxSpec, deadline_s: float = DEADLINE_S) -> str:
        """Make and start the box and wait for its SSH; its uid."""
        box = self.cluster.create_box(spec)
        self.start(spec, box.uid)
        eventually("SSH answers", lambda: self.cluster.ssh_answers(box), deadline_s)
        return box.uid

    def start(self, spec: BoxSpec, uid: str) -> None:
        """Start the box; as in a task, again when the command of another engine has taken away its storage."""
        for left in (2, 1, 0):
            try:
                self.cluster.start_box(spec.name, uid)
                return
            except ProviderUnavailable:
                if not left:
                    raise

    def box(self, spec: BoxSpec) -> BoxSeen:
        """The box that was made of it."""
        return next(box for box in self.cluster.list_boxes() if box.name == spec.name)

    def answers(self, spec: BoxSpec) -> bool:
        """Whether its SSH answers now."""
        return self.cluster.ssh_answers(self.box(spec))

    def podman(self, *arguments: str, check: bool = True) -> str:
        """The engine's own command line, as an operator would use it beside ODC."""
        done = subprocess.run(["podman", *arguments], env=self.service.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def container(self, spec: BoxSpec) -> str:
        """The engine's name of the box."""
        return container_name(self.cloud, spec.name)

    def kill_service(self) -> None:
        """kill -9 the engine's service, and let nobody start it until `start_service`."""
        if self.held is None:
            self.held = (self.state / "engine" / "lock").open("w")
            fcntl.flock(self.held, fcntl.LOCK_EX)
        pid = int((self.state / "engine" / "podman.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        eventually("the service is gone", lambda: _has_ended(pid))

    def start_service(self) -> None:
        """Let it be started, and start it."""
        if self.held is not None:
            self.held.close()
            self.held = None
        self.service.ensure()

    def forget_everything(self) -> None:
        """Remove every container and network of this cloud."""
        for box in self.cluster.list_boxes():
            end_box(self.cluster, box.name, box.uid)
        for name in self.podman("network", "ls", "--format", "{{.Name}}").split():
            if name.startswith(f"odc-{self.cloud}-"):
                self.podman("network", "rm", "-f", name, check=False)
        shutil.rmtree(self.state / "boxes", ignore_errors=True)


@contextmanager
def private_engine(simulate: str = "h100=2x8,t4=1x4", nested: bool = False) -> Iterator[Engine]:
    """A service, a cloud name, ports and a network of the test session's own; nothing of them is left afterwards."""
    ensure_image()
    cloud = lane_name("engine", uuid.uuid4().hex[:6])
    state = Path(tempfile.mkdtemp(prefix=f"odc-{cloud}-", dir="/var/tmp"))
    service = EngineService(state / "engine", cleaned(os.environ)[0])
    # Each step is taken also when one before it fails: a test that fails must not leave a service or a mount behind.
    with ExitStack() as undo:
        # lxcfs may end only at the end, and then deletes its own file here.
        undo.callback(subprocess.run, ["rm", "-rf", "--one-file-system", str(state)], check=True)
        undo.callback(forget_rules, cloud)
        undo.callback(devices_file(cloud).unlink, missing_ok=True)
        undo.callback(stop_lxcfs, state / "lxcfs")
        undo.callback(service.stop)
        engine = _build(cloud, state, service, simulate, nested)
        undo.callback(_leave_no_bridge, engine)
        undo.callback(engine.forget_everything)
        undo.callback(engine.start_service)
        yield engine


def _leave_no_bridge(engine: Engine) -> None:
    eventually("every bridge is gone", lambda: not links_in(engine.options.network))


def _build(cloud: str, state: Path, service: EngineService, simulate: str, nested: bool) -> Engine:
    catalog = Catalog()
    nodes = simulated_nodes(simulate, catalog, machine_capacity(), Capacity(cpu_millis=0, memory_bytes=2**30))
    programs = state / "programs"
    programs.mkdir()
    for name in ("odc-box", "nvidia-smi-simulated"):
        shutil.copy(box_files() / name, programs / name)
        (programs / name).chmod(0o755)
    write_devices(cloud, nodes, catalog, state, programs / "nvidia-smi-simulated")
    machine = inspect_machine()
    block = next(_blocks) % BLOCKS
    options = EngineOptions(
        cloud=cloud,
        state=state,
        listen="127.0.0.1",
        ports=engine_ports(block),
        network=engine_network(block),
        id_base=ID_BASE,
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        open_files=machine.open_files,
        processes=machine.processes,
        pids_per_unit=pids_per_unit(machine.pids, nodes),
        sysctls=machine.sysctls,
        lxcfs=state / "lxcfs",
        program=programs / "odc-box",
        gpu_kind=device_kind(cloud),
        gpu_paths={gpu: str(facts_file(state, gpu)) for node in nodes for gpu in node.gpus},
        ignored_containers=(f"{cloud}-monitor",),
        grace_s=2,
        limits=box_limits(nodes, state / "programs" / "seccomp.json", nested, {}),
        image=IMAGE,
        environment=service.environment,
    )
    api = service.ensure()
    return Engine(
        cloud=cloud,
        state=state,
        service=service,
        api=api,
        nodes=nodes,
        options=options,
        cluster=EngineCluster(api, nodes, options),
        keys=make_keys(state / "keys"),
    )


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def make_keys(folder: Path) -> Keys:
    folder.mkdir(mode=0o700)
    for name in ("user", "host"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "odc", "-f", str(folder / name)], check=True
        )
    return Keys(
        private=folder / "user",
        public=(folder / "user.pub").read_text().strip(),
        host_private=(folder / "host").read_text(),
        host_public=(folder / "host.pub").read_text().strip(),
    )


_specs = itertools.count()
_blocks = itertools.count(os.getpid())
