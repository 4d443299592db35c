"""Which StorageClass and VolumeSnapshotClass disks use: those of the settings, or the cluster's defaults.

Source: kubernetes 1.34, `pkg/volume/util/storageclass.go` (GetDefaultClass): of several default classes the newest is
used. kubernetes-csi/external-snapshotter 8, `pkg/common-controller/snapshot_controller.go` (SetDefaultSnapshotClass):
of several default classes of one driver none is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from odc.adapters.kubernetes.api import KubernetesApi
from odc.adapters.kubernetes.errors import NotThere
from odc.adapters.kubernetes.volume_objects import SNAPSHOT_GROUP, SnapshotClass, StorageClass
from odc.domain.errors import Hint, ProviderRefused

_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_DEFAULTS = (_DEFAULT, "storageclass.beta.kubernetes.io/is-default-class")
_SNAPSHOT_DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
_STORAGE_PATH = "/apis/storage.k8s.io/v1/storageclasses"
_SNAPSHOT_PATH = f"/apis/{SNAPSHOT_GROUP}/v1/volumesnapshotclasses"


class VolumeClasses:
    """The classes of a cloud's disks. They are read at each call: an operator may change the defaults."""

    def __init__(self, api: KubernetesApi, storage_class: str, snapshot_class: str) -> None:
        """Store the arguments; the API server is not called yet.

        Args:
            api: of the cluster.
            storage_class: of new volumes; empty: the cluster's default.
            snapshot_class: of new snapshots; empty: the default of the driver of the volume.
        """
        self._api = api
        self._storage_class = storage_class
        self._snapshot_class = snapshot_class

    def for_volumes(self) -> StorageClass:
        """The StorageClass of new volumes.

        Raises:
            ProviderRefused: it does not exist, or the cluster has no default.
        """
        if self._storage_class:
            return self.get(self._storage_class)
        found = newest_default(self._api.list_all(_STORAGE_PATH, StorageClass))
        if found is None:
            raise ProviderRefused(
                'the cluster has no default StorageClass: name one (`storage_class = "NAME"` under [kubernetes] in the '
                "settings), or make one the default",
                self._hint("the classes", "get storageclass"),
                self._hint("make one the default", f"annotate storageclass NAME {_DEFAULT}=true"),
            )
        return found

    def get(self, name: str) -> StorageClass:
        """The StorageClass of this name, such as that of an existing claim.

        Raises:
            ProviderRefused: it does not exist.
        """
        found = self._api.find(f"{_STORAGE_PATH}/{name}", StorageClass)
        if found is None:
            hint = self._hint("the classes", "get storageclass")
            raise ProviderRefused(f"the StorageClass {name} does not exist", hint)
        return found

    def for_snapshots(self, storage_class: str) -> SnapshotClass:
        """The VolumeSnapshotClass of new snapshots.

        Args:
            storage_class: that of the volume.

        Raises:
            ProviderRefused: it does not exist or is of another driver, or the driver has not exactly one default.
        """
        driver = self.get(storage_class).provisioner
        if not self._snapshot_class:
            return self._default_for_snapshots(driver)
        found = self._api.find(f"{_SNAPSHOT_PATH}/{self._snapshot_class}", SnapshotClass)
        classes = self._hint("the classes", "get volumesnapshotclass")
        if found is None:
            raise ProviderRefused(f"the VolumeSnapshotClass {self._snapshot_class} does not exist", classes)
        if found.driver != driver:
            raise ProviderRefused(
                f"the VolumeSnapshotClass {self._snapshot_class} is of the driver {found.driver}, but the StorageClass "
                f"{storage_class} is of {driver}",
                classes,
            )
        return found

    def _default_for_snapshots(self, driver: str) -> SnapshotClass:
        try:
            found = self._api.list_all(_SNAPSHOT_PATH, SnapshotClass)
        except NotThere as error:
            raise ProviderRefused("the cluster has no VolumeSnapshots: no snapshot controller is installed") from error
        defaults = [
            one for one in found if one.driver == driver and one.metadata.annotations.get(_SNAPSHOT_DEFAULT) == "true"
        ]
        if len(defaults) == 1:
            return defaults[0]
        names = ", ".join(one.metadata.name for one in defaults)
        several = f"the driver {driver} has several default VolumeSnapshotClasses ({names})"
        raise ProviderRefused(
            f"{several if defaults else f'the driver {driver} has no default VolumeSnapshotClass'}: name one "
            '(`snapshot_class = "NAME"` under [kubernetes] in the settings), or make one the only default',
            self._hint("the classes", "get volumesnapshotclass"),
            self._hint("make one the default", f"annotate volumesnapshotclass NAME {_SNAPSHOT_DEFAULT}=true"),
        )

    def _hint(self, label: str, command: str) -> Hint:
        return Hint(label, f"kubectl --context {self._api.context} {command}")


def newest_default(classes: Iterable[StorageClass]) -> StorageClass | None:
    """Return the class that Kubernetes gives to claims that name none: of several defaults the newest.

    Args:
        classes: all of the cluster.
    """

    def age_and_name(one: StorageClass) -> tuple[float, str]:
        created = one.metadata.created_at or datetime.min.replace(tzinfo=UTC)
        return -created.timestamp(), one.metadata.name

    defaults = [one for one in classes if any(one.metadata.annotations.get(key) == "true" for key in _DEFAULTS)]
    return min(defaults, key=age_and_name, default=None)
