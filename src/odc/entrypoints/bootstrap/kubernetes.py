"""The backend of a Kubernetes cluster: boxes are pods, disks are volume claims. Daemon and records are here."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from odc.adapters.engine.image import box_files
from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.adapters.kubernetes.volumes import KubernetesVolumes
from odc.adapters.localdisk.blob_store import FileBlobStore
from odc.adapters.sql.disk_reserve import DiskReserve
from odc.adapters.system.accounts import SystemAccounts
from odc.domain.disk import VolumeLabel
from odc.domain.errors import ProviderUnavailable
from odc.domain.host_ids import IdRanges
from odc.domain.node import Node
from odc.entrypoints.bootstrap.built_image import BuiltImage
from odc.entrypoints.bootstrap.cloud import MachineCloud, machine_ports
from odc.entrypoints.bootstrap.kubernetes_checks import check_namespace, cluster_checks
from odc.entrypoints.bootstrap.records import SqlRecords
from odc.operator.backend import Check, KernelLimits
from odc.operator.settings import Settings
from odc.ports.cluster import Cluster

log = logging.getLogger(__name__)


def find_context(kubeconfig: Path, context: str | None) -> dict[str, str]:
    """Return the settings that name a cluster: it stays this one whatever becomes the current context later.

    Args:
        kubeconfig: the file.
        context: one of its contexts; None: the current one.

    Raises:
        ProviderRefused: the file cannot be used, or has no such context.
    """
    api = KubernetesApi(kubeconfig, context)
    api.close()
    return {"kubeconfig": str(kubeconfig), "context": api.context}


def open_api(settings: Settings) -> KubernetesApi:
    """Return the API of the settings' cluster; it is not called yet.

    Raises:
        ProviderRefused: the kubeconfig file cannot be used.
    """
    return KubernetesApi(Path(settings.kubeconfig), settings.context, settings.namespace)


def box_options(settings: Settings) -> KubernetesOptions:
    """Return the settings as the adapter of nodes and boxes reads them."""
    own = settings.kubernetes
    return KubernetesOptions(
        cloud=settings.cloud,
        program=(box_files() / "odc-box").read_bytes(),
        catalog=settings.policy().catalog,
        gpu_resource=own.gpu_resource,
        type_label=own.type_label,
        address=settings.address,
        pull_policy=own.pull_policy,
        pull_secrets=own.pull_secrets,
        tolerated=own.tolerated,
        allow_root_of_nodes=own.allow_root_of_nodes,
        layer_bytes=int(settings.layer_gib * 2**30),
        grace_s=int(settings.limits.grace_s),
    )


def open_cluster(settings: Settings, api: KubernetesApi) -> KubernetesCluster:
    """Return the nodes and boxes of the settings' cluster."""
    return KubernetesCluster(api, box_options(settings))


def open_volumes(settings: Settings, api: KubernetesApi) -> KubernetesVolumes:
    """Return the volumes of the settings' cluster."""
    own, options = settings.kubernetes, box_options(settings)
    blobs = FileBlobStore(settings.state_folder / "blobs")
    return KubernetesVolumes(api, options, blobs, settings.image, own.storage_class, own.snapshot_class)


class KubernetesBackend:
    """See `odc.operator.backend.Backend`. On this machine it has only the daemon and the records."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        """Store the arguments; nothing is read yet.

        Args:
            settings: of the cloud.
            environment: for the programs that build the image.
        """
        self._settings = settings
        self.image = BuiltImage(settings, environment)
        self.records = SqlRecords(settings)
        self.accounts = SystemAccounts()

    def lent_gpus(self) -> tuple[str, ...]:
        """Of this machine none is lent."""
        return ()

    def check_place(self) -> None:
        """The namespace. An API server that does not answer now may do so later: passes try again."""
        api = open_api(self._settings)
        try:
            check_namespace(api)
        except ProviderUnavailable as error:
            log.warning("the namespace cannot be checked: %s", error.message)
        finally:
            api.close()

    def check_immutable(self, last: Settings) -> None:
        """Nothing more than the cluster and the namespace."""

    def check_ids(self) -> None:
        """Each pod has ids of its own, which the kubelet chooses."""

    def build(self) -> MachineCloud:
        """Return the cloud. An API server that does not answer now may do so later: passes try again."""
        from odc.adapters.sql.state_store import SqlStateStore  # slow to import, and most commands read no records

        settings = self._settings
        state = settings.state_folder
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        api = open_api(settings)
        cluster = open_cluster(settings, api)
        blobs = FileBlobStore(state / "blobs")
        volumes = open_volumes(settings, api)
        store = SqlStateStore(settings.database_address, None if settings.database else DiskReserve(state))

        def close() -> None:
            store.close()
            api.close()

        return MachineCloud(
            policy=dataclasses.replace(settings.policy(), ids=IdRanges(), make_again=True),
            ports=machine_ports(settings, store, cluster, volumes, blobs),
            nodes=_present_nodes(cluster),
            find_lender=self.accounts.find_lender,
            check_ports=lambda: None,
            close=close,
            engine=f"Kubernetes, context {settings.context}, namespace {settings.namespace}",
        )

    def kernel_limits(self) -> KernelLimits:
        """Those of the nodes are not changed."""
        return KernelLimits(0, 0, 0)

    def rollback(self) -> Callable[[], None]:
        """A start adds nothing to this machine outside the state folder."""
        return lambda: None

    @contextmanager
    def boxes(self) -> Iterator[Cluster | None]:
        """The boxes as the API server lists them."""
        api = open_api(self._settings)
        try:
            yield open_cluster(self._settings, api)
        finally:
            api.close()

    def teardown(self, alone: bool) -> None:
        """Nothing of a cloud without boxes runs in the cluster."""

    def volume_labels(self) -> tuple[VolumeLabel, ...]:
        """The labels of the volume claims."""
        api = open_api(self._settings)
        try:
            return open_volumes(self._settings, api).list_labels()
        finally:
            api.close()

    def checks(self, running: bool) -> Mapping[str, Check]:
        """Return the checks of `odc doctor`."""
        return cluster_checks(
            self._settings, partial(open_api, self._settings), box_options(self._settings), open_volumes
        )


def _present_nodes(cluster: Cluster) -> tuple[Node, ...]:
    try:
        return cluster.list_nodes()
    except ProviderUnavailable as error:
        log.warning("the nodes are not known yet: %s", error.message)
        return ()
