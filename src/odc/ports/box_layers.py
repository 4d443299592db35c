"""Where boxes write outside their homes: one size-limited layer for each box."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from odc.domain.box import BoxName


class LayerUse(NamedTuple):
    """Bytes that a box has written outside its home, and how many it may write."""

    used_bytes: int
    limit_bytes: int


class BoxLayers(Protocol):
    """The layers of one cloud. May be used by several threads at once; every method may be repeated.

    Every method but `measure` raises `ProviderError` when the storage fails; no file of a running box is lost.
    """

    @property
    def limit_bytes(self) -> int:
        """Return the bytes that one box may write now."""

    def prepare(self, name: BoxName) -> None:
        """Make the layer of a box that is about to be created."""

    def mount(self, name: BoxName, layer: Path, run: Path) -> None:
        """Mount the layer for a container that does not run.

        Args:
            name: of the box.
            layer: the directory that the engine made for the container's writes.
            run: the container's run directory.
        """

    def is_mounted(self, name: BoxName, layer: Path) -> bool:
        """Whether the box's layer is mounted at the engine's directory; True for a box without a layer of its own."""

    def attempts(self) -> set[tuple[str, str]]:
        """Reservation and attempt of every layer that is there."""

    def remove(self, reservation_id: str, attempt: int) -> None:
        """Delete the layers of the attempts up to this one; there may be none. Their containers are gone."""

    def measure(self) -> dict[str, LayerUse]:
        """Return usage by name of the box, at most some seconds old. Layers that cannot be measured are left out."""
