"""The operator's settings: one TOML file, every key with a default that serves one lab machine.

What a second cloud on the same machine needs (name, state folder, socket, ports, network) is a setting, so that a
trial or a test runs beside a real cloud without touching it. `docs/reference/settings.md` is generated from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from odc.control.context import Policy
from odc.domain.catalog import Catalog, GpuType
from odc.domain.limits import Limits
from odc.domain.storage import Retention

DEFAULT_FILE = Path("/etc/odc/odc.toml")
DEFAULT_SOCKET = "/run/odc/odc.sock"
OH_MY_ZSH = "https://github.com/ohmyzsh/ohmyzsh.git"
OH_MY_ZSH_COMMIT = "830a5bcfd29fd577fdcd5f3b8e98cbaf973421fa"
"""Of 2026-08-22."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # a comparison
"""Addresses that mean every address of the machine, and the machine as it reaches itself."""


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits per user and per step.

    Attributes:
        live_per_user: reservations of one user that are not ended, queued ones included.
        gpus_per_user: GPUs of all live reservations of one user; 0 means no limit.
        disks_per_user: disks of one user.
        ended_per_user: ended reservations of one user that are kept with their history; older ones are deleted.
        prepare_s: seconds from a slot's start until SSH answers; part of every promise.
        stop_s: seconds from the end until the GPUs are free; part of every slot.
        attempts: tries at starting a reservation before it fails.
        grace_s: seconds that a box's processes have to end.
        missing_s: seconds that a box must be missing before its reservation fails.
    """

    live_per_user: int = 10
    gpus_per_user: int = 0
    disks_per_user: int = 50
    ended_per_user: int = 1000
    prepare_s: float = 180
    stop_s: float = 120
    attempts: int = 3
    grace_s: float = 30
    missing_s: float = 30


class SnapshotSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which snapshots of disks are kept. The newest verified snapshot of a disk is always kept.

    Attributes:
        keep: snapshots of each disk.
        days: how many days a snapshot is kept; 0 means no limit.
        percent: what the older snapshots of a disk may take, in percent of its size; 0 means no limit.
        free_percent: how much of the disk storage is to stay free: with less, older snapshots are deleted although
            the limits above would keep them, first those of the user who takes most; with less than a third of it,
            no new disk is made.
    """

    keep: int = 7
    days: float = 30
    percent: float = 100
    free_percent: float = 15


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting.

    Attributes:
        cloud: name of the cloud; part of the name of everything it makes on the machine.
        state: folder of the records, logs and boxes' files.
        socket: where the API listens.
        database: address of the records, such as `postgresql+psycopg://…`; empty: SQLite in the state folder.
        admins: Unix users who see and may end everybody's reservations, and may accept the clock, as root does.
        simulate: pretended nodes instead of the machine's GPUs, as `h100=2x8,t4=1x4`.
        listen: address of the host at which boxes' SSH listens.
        address: name or address by which users reach boxes; empty: `listen`, or this machine if that is everywhere.
        ports: first and last SSH port of boxes.
        network: addresses from which each reservation gets its own small network, in CIDR form.
        metadata_service: whether boxes may reach link-local addresses (169.254.0.0/16) and cloud providers' metadata
            services, which hand out the machine's credentials.
        nested_namespaces: whether boxes may make user namespaces, as bubblewrap, Chrome's sandbox and rootless
            containers do; such a box can use up the terminals of all boxes.
        disks: folder of the users' disks; empty: in the state folder.
        disk_gib: size of a new disk.
        disk_file_gib: size of the btrfs file that is made when the folder's file system has no snapshots.
        layer_gib: what one box may write outside its home (`/`, `/tmp`) or in a temporary home, at most a fourth of the
            disk storage, which must be btrfs; 0: no limit.
        image: image of boxes.
        keep_cpus: cores kept for the host.
        keep_memory_gib: memory kept for the host.
        keep_types: GPU types of the machine that are kept for the host, such as that of its display.
        ignored_containers: names of the operator's own containers that may see GPUs without using them up, such as a
            monitoring exporter; every other container that has a GPU keeps it from being lent.
        github: where public keys are fetched from.
        github_api: where GitHub's numeric user ids are asked for.
        box_id_base: first host uid and gid of the boxes' user namespace; outside the ranges of the host's users;
            it cannot change while there are disks.
        dns: addresses of the DNS servers that boxes ask; empty: those that this machine asks. Its own loopback, where
            systemd-resolved and dnsmasq listen, is out of reach of boxes.
        dns_search: domains in which boxes look up short names; empty: this machine's.
        environment: variables for every login in every box; running boxes have a changed one at the next login.
        certificates: file of certificate authorities that boxes trust beside the usual ones, such as a proxy's; PEM.
            Running boxes get added ones within seconds; removed ones stay trusted until the box ends.
        oh_my_zsh: address of the git repository from which `odc image build` takes oh-my-zsh; empty: boxes have a small
            loader with two themes and three plugins.
        oh_my_zsh_commit: the commit that is taken from it; anything else that comes is refused.
        timezone: time zone of times that are shown inside boxes; empty: the host's.
        limits: per user and per step.
        snapshots: which snapshots of disks are kept.
        types: GPU types that change or join the built-in ones.
    """

    cloud: str = "odc"
    state: str = "/var/lib/odc"
    socket: str = DEFAULT_SOCKET
    database: str = ""
    admins: tuple[str, ...] = ()
    simulate: str = ""
    listen: str = "127.0.0.1"
    address: str = ""
    ports: tuple[int, int] = (30000, 31999)
    network: str = "10.90.0.0/16"
    metadata_service: bool = False
    nested_namespaces: bool = False
    disks: str = ""
    disk_gib: float = 100
    disk_file_gib: float = 200
    layer_gib: float = 20
    image: str = "localhost/odc/box:1"
    keep_cpus: float = 0
    keep_memory_gib: float = 1
    keep_types: tuple[str, ...] = ()
    ignored_containers: tuple[str, ...] = ()
    github: str = "https://github.com"
    github_api: str = "https://api.github.com"
    box_id_base: int = 1_000_000_000
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    certificates: str = ""
    oh_my_zsh: str = OH_MY_ZSH
    oh_my_zsh_commit: str = OH_MY_ZSH_COMMIT
    timezone: str = ""
    limits: LimitSettings = LimitSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    types: tuple[GpuType, ...] = ()

    @property
    def state_folder(self) -> Path:
        """Where the cloud keeps its own things."""
        return Path(self.state)

    @property
    def disks_folder(self) -> Path:
        """Where the users' disks lie."""
        return Path(self.disks) if self.disks else self.state_folder / "disks"

    @property
    def database_address(self) -> str:
        """The records' address, as SQLAlchemy reads it."""
        return self.database or f"sqlite:///{self.state_folder / 'odc.db'}"

    @property
    def box_address(self) -> str:
        """Where SSH to boxes is reached; of a machine that listens everywhere, what holds on the machine itself."""
        return self.address or EVERYWHERE.get(self.listen, self.listen)

    def policy(self) -> Policy:
        """The settings as the control plane reads them."""
        limits = self.limits
        return Policy(
            cloud=self.cloud,
            catalog=Catalog(self.types),
            limits=Limits(
                live_per_user=limits.live_per_user,
                gpus_per_user=limits.gpus_per_user,
                disks_per_user=limits.disks_per_user,
                ended_per_user=limits.ended_per_user,
                prepare=timedelta(seconds=limits.prepare_s),
                stop=timedelta(seconds=limits.stop_s),
                attempts=limits.attempts,
            ),
            image=self.image,
            ssh_ports=self.ports,
            disk_bytes=int(self.disk_gib * 2**30),
            retention=Retention(**msgspec.structs.asdict(self.snapshots)),
            grace=timedelta(seconds=limits.grace_s),
            missing=timedelta(seconds=limits.missing_s),
            box_environment=dict(self.environment),
            box_certificates=Path(self.certificates).read_bytes() if self.certificates else b"",
            timezone=self.timezone or host_timezone(),
        )


def host_timezone() -> str:
    """The host's time zone as an IANA name; `UTC` if it does not say."""
    link = Path("/etc/localtime")
    target = os.path.realpath(link) if link.exists() else ""
    _, found, name = target.partition("/zoneinfo/")
    return name if found else "UTC"
