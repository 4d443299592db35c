"""The backend as the operator's commands use it: the machine or cluster that runs boxes and keeps disks and records.

The commands name no adapter. `odc.entrypoints.bootstrap` makes the backend of one set of settings; a second kind of
backend implements these protocols and needs no other `odc up`, `odc down` or `odc doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from odc.domain.commands import odc
from odc.domain.disk import VolumeLabel
from odc.domain.finding import Finding
from odc.operator.settings import Settings
from odc.ports.accounts import Accounts
from odc.ports.cluster import Cluster
from odc.ports.history import History
from odc.ports.state_store import StateStore

Say = Callable[[str], None]
Check = Callable[[], Iterator[Finding]]


class KernelLimits(NamedTuple):
    """The kernel limits that all boxes share.

    Attributes:
        low: how many are lower than boxes need.
        raised: how many a cloud of this machine has raised.
        total: how many there are.
    """

    low: int
    raised: int
    total: int

    @property
    def text(self) -> str:
        """The sentence about the raised ones; empty if none is raised."""
        if not self.raised:
            return ""
        return f"{self.raised} of {self.total} kernel limits are raised until " + odc("down --all")


class BoxImage(Protocol):
    """The image of boxes. Every method raises `ProviderError` if the image store does not work.

    Attributes:
        is_local: boxes are made from the image of this machine's engine; otherwise their nodes fetch it from elsewhere.
    """

    is_local: bool

    def version(self) -> str | None:
        """Return the digest of the image's sources; empty if ODC did not make it; None if there is no image."""

    def current_version(self) -> str:
        """Return the digest of the sources in this installation."""

    def lacks_oh_my_zsh(self) -> bool:
        """Whether the image lacks the oh-my-zsh that the settings name, as when it could not be fetched."""

    def build(self, say: Say) -> None:
        """Make the image. Repeatable; running boxes keep their image.

        Args:
            say: called with each step, as a sentence.

        Raises:
            ProviderRefused: a program is missing or a step failed; an image that was there is still there.
        """


class OpenRecords(StateStore, History, Protocol):
    """Records that are open: what is current, and the lists."""


class Records(Protocol):
    """The records, for commands that read or replace them without a daemon."""

    def exist(self) -> bool:
        """Whether there are records. Read-only; nothing is created."""

    def open(self) -> AbstractContextManager[OpenRecords]:
        """Yield the store; it is closed at the end of the block.

        Raises:
            ProviderError: it cannot be opened.
        """

    def back_up(self, target: Path) -> None:
        """Write a whole, consistent copy of the records to a file that does not exist yet. A daemon may run.

        Raises:
            ProviderRefused: this store cannot, or the file exists; no file was changed.
        """

    def restore(self, source: Path, made_by: str) -> Path | None:
        """Replace the records by a backup. No daemon may run.

        Args:
            source: the backup.
            made_by: the only other cloud whose backup is accepted; empty: none is.

        Returns:
            Where the records of before are now; None if there were none.

        Raises:
            InvalidRequest: the backup names another cloud; nothing was changed.
            ProviderError: the file is not a whole backup, or cannot be copied; nothing was changed.
        """


class Backend(Protocol):
    """The backend of one set of settings. The constructor reads nothing; most methods need root."""

    @property
    def image(self) -> BoxImage:
        """The image of boxes."""

    @property
    def records(self) -> Records:
        """The records."""

    @property
    def accounts(self) -> Accounts:
        """The logins of the machine."""

    def lent_gpus(self) -> tuple[str, ...]:
        """The machine's own GPUs that a cloud of these settings lends, by identity; none if it simulates them.

        Raises:
            InvalidRequest: what is to be simulated is not understood.
        """

    def check_place(self) -> None:
        """Check the address at which boxes listen, or the namespace that they are made in.

        Raises:
            InvalidRequest, ProviderRefused: no box could be made or reached. Nothing was changed.
        """

    def check_immutable(self, last: Settings) -> None:
        """Refuse a disk folder or id range that differs from the one of existing disks and boxes.

        Args:
            last: the settings of the running daemon, or of the last one.

        Raises:
            InvalidRequest: with the possible commands. Nothing was changed.
        """

    def check_ids(self) -> None:
        """Refuse an id range that the files of existing disks do not belong to. The disks are mounted.

        Raises:
            InvalidRequest: with the setting that fits. Nothing was changed.
        """

    def kernel_limits(self) -> KernelLimits:
        """Return the state of the kernel limits that boxes share; the daemon raises the low ones.

        Raises:
            InvalidRequest: what is to be simulated is not understood.
        """

    def rollback(self) -> Callable[[], None]:
        """Return a function that removes everything added to the machine from now on, except files in the state folder.

        It never raises; what cannot be removed stays.
        """

    def boxes(self) -> AbstractContextManager[Cluster | None]:
        """Return the cloud's boxes, to list and to delete; None if nothing was ever started. Services started for it
        are stopped again.

        Raises:
            ProviderError: the engine does not start.
        """

    def teardown(self, alone: bool) -> None:
        """Stop the services of boxes and unmount the disks. Repeatable. All boxes must be deleted; records and disks
        stay.

        Args:
            alone: no other cloud uses this machine, so that its kernel limits are put back.
        """

    def volume_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the label of each volume, by disk id; empty if the storage is not mounted."""

    def checks(self, running: bool) -> Mapping[str, Check]:
        """Return the checks of `odc doctor`, subject to check, in the order in which they are shown. Nothing is
        changed.

        Args:
            running: a daemon of this cloud runs.
        """


MakeBackend = Callable[[Settings], Backend]
