"""GPUs held by other containers: those that the engine runs and that do not belong to this cloud.

Devices of a container are read from the configuration that the engine wrote for its runtime, not from labels: this
finds both a box of a cloud that had another name and a container that the operator started by hand. One that has this
cloud's label but not the other labels of a box is not a box, and counts here. A privileged
container sees every device of the machine and does not count as holding any. Nor do containers that the operator names,
such as a monitoring exporter.

Source: the OCI runtime specification, `mounts` and `linux.devices`; CDI devices are edits of both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from odc.adapters.engine.container_state import box_seen
from odc.adapters.engine.podman_api import PodmanApi

_HOLDING = ("running", "paused", "stopping")


class _Mount(msgspec.Struct, frozen=True):
    source: str = ""


class _Device(msgspec.Struct, frozen=True):
    path: str = ""


class _Linux(msgspec.Struct, frozen=True):
    devices: tuple[_Device, ...] | None = None


class _RuntimeConfig(msgspec.Struct, frozen=True):
    """The part of `config.json` that is read."""

    mounts: tuple[_Mount, ...] | None = None
    linux: _Linux = _Linux()


class ForeignContainers:
    """Finds the GPUs that other containers hold. A container's devices do not change while it runs, so each is read
    once.
    """

    def __init__(self, api: PodmanApi, cloud: str, gpu_paths: Mapping[str, str], ignored: Collection[str]) -> None:
        """Put together; nothing is asked yet.

        Args:
            api: of the engine.
            cloud: whose own boxes are left out.
            gpu_paths: GPU to the path that only a container with this GPU has: its device, or for a simulated GPU the
                file that is mounted into the box.
            ignored: names of containers that may see GPUs without holding them.
        """
        self._api = api
        self._cloud = cloud
        self._gpus = {path: gpu for gpu, path in gpu_paths.items()}
        self._ignored = frozenset(ignored)
        self._seen: dict[str, frozenset[str]] = {}

    def held(self, entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """GPU to the name of the container that holds it.

        Args:
            entries: the containers of the engine, as it lists them; those that do not run are passed over.

        Raises:
            ProviderUnavailable: the engine did not answer.
        """
        running = {str(entry["Id"]): entry for entry in entries if self._may_hold(entry)}
        self._seen = {uid: gpus for uid, gpus in self._seen.items() if uid in running}
        held: dict[str, str] = {}
        for uid, entry in sorted(running.items()):
            if uid not in self._seen:
                self._seen[uid] = self._given(uid)
            held |= dict.fromkeys(self._seen[uid], _name(entry))
        return held

    def _may_hold(self, entry: Mapping[str, Any]) -> bool:
        ours = (entry.get("Labels") or {}).get("odc.cloud") == self._cloud and box_seen(entry) is not None
        state = str(entry.get("State", "")).lower()
        return bool(self._gpus) and not ours and state in _HOLDING and _name(entry) not in self._ignored

    def _given(self, uid: str) -> frozenset[str]:
        """Return the GPUs among the container's devices; none if it has just ended."""
        known = self._api.get(f"/containers/{uid}/json")
        if known is None or (known.get("HostConfig") or {}).get("Privileged"):
            return frozenset()
        try:
            raw = Path(str(known.get("OCIConfigPath") or "")).read_bytes()
            config = msgspec.json.decode(raw, type=_RuntimeConfig)
        except (OSError, msgspec.MsgspecError):
            return frozenset()
        paths = {mount.source for mount in config.mounts or ()}
        paths |= {device.path for device in config.linux.devices or ()}
        return frozenset(gpu for path, gpu in self._gpus.items() if path in paths)


def _name(entry: Mapping[str, Any]) -> str:
    return str((entry.get("Names") or [str(entry["Id"])[:12]])[0])
