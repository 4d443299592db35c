"""A request that may have open fields, and the `gpu-dev reserve` command that is equivalent to it. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from odc.api.messages.reservations import ReservationView
from odc.domain.commands import Command
from odc.domain.errors import InvalidRequest
from odc.domain.limits import MAX_HOURS, MIN_HOURS, check_hours
from odc.domain.names import DEFAULT_DISK, MAX_NAME, NO_DISK, check_name
from odc.domain.requests import Reserve, reserve_command


@dataclass(frozen=True)
class PartialRequest:
    """The options given so far; None for an open field."""

    gpu_type: str | None = None
    gpus: int | None = None
    hours: float | None = None
    name: str | None = None
    disk: str | None = None

    @property
    def missing(self) -> list[str]:
        """The options that are still missing."""
        options = (("-t TYPE", self.gpu_type), ("-g N", self.gpus), ("-h HOURS", self.hours))
        return [option for option, value in options if value is None]

    def like(self, other: ReservationView, taken: frozenset[str]) -> PartialRequest:
        """Return a copy with open fields taken from another reservation; its name too, unless a live one has it.

        Args:
            other: the reservation to repeat.
            taken: names of the user's live reservations.
        """
        return replace(
            self,
            gpu_type=self.gpu_type or other.gpu_type,
            gpus=other.gpus if self.gpus is None else self.gpus,
            hours=other.hours if self.hours is None else self.hours,
            name=self.name or (other.name if other.name and other.name not in taken else None),
            disk=self.disk or other.disk or NO_DISK,
        )

    def check(self) -> None:
        """Refuse before sending what the server would refuse.

        Raises:
            InvalidRequest: hours out of range, no GPUs, or a name that may not be one.
        """
        if self.hours is not None:
            with _instead(lambda: replace(self, hours=_near_hours(self.hours))):
                check_hours(self.hours)
        if self.gpus is not None and self.gpus < 0:
            with _instead(lambda: replace(self, gpus=1)):
                raise InvalidRequest(f"GPUs must be 1, 2, 4, 8, up to a whole node, not {self.gpus}")
        if self.name is not None:
            with _instead(lambda: replace(self, name=allowed_name(str(self.name), "mine"))):
                check_name(self.name, "reservation")
        if self.disk is not None and self.disk != NO_DISK:
            with _instead(lambda: replace(self, disk=allowed_name(str(self.disk), "my-disk"))):
                check_name(self.disk, "disk")

    def request(self, new_disk: bool) -> Reserve:
        """Return the complete request; no option may be missing."""
        return Reserve(
            gpu_type=str(self.gpu_type),
            gpus=self.gpus or 0,
            hours=check_hours(self.hours),
            name=self.name,
            disk=self.disk or DEFAULT_DISK,
            new_disk=new_disk,
        )

    def command(self) -> Command:
        """Return the equivalent command."""
        return reserve_command(self.gpu_type, self.gpus, self.hours, self.name, self.disk)


@contextmanager
def _instead(better: Callable[[], PartialRequest]) -> Iterator[None]:
    """Add to an `InvalidRequest` raised inside the command that would be accepted."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(error.message, ("for example", better().command())) from error


def _near_hours(hours: float | None) -> float:
    """Return the nearest allowed number of hours."""
    if hours is None or not math.isfinite(hours):
        return 2.0
    return min(max(hours, MIN_HOURS), MAX_HOURS)


def allowed_name(text: str, otherwise: str) -> str:
    """Return an allowed name similar to this text; `otherwise` if there is none."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub("[^a-z0-9]+", "-", ascii_text)[:MAX_NAME].strip("-")
    try:
        return check_name(name, "")
    except InvalidRequest:
        return otherwise
