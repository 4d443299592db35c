"""What a start leaves on the machine besides files in the state folder, so that a start that fails takes it back.

Only what was not there before is taken back: boxes of an earlier run keep their disks, rules and helpers.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from odc.adapters.engine.firewall import forget_rules, is_kept_apart
from odc.adapters.engine.lxcfs import stop_lxcfs
from odc.adapters.engine.simulated_gpus import devices_file
from odc.adapters.localdisk.mounts import read_mounts, unmount, unmount_copies
from odc.domain.errors import ProviderError
from odc.entrypoints.bootstrap import engine_service
from odc.operator.host_claims import forget_claim, is_claimed
from odc.operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Traces:
    """What a cloud has on the machine at one moment."""

    mounts: frozenset[Path]
    rules: bool
    devices: bool
    engine: bool
    claim: bool

    @classmethod
    def of(cls, settings: Settings) -> Traces:
        """Look; nothing is started or changed."""
        return cls(
            mounts=frozenset(_mounts(settings)),
            rules=is_kept_apart(settings.cloud),
            devices=devices_file(settings.cloud).exists(),
            engine=engine_service(settings).answers(),
            claim=is_claimed(settings),
        )

    def take_back(self, settings: Settings) -> None:
        """Take away what has come since. What cannot be taken away stays; the error of the start is what counts."""
        with contextlib.suppress(ProviderError, OSError):
            if not self.engine:
                engine_service(settings).stop()
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
            if not self.claim:
                forget_claim(settings)


def _mounts(settings: Settings) -> list[Path]:
    """Mount points of the cloud's own folders, in the order in which they were mounted."""
    places = (settings.state_folder.resolve(), settings.disks_folder.resolve())
    return [mount.target for mount in read_mounts() if any(mount.target.is_relative_to(place) for place in places)]
