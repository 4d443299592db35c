"""The cloud's mounts, processes and rules on the machine outside its state folder; removed after a failed start and at
teardown.

After a failed start only new ones are removed: boxes of an earlier run keep their disks, rules and helpers.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from odc.adapters.engine.firewall import forget_rules, is_kept_apart
from odc.adapters.engine.kernel_limits import restore_limits
from odc.adapters.engine.lxcfs import stop_lxcfs
from odc.adapters.engine.service import EngineService
from odc.adapters.engine.simulated_gpus import devices_file
from odc.adapters.localdisk.blob_store import FileBlobStore
from odc.adapters.localdisk.mounts import read_mounts, unmount, unmount_copies
from odc.adapters.localdisk.volumes import open_volumes
from odc.domain.errors import ProviderError
from odc.operator.settings import Settings


@dataclass(frozen=True, slots=True)
class HostFootprint:
    """The footprint of a cloud on the machine at one moment."""

    mounts: frozenset[Path]
    rules: bool
    devices: bool
    engine: bool

    @classmethod
    def of(cls, settings: Settings, service: EngineService) -> HostFootprint:
        """Return the current footprint; nothing is started or changed."""
        return cls(
            mounts=frozenset(_mounts(settings)),
            rules=is_kept_apart(settings.cloud),
            devices=devices_file(settings.cloud).exists(),
            engine=service.answers(),
        )

    def take_back(self, settings: Settings, service: EngineService) -> None:
        """Remove what was added since. Failures are ignored, so that the error of the start is reported."""
        with contextlib.suppress(ProviderError, OSError):
            if not self.engine:
                service.stop()
            new = [mount for mount in _mounts(settings) if mount not in self.mounts]
            lxcfs = settings.state_folder.resolve() / "lxcfs"
            if lxcfs in new:
                stop_lxcfs(settings.state_folder / "lxcfs")
            for mount in reversed(new):
                if mount != lxcfs:
                    unmount_copies(mount)
                    unmount(mount)
            if not self.rules:
                forget_rules(settings.cloud)
            if not self.devices:
                devices_file(settings.cloud).unlink(missing_ok=True)


def _mounts(settings: Settings) -> list[Path]:
    """Return mount points of the cloud's own folders, in the order in which they were mounted."""
    places = (settings.state_folder.resolve(), settings.disks_folder.resolve())
    return [mount.target for mount in read_mounts() if any(mount.target.is_relative_to(place) for place in places)]


def teardown(settings: Settings, service: EngineService, alone: bool) -> None:
    """Stop the services of boxes and unmount the disks. Repeatable. All boxes must be deleted; records and disks stay.

    Args:
        settings: of the cloud.
        service: the engine's.
        alone: no other cloud uses this machine, so that its kernel limits are put back.
    """
    service.stop()
    folder = settings.disks_folder.resolve()
    for place in (settings.state_folder.resolve(), folder):
        unmount_copies(place)
    stop_lxcfs(settings.state_folder / "lxcfs")
    devices_file(settings.cloud).unlink(missing_ok=True)
    forget_rules(settings.cloud)
    if alone:
        restore_limits()
    if any(mount.target == folder or mount.target.parent == folder / "mounts" for mount in read_mounts()):
        blobs = FileBlobStore(settings.state_folder / "blobs")
        open_volumes(folder, int(settings.disk_file_gib * 2**30), settings.box_id_base, blobs).close()
