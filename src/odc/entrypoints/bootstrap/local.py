"""The backend of one lab machine: Podman, a btrfs folder, SQLite or PostgreSQL, NVIDIA's driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from odc.adapters.engine.image import Images, box_version
from odc.adapters.engine.oh_my_zsh import OhMyZsh
from odc.adapters.engine.tcp_ports import check_listen
from odc.adapters.localdisk.immutable_settings import check_box_ids, check_disks_folder, check_ids
from odc.adapters.localdisk.volume_folders import read_labels
from odc.adapters.system.accounts import SystemAccounts
from odc.domain.disk import VolumeLabel
from odc.entrypoints.bootstrap.checks import kernel_limits, machine_checks
from odc.entrypoints.bootstrap.cloud import MachineCloud, build_cloud, engine_service, lent_gpus, present_boxes
from odc.entrypoints.bootstrap.host_footprint import HostFootprint, teardown
from odc.operator.backend import Check, KernelLimits, Say
from odc.operator.settings import Settings
from odc.ports.cluster import Cluster

if TYPE_CHECKING:
    from odc.adapters.sql.state_store import SqlStateStore


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
        self.image = LocalImage(settings, environment)
        self.records = SqlRecords(settings)
        self.accounts = SystemAccounts()

    def lent_gpus(self) -> tuple[str, ...]:
        """Return the machine's own GPUs that the cloud lends."""
        return lent_gpus(self._settings)

    def check_listen(self) -> None:
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


class LocalImage:
    """See `odc.operator.backend.BoxImage`."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._service = engine_service(settings, environment)

    @property
    def _images(self) -> Images:
        return Images(self._service.environment)

    def version(self) -> str | None:
        """The digest in the image's label. The engine's configuration is written first: its commands read it."""
        self._service.configure()
        return self._images.version_of(self._settings.image)

    def current_version(self) -> str:
        """The digest of the files of this installation."""
        return box_version()

    def lacks_oh_my_zsh(self) -> bool:
        """Whether the image has another commit than the settings name, or none."""
        wanted = self._settings.oh_my_zsh_commit
        return bool(self._settings.oh_my_zsh) and self._images.oh_my_zsh_of(self._settings.image) != wanted

    def build(self, say: Say) -> None:
        """Make it from Debian's packages."""
        zsh = OhMyZsh(self._settings.oh_my_zsh, self._settings.oh_my_zsh_commit)
        self._images.build(self._settings.image, say, zsh)


class SqlRecords:
    """See `odc.operator.backend.Records`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.state_folder / "odc.db"

    def exist(self) -> bool:
        """Whether there is the file; of PostgreSQL it is not asked."""
        return bool(self._settings.database) or self._file.exists()

    @contextmanager
    def open(self) -> Iterator[SqlStateStore]:
        """The store."""
        with closing(self._store()) as store:
            yield store

    def back_up(self, target: Path) -> None:
        """Copy the file while a daemon may write, and add the name of the cloud."""
        from odc.adapters.sql.backup import name_cloud

        with closing(self._store()) as store:
            store.back_up(target)
        name_cloud(target, self._settings.cloud)

    def restore(self, source: Path, made_by: str) -> Path | None:
        """Replace the file."""
        from odc.adapters.sql.backup import restore_sqlite

        return restore_sqlite(source, self._file, self._settings.cloud, made_by)

    def _store(self) -> SqlStateStore:
        from odc.adapters.sql.state_store import SqlStateStore  # slow to import, and most commands read no records

        return SqlStateStore(self._settings.database_address)
