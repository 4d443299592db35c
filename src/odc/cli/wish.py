"""What a user wants to reserve, as far as it is said; and the command that says all of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from odc.api.messages import ReservationView
from odc.domain.errors import InvalidRequest
from odc.domain.limits import check_hours
from odc.domain.names import DEFAULT_DISK, NO_DISK, check_name
from odc.domain.requests import Reserve


@dataclass(frozen=True)
class Wish:
    """What the user has said so far; None for what is still open."""

    gpu_type: str | None = None
    gpus: int | None = None
    hours: float | None = None
    name: str | None = None
    disk: str | None = None

    @property
    def missing(self) -> list[str]:
        """The options that must still be given."""
        options = (("-t TYPE", self.gpu_type), ("-g N", self.gpus), ("-h HOURS", self.hours))
        return [option for option, value in options if value is None]

    def like(self, other: ReservationView, taken: frozenset[str]) -> Wish:
        """With what is open taken from another reservation; its name too, unless a live one has it.

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
        """Refuse what the server would refuse too, before anything is sent.

        Raises:
            InvalidRequest: hours out of range, no GPUs, or a name that may not be one.
        """
        if self.hours is not None:
            check_hours(self.hours)
        if self.gpus is not None and self.gpus < 0:
            raise InvalidRequest(f"GPUs must be 1, 2, 4, 8, up to a whole node, not {self.gpus}")
        if self.name is not None:
            check_name(self.name, "reservation")
        if self.disk is not None and self.disk != NO_DISK:
            check_name(self.disk, "disk")

    def request(self, new_disk: bool) -> Reserve:
        """The request for it; nothing is missing any more."""
        return Reserve(
            gpu_type=str(self.gpu_type),
            gpus=self.gpus or 0,
            hours=check_hours(self.hours),
            name=self.name,
            disk=self.disk or DEFAULT_DISK,
            new_disk=new_disk,
        )

    def command(self) -> str:
        """The command that asks for the same."""
        words = ["gpu-dev reserve", f"-t {self.gpu_type}"]
        words += [f"-g {self.gpus}"] if self.gpus else []
        words += [f"-h {self.hours:g}"] if self.hours is not None else []
        words += [f"-n {self.name}"] if self.name else []
        words += [f"--disk {self.disk}"] if self.disk else []
        return " ".join(words)
