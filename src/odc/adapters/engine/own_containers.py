"""The engine's containers that are boxes of this cloud, by name and by uid. No others are read as boxes or changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from odc.adapters.engine.container import container_name
from odc.adapters.engine.podman_api import PodmanApi
from odc.domain.box import BoxName
from odc.domain.errors import ProviderRefused


class OwnContainers:
    """Finds single boxes of the cloud."""

    def __init__(self, api: PodmanApi, cloud: str) -> None:
        self._api = api
        self._cloud = cloud

    def label_filter(self, *more: str) -> str:
        """Return the filter of the engine's lists for what belongs to this cloud.

        Args:
            more: further labels, as `key=value`.
        """
        return json.dumps({"label": [f"odc.cloud={self._cloud}", *more]})

    def inspect(self, name: BoxName) -> dict[str, Any] | None:
        """Return the engine's description of the box; None if there is none.

        Raises:
            ProviderRefused: a container of this name exists that does not belong to this cloud.
        """
        known: dict[str, Any] | None = self._api.get(f"/containers/{container_name(self._cloud, name)}/json")
        if known is not None and not self.owns(known, name):
            raise ProviderRefused(f"container {known['Name']} does not belong to this cloud; it is left unchanged")
        return known

    def find(self, name: BoxName, uid: str) -> dict[str, Any] | None:
        """Return the engine's description of the box of this name and uid; None if there is none."""
        known: dict[str, Any] | None = self._api.get(f"/containers/{uid}/json")
        return known if known is not None and known["Id"] == uid and self.owns(known, name) else None

    def owns(self, known: Mapping[str, Any], name: BoxName) -> bool:
        """Whether this is a description of the cloud's box of this name."""
        labels = known["Config"].get("Labels") or {}
        return bool(labels.get("odc.cloud") == self._cloud and known["Name"] == container_name(self._cloud, name))
