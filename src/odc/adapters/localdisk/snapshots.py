"""The snapshots of disks as folders. Only complete and verified copies have a snapshot's name."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from odc.adapters.localdisk.backends import StorageBackend
from odc.adapters.localdisk.disk_marker import read_marker
from odc.adapters.localdisk.programs import run
from odc.domain.disk import Snapshot
from odc.domain.errors import OdcError, ProviderRefused
from odc.host import sync_folder, write_atomically


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded facts about a snapshot.

    Attributes:
        number: its place among the disk's snapshots; clocks may jump, this only grows.
        begun: when the copy began.
        taken: when it was complete and verified.
        used_bytes: size of the files.
        crash_consistent: the volume was in use.
    """

    number: int
    begun: datetime
    taken: datetime
    used_bytes: int
    crash_consistent: bool = False


class Snapshots:
    """Takes and names snapshots. Calls for one disk are made one after another."""

    def __init__(self, root: Path, backend: StorageBackend) -> None:
        self._root = root
        self._backend = backend

    def path(self, disk_id: str, snapshot_id: str) -> Path:
        """The folder of the snapshot.

        Raises:
            ProviderRefused: there is no complete snapshot of this id.
        """
        if not self.is_complete(disk_id, snapshot_id):
            raise ProviderRefused(f"disk {disk_id} has no snapshot {snapshot_id}")
        return self._root / disk_id / snapshot_id

    def is_complete(self, disk_id: str, snapshot_id: str) -> bool:
        """Whether it is there, whole."""
        return (self._root / disk_id / snapshot_id).exists()

    def complete(self, disk_id: str) -> tuple[str, ...]:
        """Ids, oldest first."""
        folder = self._root / disk_id
        if not folder.exists():
            return ()
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        return tuple(sorted(names, key=lambda name: (self._facts(disk_id, name).number, name)))

    def take(self, home: Path, disk_id: str, snapshot_id: str, crash_consistent: bool) -> None:
        """Copy, verify, write the facts, and only then give the copy its name. Parts of an earlier try are deleted.

        Raises:
            ProviderError: there is no snapshot of this id; the volume and earlier snapshots are as they were.
        """
        folder = self._root / disk_id
        folder.mkdir(exist_ok=True)
        partial = folder / f".{snapshot_id}.partial"
        self._backend.delete(partial)
        try:
            facts = msgspec.structs.replace(self._copy(home, disk_id, partial), crash_consistent=crash_consistent)
        except (OdcError, OSError):
            # A partial copy uses space, which may be the cause of the failure. The first error is reported.
            with suppress(OdcError, OSError):
                self._backend.delete(partial)
            raise
        write_atomically(self._facts_path(disk_id, snapshot_id), msgspec.json.encode(facts), durable=True)
        partial.rename(folder / snapshot_id)

    def delete(self, disk_id: str, snapshot_id: str, keep_last: bool) -> None:
        """Delete a complete snapshot, or the rest of one whose deletion was interrupted.

        Raises:
            ProviderRefused: it is the last one, and `keep_last` was given.
        """
        folder = self._root / disk_id
        going = folder / f".{snapshot_id}.deleting"
        if self.is_complete(disk_id, snapshot_id):
            if keep_last and self.complete(disk_id)[-1] == snapshot_id:
                raise ProviderRefused(f"snapshot {snapshot_id} is the last one of disk {disk_id}: it is kept")
            # Rename first: a partly deleted snapshot must not look complete.
            (folder / snapshot_id).rename(going)
            sync_folder(folder)
        self._backend.delete(going)
        self._facts_path(disk_id, snapshot_id).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # Of a deleted disk, with its last snapshot.

    def describe(self, disk_id: str, snapshot_id: str) -> Snapshot:
        """Return the complete snapshot."""
        facts = self._facts(disk_id, snapshot_id)
        return Snapshot(
            id=snapshot_id,
            taken_at=facts.taken,
            verified_at=facts.taken,
            used_bytes=facts.used_bytes,
            crash_consistent=facts.crash_consistent,
        )

    def sync(self, disk_id: str, snapshot_id: str) -> None:
        """Make sure that a complete snapshot survives a power failure."""
        run("sync", "-f", str(self._root / disk_id / snapshot_id))

    def _copy(self, home: Path, disk_id: str, partial: Path) -> Facts:
        earlier = self.complete(disk_id)
        before = self._root / disk_id / earlier[-1] if earlier else None
        last = self._facts(disk_id, earlier[-1]) if earlier else None
        begun = datetime.now(UTC)
        used = self._backend.copy(home, partial, before, last.begun.timestamp() if last else 0.0)
        if read_marker(partial) != disk_id:
            raise ProviderRefused(f"the copy of disk {disk_id} does not carry its marker")
        number = last.number + 1 if last else 1
        return Facts(number=number, begun=begun, taken=datetime.now(UTC), used_bytes=used)

    def _facts(self, disk_id: str, snapshot_id: str) -> Facts:
        try:
            return msgspec.json.decode(self._facts_path(disk_id, snapshot_id).read_bytes(), type=Facts)
        except (FileNotFoundError, msgspec.MsgspecError):
            # Without its facts it is whole all the same, and older than all that have theirs.
            at = datetime.fromtimestamp((self._root / disk_id / snapshot_id).stat().st_mtime, UTC)
            return Facts(number=0, begun=datetime.fromtimestamp(0, UTC), taken=at, used_bytes=0)

    def _facts_path(self, disk_id: str, snapshot_id: str) -> Path:
        return self._root / disk_id / f".{snapshot_id}.facts"
