"""A whole cloud of the tests' own beside any real one, and Unix users who use it by typing commands."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.image import IMAGE
from tests.lane import LANE, cloud_ids, cloud_network, cloud_ports, lane_name
from tests.links import links_in
from tests.waiting import DEADLINE_S, eventually

from odc.adapters.engine.firewall import forget_rules
from odc.api.client import Client
from odc.domain.errors import OdcError

FIRST_UID = 20000 + 100 * LANE
"""A range for each lane: another lane's new user never gets the uid of one that a test has deleted."""


@dataclass
class Done:
    """How a command went."""

    code: int
    out: str
    err: str


@dataclass
class Person:
    """A Unix user of the machine with a home, a key and an agent's worth of configuration."""

    name: str
    home: Path
    bin: Path
    socket: Path

    def run(self, *command: str, input: str | None = None, timeout: float = 120, **environment: str) -> Done:
        """Run a command as this user, without a terminal."""
        entry = pwd.getpwnam(self.name)
        env = {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "GPU_DEV_ENDPOINT": f"unix://{self.socket}",
            **environment,
        }
        done = subprocess.run(
            command,
            env=env,
            cwd=self.home,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def gpu_dev(self, *arguments: str, **options: Any) -> Done:
        """Run `gpu-dev`."""
        return self.run("gpu-dev", *arguments, **options)

    def ok(self, *arguments: str, **options: Any) -> str:
        """Run `gpu-dev`, which must succeed; what it printed."""
        done = self.gpu_dev(*arguments, **options)
        assert done.code == 0, f"gpu-dev {' '.join(arguments)}: {done.code}\n{done.out}\n{done.err}"
        return done.out

    def json(self, *arguments: str) -> Any:
        """Run `gpu-dev … --json`; what it printed, decoded."""
        return json.loads(self.ok(*arguments, "--json"))

    def view(self, reference: str) -> Any:
        """A reservation as `show --json` prints it."""
        return self.json("show", reference)

    def until(self, reference: str, state: str, deadline_s: float = DEADLINE_S) -> Any:
        """The reservation once it is in this state.

        The command is run twice only; in between, the daemon is asked by this process, which takes far less time.
        """
        view = self.view(reference)
        if view["state"] == state:
            return view
        client = Client(str(self.socket), timeout_s=5)

        def check() -> bool:
            try:
                return client.reservation(view["id"]).state == state
            except OdcError:
                return False

        try:
            eventually(f"{reference} is {state}", check, deadline_s)
        finally:
            client.close()
        return self.view(view["id"])

    def in_box(self, reference: str, command: str, **options: Any) -> Done:
        """Run a command in the box by real ssh."""
        return self.gpu_dev("connect", reference, "--", command, **options)


@dataclass
class Cloud:
    """One cloud with its own state, socket, ports and network."""

    bin: Path
    folder: Path
    config: Path
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    people: list[Person] = field(default_factory=list)
    nodes: Mapping[str, str] = field(
        default_factory=lambda: {"h100": "h100-node-1", "t4": "t4-node-1", "cpu-x86": "cpu-x86-node-1"}
    )
    """GPU type to the name of its only node."""
    largest: int = 8
    """How many GPUs the h100 node has."""

    def __post_init__(self) -> None:
        MADE[self.folder] = self

    @property
    def socket(self) -> Path:
        """Where its API listens."""
        return self.folder / "odc.sock"

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / "state"

    def odc(self, *arguments: str, check: bool = True, **environment: str) -> Done:
        """Run `odc` as root, with more variables in its environment."""
        done = subprocess.run(
            [str(self.bin / "odc"), "--config", str(self.config), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **environment},
        )
        result = Done(done.returncode, done.stdout, done.stderr)
        assert not check or result.code == 0, f"odc {' '.join(arguments)}: {result}\n{self.log()[-3000:]}"
        return result

    def log(self) -> str:
        """The daemon's log."""
        path = self.state / "odc.log"
        return path.read_text() if path.exists() else ""

    def daemon_pid(self) -> int:
        """The daemon's process."""
        return int((self.state / "daemon.lock").read_text())

    def engine_pid(self) -> int:
        """The engine's service, if it runs; else 0."""
        try:
            pid = int((self.state / "engine" / "podman.pid").read_text())
        except (OSError, ValueError):
            return 0
        return 0 if _is_zombie(pid) else pid

    def is_ready(self) -> bool:
        """Whether the daemon answers and has seen its nodes."""
        client = Client(str(self.socket), timeout_s=5)
        try:
            return client.health().ready
        except OdcError:
            return False
        finally:
            client.close()

    def kill(self) -> None:
        """kill -9 the daemon."""
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        eventually("the daemon is gone", lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))

    def boxes(self) -> list[dict[str, Any]]:
        """The engine's containers of this cloud, as Podman itself lists them."""
        done = subprocess.run(
            ["podman", "ps", "-a", "--format", "json", "--filter", f"label=odc.cloud={self.name}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return list(json.loads(done.stdout or "[]"))

    def box_log(self, container: str) -> str:
        """What the programs of a box have written."""
        done = subprocess.run(
            ["podman", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout

    def networks(self) -> list[str]:
        """The engine's networks of this cloud."""
        settings = self.state / "engine/containers.conf"
        done = subprocess.run(
            ["podman", "network", "ls", "--format", "{{.Name}}"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | ({"CONTAINERS_CONF": str(settings)} if settings.exists() else {}),
        )
        return [name for name in done.stdout.split() if name.startswith(f"odc-{self.name}-")]

    def remove_boxes(self) -> None:
        """Remove every box and network by force."""
        for box in self.boxes():
            subprocess.run(["podman", "rm", "-f", "-t", "0", str(box["Id"])], capture_output=True)
        for network in self.networks():
            subprocess.run(["podman", "network", "rm", "-f", network], capture_output=True)

    def links(self) -> list[str]:
        """The bridges of its boxes, by their addresses."""
        return links_in(str(self.settings["network"]))

    def mounts(self) -> list[str]:
        """Mounts of disks that some reservation holds."""
        inside = f"{self.state}/disks/mounts/"
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if inside in line]


MADE: dict[Path, Cloud] = {}
"""Every cloud of this process, by its folder; the latest where several share one."""


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def addresses(number: int) -> dict[str, Any]:
    """The settings of where boxes are reached that a cloud of this number has in this lane."""
    return {"ports": list(cloud_ports(number)), "network": cloud_network(number)}


def make_cloud(bin_folder: Path, name: str = "e2e", number: int = 0, **settings: Any) -> Cloud:
    """A cloud that is not up yet, with a name, ports and a network of its own.

    Args:
        bin_folder: of the installed commands.
        name: what its folder is called; with the lane and the number, the cloud's name.
        number: 0 to 3, another one for each cloud of a lane that runs at the same time.
        settings: more of them; tables such as `limits` as mappings.
    """
    name = lane_name(name, number)
    sweep(Cloud(bin=bin_folder, folder=Path(), config=Path(), name=name))
    folder = Path(tempfile.mkdtemp(prefix=f"odc-{name}-", dir="/var/tmp"))
    folder.chmod(0o755)
    values: dict[str, Any] = {
        "cloud": name,
        "state": str(folder / "state"),
        "socket": str(folder / "odc.sock"),
        **addresses(number),
        "box_id_base": cloud_ids(number),
        "image": IMAGE,
        "simulate": "h100=1x8,t4=1x4,cpu-x86=1x4",
        "disk_gib": 0.5,
        "oh_my_zsh": "",
        "disk_file_gib": 6,
        **settings,
    }
    # Disks of all tests of a run are kept, more than one user may have by default.
    values["limits"] = {"disks_per_user": 1000, **values.get("limits", {})}
    tables = {key: values.pop(key) for key, value in list(values.items()) if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for title, table in tables.items():
        lines += [f"[{title}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    config = folder / "odc.toml"
    config.write_text("\n".join(lines) + "\n")
    return Cloud(bin=bin_folder, folder=folder, config=config, name=name, settings=values)


def add_person(cloud: Cloud, letter: str) -> Person:
    """A new Unix user with a key of their own, which ssh finds and the cloud does not know yet."""
    name = f"odc-{cloud.name}-{letter}"
    home = cloud.folder / name
    ids = [f"{kind}_{end}" for kind in ("UID", "GID") for end in (f"MIN={FIRST_UID}", f"MAX={FIRST_UID + 99}")]
    keys = [word for key in ids for word in ("--key", key)]
    home_options = ["--create-home", "--home-dir", str(home), "--shell", "/bin/bash"]
    subprocess.run(["useradd", *keys, *home_options, name], check=True)
    person = Person(name=name, home=home, bin=cloud.bin, socket=cloud.socket)
    cloud.people.append(person)
    person.run("mkdir", "-m", "700", str(home / ".ssh"))
    done = person.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / ".ssh/id_ed25519"))
    assert done.code == 0, done.err
    return person


def destroy(cloud: Cloud) -> None:
    """Take everything away, whatever state it is in."""
    try:
        if cloud.state.exists():
            cloud.odc("up", check=False)
            cloud.odc("down", "--all", "--yes", check=False)
    finally:
        sweep(cloud)


def sweep(cloud: Cloud) -> None:
    """Remove by force what a cloud of this name left on this machine, also one of a run that was killed."""
    folders = [path for path in Path("/var/tmp").glob(f"odc-{cloud.name}-*") if path.is_dir()]
    for pid in processes_of(folders):
        os.kill(pid, signal.SIGKILL)
    cloud.remove_boxes()
    for person in [entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith(f"odc-{cloud.name}-")]:
        subprocess.run(["pkill", "-9", "-u", person], capture_output=True)
        subprocess.run(["userdel", person], capture_output=True)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if any(target.startswith(str(folder)) for folder in folders):
            subprocess.run(["umount", "-l", target], capture_output=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    Path(f"/etc/cdi/odc-{cloud.name}-simulated.json").unlink(missing_ok=True)
    forget_rules(cloud.name)


def processes_of(folders: list[Path]) -> list[int]:
    """Daemons, engines and helpers that were started with one of these folders."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if any(str(folder) in words for folder in folders) and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found
