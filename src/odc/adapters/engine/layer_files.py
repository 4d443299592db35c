"""The file by which a box's `df` shows how full its writable layer is; the kernel knows only the whole storage."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from odc.adapters.engine.box_folders import BoxFolders
from odc.domain.box import BoxSeen
from odc.domain.errors import ProviderError

log = logging.getLogger(__name__)

STEPS = 200
"""The usage is rounded up to this part of the limit: the file is not written for every small change."""


def layer_file(used_bytes: int, limit_bytes: int) -> dict[str, bytes]:
    """Return the file's path below the box's folder, and its content: the limit and the usage in bytes."""
    step = max(limit_bytes // STEPS, 1)
    used = -(-used_bytes // step) * step
    return {"layer_use": f"{limit_bytes} {min(used, limit_bytes)}\n".encode()}


class LayerFiles:
    """Keeps the files of running boxes up to date."""

    def __init__(self, folders: BoxFolders) -> None:
        self._folders = folders
        self._written: dict[str, dict[str, bytes]] = {}

    def write(self, boxes: Iterable[BoxSeen]) -> None:
        """Write what has changed since the last call. It only informs: a fault is tried again next time.

        Args:
            boxes: all that run. One whose layer has no limit, or was not measured, keeps its file.
        """
        written: dict[str, dict[str, bytes]] = {}
        for box in boxes:
            if not box.layer_bytes:
                continue
            files = layer_file(box.layer_used_bytes, box.layer_bytes)
            if self._written.get(box.uid) != files:
                try:
                    self._folders.replace(box.name, files)
                except ProviderError as error:
                    log.info("the usage of a layer was not written into its box", extra={"reason": error.message})
                    continue
            written[box.uid] = files
        self._written = written
