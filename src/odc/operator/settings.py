"""The operator's settings: one TOML file, every key with a default that serves one lab machine.

What a second cloud on the same machine needs (name, state folder, socket, ports, network) is a setting, so that a
trial or a test runs next to a real cloud without touching it. `docs/reference/settings.md` is generated from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from odc.control.context import Policy
from odc.domain.catalog import Catalog, GpuType
from odc.domain.host_ids import IdRanges
from odc.domain.storage import Retention
from odc.operator.kubernetes_settings import KubernetesSettings
from odc.operator.limit_settings import LimitSettings, SnapshotSettings
from odc.operator.settings_rules import (
    CERTIFICATES,
    COMMIT,
    CONTAINERS,
    DNS_SERVERS,
    DOMAINS,
    FILE,
    FILE_OR_NONE,
    FOLDER,
    FOLDER_OR_NONE,
    GPU_TYPES,
    HOST,
    ID_BASE,
    IMAGE,
    LAYER_SIZE,
    LISTEN,
    NAMESPACE,
    PORTS,
    REPOSITORY,
    SOCKET,
    TIMEZONE,
    URL,
    USERS,
    VARIABLES,
    number,
    setting,
)

DEFAULT_FILE = Path("/etc/odc/odc.toml")
DEFAULT_SOCKET = "/run/odc/odc.sock"
OH_MY_ZSH = "https://github.com/ohmyzsh/ohmyzsh.git"
OH_MY_ZSH_COMMIT = "830a5bcfd29fd577fdcd5f3b8e98cbaf973421fa"
"""Of 2026-08-22."""
_POLICY = Policy()
"""Where the defaults are that the control plane has too."""
TABLES: Mapping[str, type[msgspec.Struct]] = {
    "kubernetes": KubernetesSettings,
    "limits": LimitSettings,
    "snapshots": SnapshotSettings,
}
"""The settings that are tables, by name."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # a comparison
"""Addresses that mean every address of the machine, and the machine as it reaches itself."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting."""

    cloud: Annotated[
        str, setting("name of the cloud; part of the name of everything it makes on the machine.", "lab")
    ] = _POLICY.cloud
    state: Annotated[str, setting("folder of the records, logs and boxes' files.", "/srv/odc", FOLDER)] = "/var/lib/odc"
    socket: Annotated[str, setting("where the API listens.", "/run/odc/lab.sock", SOCKET)] = DEFAULT_SOCKET
    database: Annotated[
        str,
        setting(
            "address of the records, such as `postgresql+psycopg://…`; empty: SQLite in the state folder.",
            "postgresql+psycopg://odc@db.example/odc",
        ),
    ] = ""
    admins: Annotated[
        tuple[str, ...],
        setting(
            "Unix users who see and may end everybody's reservations, and may accept the clock, as root does.",
            ("ada", "ben"),
            USERS,
        ),
    ] = ()
    simulate: Annotated[
        str, setting("simulated nodes instead of the machine's GPUs, as `h100=2x8,t4=1x4`.", "h100=2x8,t4=1x4")
    ] = ""
    listen: Annotated[str, setting("address of the host at which boxes' SSH listens.", "0.0.0.0", LISTEN)] = "127.0.0.1"  # noqa: S104  # an example
    address: Annotated[
        str,
        setting(
            "name or address by which users reach boxes; empty: `listen`, or this machine if that is everywhere.",
            "gpu1.lab.example",
            HOST,
        ),
    ] = ""
    ports: Annotated[
        tuple[int, int],
        setting("first and last port of boxes. Each box has two, for SSH and for Jupyter.", (20000, 20999), PORTS),
    ] = (30000, 31999)
    network: Annotated[
        str, setting("addresses from which each reservation gets its own small network, in CIDR form.", "10.44.0.0/16")
    ] = "10.90.0.0/16"
    metadata_service: Annotated[
        bool,
        setting(
            "whether boxes may reach link-local addresses (169.254.0.0/16) and cloud providers' metadata "
            "services, which hand out the machine's credentials.",
            True,
        ),
    ] = False
    nested_namespaces: Annotated[
        bool,
        setting(
            "whether boxes may make user namespaces, as bubblewrap, Chrome's sandbox and rootless containers "
            "do; such a box can use up the terminals of all boxes.",
            True,
        ),
    ] = False
    disks: Annotated[
        str, setting("folder of the users' disks; empty: in the state folder.", "/srv/btrfs/disks", FOLDER_OR_NONE)
    ] = ""
    disk_gib: Annotated[float, setting("size of a new disk.", 250, number(0.01))] = _POLICY.disk_bytes // 2**30
    disk_file_gib: Annotated[
        float,
        setting(
            "size of the btrfs file that is made when the folder's file system has no snapshots.", 1000, number(0.2)
        ),
    ] = 200
    layer_gib: Annotated[
        float,
        setting(
            "what one box may write outside its home (`/`, `/tmp`) or in a temporary home, at most a fourth "
            "of the disk storage, which must be btrfs; 0: no limit.",
            50,
            LAYER_SIZE,
        ),
    ] = 20
    image: Annotated[str, setting("image of boxes.", "localhost/lab/box:1", IMAGE)] = _POLICY.image
    keep_cpus: Annotated[float, setting("cores kept for the host.", 2, number(0, words="0 or more"))] = 0
    keep_memory_gib: Annotated[float, setting("memory kept for the host.", 4, number(0, words="0 or more"))] = 1
    keep_types: Annotated[
        tuple[str, ...],
        setting(
            "GPU types of the machine that are kept for the host, such as that of its display.",
            ("t400-4gb",),
            GPU_TYPES,
        ),
    ] = ()
    ignored_containers: Annotated[
        tuple[str, ...],
        setting(
            "names of the operator's own containers that may see GPUs without using them up, such as a "
            "monitoring exporter; every other container that has a GPU keeps it from being lent.",
            ("dcgm-exporter",),
            CONTAINERS,
        ),
    ] = ()
    github: Annotated[str, setting("where public keys are fetched from.", "https://github.example", URL)] = (
        "https://github.com"
    )
    github_api: Annotated[
        str, setting("where GitHub's numeric user ids are asked for.", "https://github.example/api/v3", URL)
    ] = "https://api.github.com"
    box_id_base: Annotated[
        int,
        setting(
            "first host uid and gid of the range of 65,536 that owns the files of homes. Each box has a range of its "
            "own above it, one for each of `ports`: all of them outside the ids of the host's users and other clouds. "
            "It cannot change while there are disks.",
            2000000000,
            ID_BASE,
        ),
    ] = 1_000_000_000
    dns: Annotated[
        tuple[str, ...],
        setting(
            "addresses of the DNS servers that boxes ask; empty: those that this machine asks. Its own "
            "loopback, where systemd-resolved and dnsmasq listen, is out of reach of boxes.",
            ["10.0.0.53", "10.0.1.53"],
            DNS_SERVERS,
        ),
    ] = ()
    dns_search: Annotated[
        tuple[str, ...],
        setting("domains in which boxes look up short names; empty: this machine's.", ["lab.example"], DOMAINS),
    ] = ()
    environment: Annotated[
        Mapping[str, str],
        setting(
            "variables for every login in every box; running boxes have a changed one at the next login.",
            {"HTTPS_PROXY": "http://proxy.example:3128"},
            VARIABLES,
        ),
    ] = {}
    certificates: Annotated[
        str,
        setting(
            "file of certificate authorities that boxes trust in addition to the usual ones, such as a proxy's; PEM. "
            "Running boxes get added ones within seconds; removed ones stay trusted until the box ends.",
            "/etc/odc/proxy-ca.pem",
            CERTIFICATES,
        ),
    ] = ""
    oh_my_zsh: Annotated[
        str,
        setting(
            "address of the git repository from which `odc image build` takes oh-my-zsh; empty: boxes have a "
            "small loader with two themes and three plugins.",
            "https://git.lab.example/mirrors/ohmyzsh.git",
            REPOSITORY,
        ),
    ] = OH_MY_ZSH
    oh_my_zsh_commit: Annotated[
        str,
        setting(
            "the commit that is taken from it; anything else that comes is refused.",
            "d42209f2afa8ec3e6971e5b4695ff27f9d5670d2",
            COMMIT,
        ),
    ] = OH_MY_ZSH_COMMIT
    timezone: Annotated[
        str, setting("time zone of times that are shown inside boxes; empty: the host's.", "Europe/Berlin", TIMEZONE)
    ] = ""
    audit_log: Annotated[
        str,
        setting(
            "file to which the history of ended reservations is appended before it is deleted, a JSON object in each "
            "line; empty: none. Its folder must exist.",
            "/var/log/odc/audit.jsonl",
            FILE_OR_NONE,
        ),
    ] = ""
    context: Annotated[
        str,
        setting(
            "context of the kubeconfig file whose Kubernetes cluster runs the boxes; empty: this machine runs them.",
            "lab",
        ),
    ] = ""
    namespace: Annotated[str, setting("namespace of the boxes and disks in that cluster.", "research", NAMESPACE)] = (
        "gpu-dev"
    )
    kubeconfig: Annotated[str, setting("the kubeconfig file.", "/etc/odc/kubeconfig", FILE)] = "/root/.kube/config"
    kubernetes: Annotated[KubernetesSettings, setting("nodes and boxes on Kubernetes.")] = KubernetesSettings()
    limits: Annotated[LimitSettings, setting("per user and per step.")] = LimitSettings()
    snapshots: Annotated[SnapshotSettings, setting("which snapshots of disks are kept.")] = SnapshotSettings()
    types: Annotated[tuple[GpuType, ...], setting("GPU types that change or join the built-in ones.")] = ()

    @property
    def state_folder(self) -> Path:
        """The folder of the cloud's own files."""
        return Path(self.state)

    @property
    def disks_folder(self) -> Path:
        """The folder of the users' disks."""
        return Path(self.disks) if self.disks else self.state_folder / "disks"

    @property
    def database_address(self) -> str:
        """The records' address, as SQLAlchemy reads it."""
        return self.database or f"sqlite:///{self.state_folder / 'odc.db'}"

    @property
    def box_address(self) -> str:
        """The address of SSH to boxes; if boxes listen on every address, the loopback address."""
        return self.address or EVERYWHERE.get(self.listen, self.listen)

    @property
    def id_ranges(self) -> IdRanges:
        """The host ids of boxes, if they share one range; the daemon finds out whether each can have its own."""
        return IdRanges(base=self.box_id_base, count=self.ports[1] - self.ports[0] + 1)

    def policy(self) -> Policy:
        """The settings as the control plane reads them."""
        limits = self.limits
        return Policy(
            cloud=self.cloud,
            catalog=Catalog(self.types),
            limits=limits.as_limits(),
            image=self.image,
            ids=self.id_ranges,
            disk_bytes=int(self.disk_gib * 2**30),
            retention=Retention(**msgspec.structs.asdict(self.snapshots)),
            grace=timedelta(seconds=limits.grace_s),
            missing=timedelta(seconds=limits.missing_s),
            box_environment=dict(self.environment),
            box_certificates=Path(self.certificates).read_bytes() if self.certificates else b"",
            timezone=self.timezone or host_timezone(),
        )


def host_timezone() -> str:
    """Return the host's time zone as an IANA name; `UTC` if it is not set."""
    link = Path("/etc/localtime")
    target = os.path.realpath(link) if link.exists() else ""
    _, found, name = target.partition("/zoneinfo/")
    return name if found else "UTC"
