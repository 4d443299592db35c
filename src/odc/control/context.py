"""The context of the control plane: the ports, the operator's policy, and the status of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from odc.domain.box import BoxSeen
from odc.domain.catalog import Catalog
from odc.domain.disk import VolumeLabel
from odc.domain.host_ids import IdRanges
from odc.domain.limits import Limits
from odc.domain.node import Node
from odc.domain.outlook import Outlook
from odc.domain.problem import Problem
from odc.domain.storage import Level, Retention, StorageUse
from odc.ports.accounts import Accounts
from odc.ports.audit_log import AuditLog
from odc.ports.blob_store import BlobStore
from odc.ports.clock import Clock
from odc.ports.cluster import Cluster
from odc.ports.documents import Documents
from odc.ports.history import History
from odc.ports.host_keys import HostKeys
from odc.ports.key_source import KeySource
from odc.ports.leases import Leases
from odc.ports.pruning import Pruning
from odc.ports.state_store import StateStore
from odc.ports.store_space import StoreSpace
from odc.ports.volumes import Volumes
from odc.ports.wake import Wake


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's policy.

    Attributes:
        cloud: the cloud's name; part of every backend name.
        catalog: the GPU types.
        limits: per user and per step.
        image: the image of boxes, as the cluster names it.
        ids: the host ids of boxes.
        disk_bytes: size of a new disk.
        grace: how long a box's processes have to end.
        missing: how long a box must be missing from successful lists before it counts as gone.
        make_again: whether a box that counts as gone is made again in its place, as for a cluster that removes boxes by
            itself when a node is drained. Otherwise its reservation ends.
        poll: how long a pass waits before it starts a task again that was not through.
        keys_fresh: how old fetched keys may be when a box starts.
        retention: which snapshots are kept, and how much of the storage stays free.
        box_environment: variables for every login in every box; key: name, value: text.
        box_certificates: certificate authorities that boxes trust in addition to the usual ones, as PEM; empty: none.
        timezone: the host's, as an IANA name or an offset; for times that people read inside boxes.
    """

    cloud: str = "odc"
    catalog: Catalog = field(default_factory=Catalog)
    limits: Limits = field(default_factory=Limits)
    image: str = "localhost/odc/box:1"
    ids: IdRanges = field(default_factory=IdRanges)
    disk_bytes: int = 100 * 2**30
    grace: timedelta = timedelta(seconds=30)
    missing: timedelta = timedelta(seconds=30)
    make_again: bool = False
    poll: timedelta = timedelta(seconds=2)
    keys_fresh: timedelta = timedelta(minutes=1)
    retention: Retention = field(default_factory=Retention)
    box_environment: dict[str, str] = field(default_factory=dict)
    box_certificates: bytes = b""
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Ports:
    """One adapter for each thing that is asked of the outside."""

    store: StateStore
    documents: Documents
    history: History
    leases: Leases
    pruning: Pruning
    space: StoreSpace
    wake: Wake
    cluster: Cluster
    volumes: Volumes
    blobs: BlobStore
    keys: KeySource
    host_keys: HostKeys
    clock: Clock
    accounts: Accounts
    audit_log: AuditLog | None = None


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """The disk storage at its last measurement.

    Attributes:
        use: the numbers; None before the first measurement.
        level: how urgent the lack of free space is.
        problems: faults of the storage.
        orphans: labels of volumes without a record, by disk id; not all if there are very many.
    """

    use: StorageUse | None = None
    level: Level = Level.OK
    problems: tuple[Problem, ...] = ()
    orphans: tuple[VolumeLabel, ...] = ()


@dataclass(frozen=True)
class ClusterStatus:
    """The cluster as a pass observed it.

    Attributes:
        at: when this was first so; None before the first successful observation.
        nodes: every node by name.
        boxes: every box of the cloud.
        quarantined: boxes without a record.
        problems: current faults, and recent repairs of the host.
        frozen: the wall clock disagrees with the machine's; timed ends wait for the operator.
        storage: how full the disk storage is.
        outlooks: by GPU type, of every pool that has nodes or live reservations.
    """

    at: datetime | None = None
    nodes: tuple[Node, ...] = ()
    boxes: tuple[BoxSeen, ...] = ()
    quarantined: tuple[BoxSeen, ...] = ()
    problems: tuple[Problem, ...] = ()
    frozen: bool = False
    storage: StorageStatus = field(default_factory=StorageStatus)
    outlooks: Mapping[str, Outlook] = field(default_factory=dict)

    @cached_property
    def node_by_name(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def simulated_types(self) -> frozenset[str]:
        """The GPU types that have nodes with simulated GPUs."""
        return frozenset(node.gpu_type for node in self.nodes if node.simulated)

    @cached_property
    def boxes_of(self) -> Mapping[str, list[BoxSeen]]:
        """The boxes by reservation."""
        found: dict[str, list[BoxSeen]] = {}
        for box in self.boxes:
            found.setdefault(box.name.reservation_id, []).append(box)
        return found
