"""The backend of one lab machine: Podman, a btrfs folder, SQLite or PostgreSQL, NVIDIA's driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from odc.adapters.engine.tcp_ports import check_listen
from odc.adapters.localdisk.immutable_settings import check_box_ids, check_disks_folder, check_ids
from odc.adapters.localdisk.volume_folders import read_labels
from odc.adapters.system.accounts import SystemAccounts
from odc.domain.disk import VolumeLabel
from odc.entrypoints.bootstrap.built_image import BuiltImage
from odc.entrypoints.bootstrap.checks import kernel_limits, machine_checks
from odc.entrypoints.bootstrap.cloud import MachineCloud, build_cloud, engine_service, lent_gpus, present_boxes
from odc.entrypoints.bootstrap.host_footprint import HostFootprint, teardown
from odc.entrypoints.bootstrap.records import SqlRecords
from odc.operator.backend import Check, KernelLimits
from odc.operator.settings import Settings
from odc.ports.cluster import Cluster


class LocalBackend:
    """See `odc.operator.backend.Backend`."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        """Store the arguments; nothing is read yet.

        Args:
            settings: of the cloud.
            environment: for the programs that the backend starts.
        """
        self._settings = settings
        self._environment = environment
        self._service = engine_service(settings, environment)
        self.image = BuiltImage(settings, environment)
        self.records = SqlRecords(settings)
        self.accounts = SystemAccounts()

    def lent_gpus(self) -> tuple[str, ...]:
        """Return the machine's own GPUs that the cloud lends."""
        return lent_gpus(self._settings)

    def check_place(self) -> None:
        """Whether the machine has the address."""
        check_listen(self._settings.listen)

    def check_immutable(self, last: Settings) -> None:
        """The disks' folder, and the boxes' ids if they are others than those of the last start."""
        boxes = self._settings.state_folder / "boxes"
        check_disks_folder(last.disks_folder, self._settings.disks_folder)
        check_box_ids(last.box_id_base, self._settings.box_id_base, boxes)

    def check_ids(self) -> None:
        """The ids of the files of homes. The disks are mounted."""
        check_ids(self._settings.box_id_base, self._settings.disks_folder)

    def build(self) -> MachineCloud:
        """Return the cloud, with all services of boxes started."""
        return build_cloud(self._settings, self._environment)

    def kernel_limits(self) -> KernelLimits:
        """The kernel limits for the boxes of these settings."""
        return kernel_limits(self._settings)

    def rollback(self) -> Callable[[], None]:
        """Take back mounts, rules, devices and the engine's service, as far as they are new."""
        before = HostFootprint.of(self._settings, self._service)
        return lambda: before.take_back(self._settings, self._service)

    @contextmanager
    def boxes(self) -> Iterator[Cluster | None]:
        """The boxes as the engine has them; its service is stopped at the end unless it ran before."""
        if not self._service.socket.parent.is_dir():
            yield None
            return
        ran = self._service.answers()
        try:
            yield present_boxes(self._settings, self._environment)
        finally:
            if not ran:
                self._service.stop()

    def teardown(self, alone: bool) -> None:
        """Stop the engine's service and lxcfs, delete rules and devices, unmount the disks."""
        teardown(self._settings, self._service, alone)

    def volume_labels(self) -> tuple[VolumeLabel, ...]:
        """The labels in the disks' folder."""
        return read_labels(self._settings.disks_folder)

    def checks(self, running: bool) -> Mapping[str, Check]:
        """Return the checks of `odc doctor`."""
        return machine_checks(self._settings, self._environment, running)
