"""Disks in memory: names and sizes of files, with every rule of the real ones."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.fault_injection import FaultInjector
from odc.domain.disk import Snapshot, VolumeLabel
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.domain.file_listing import FileEntry, encode_listing
from odc.domain.storage import DiskUse, StorageUse
from odc.ports.blob_store import BlobStore
from odc.ports.clock import Clock
from odc.ports.volumes import Attachment, Source, Volume


@dataclass(slots=True)
class _Volume:
    """One volume; `vouched`: it is the one that was made for its disk, regardless of its marker."""

    size_bytes: int
    marker: str
    vouched: bool = True
    label: VolumeLabel | None = None
    holder: str | None = None
    id_base: int = 0
    user: str | None = None
    zone: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)


class MemoryVolumes:
    """See `odc.ports.volumes`. A snapshot is verified when it is made.

    `faults` makes any method fail, `delay` makes it take several calls, and with `lists_lag` the list of attached
    volumes is as old as the call before.
    """

    def __init__(self, clock: Clock | None = None, blobs: BlobStore | None = None) -> None:
        """Make an empty storage.

        Args:
            clock: says when snapshots are taken; None: the machine's.
            blobs: where listings are written; None: a store that nobody else reads.
        """
        self.faults = FaultInjector()
        self.lists_lag = False
        self.zones: dict[str, str] = {}
        self._delays: dict[str, int] = {}
        self._listed: dict[str, str] = {}
        self.capacity_bytes = 2**50
        self._clock = clock
        self._blobs = blobs or MemoryBlobStore()
        self._writes = 0
        self._lock = threading.RLock()
        self._volumes: dict[str, _Volume] = {}
        self._snapshots: dict[str, dict[str, tuple[Snapshot, tuple[FileEntry, ...]]]] = {}

    def describe(self) -> str:
        """Describe the storage."""
        return "memory"

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder."""
        with self.faults.around("list_attached"), self._lock:
            before = self._listed
            self._listed = {disk_id: volume.holder for disk_id, volume in self._volumes.items() if volume.holder}
            return dict(before if self.lists_lag else self._listed)

    def create(self, disk_id: str, size_bytes: int, node: str, source: Source | None = None) -> Volume | None:
        """Make the volume, if it is not there, in the node's zone, as `zones` says."""
        with self.faults.around("create"), self._lock:
            if self._is_delayed("create"):
                return None
            new = disk_id not in self._volumes
            if new:
                files = {} if source is None else self._files_of(source.disk_id, source.snapshot_id)
                zone = self.zones.get(node, "")
                self._volumes[disk_id] = _Volume(size_bytes, marker=disk_id, zone=zone, files=dict(files))
            return Volume(is_new=new, zone=self._volumes[disk_id].zone)

    def label(self, label: VolumeLabel) -> None:
        """Write whose it is."""
        with self.faults.around("label"), self._lock:
            if label.disk_id in self._volumes:
                self._volumes[label.disk_id].label = label

    def list_labels(self) -> tuple[VolumeLabel, ...]:
        """Return the label of each volume."""
        with self.faults.around("list_labels"), self._lock:
            found = sorted(self._volumes.items())
            return tuple(volume.label or VolumeLabel(disk_id=disk_id) for disk_id, volume in found)

    def attach(self, disk_id: str, holder: str, node: str, id_base: int = 0) -> Attachment | None:
        """Give it to the holder."""
        with self.faults.around("attach"), self._lock:
            volume = self._get(disk_id)
            self._check_marker(disk_id, volume)
            if volume.holder not in (None, holder):
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {volume.holder}")
            if volume.holder and volume.user and volume.id_base != id_base:
                raise ProviderUnavailable(f"disk {disk_id} is still used by {volume.user}")
            if self.zones.get(node, "") != volume.zone:
                raise ProviderRefused(f"disk {disk_id} is in zone {volume.zone}, and node {node} is not")
            if self._is_delayed("attach"):
                return None
            volume.holder, volume.id_base = holder, id_base
        return Attachment(handle=f"/memory/mounts/{holder}")

    def detach(self, disk_id: str, holder: str) -> bool:
        """Take it from the holder."""
        with self.faults.around("detach"), self._lock:
            volume = self._volumes.get(disk_id)
            if volume is None or volume.holder != holder:
                return True
            if volume.user is not None:
                raise ProviderUnavailable(f"disk {disk_id} is still used by {volume.user}")
            if self._is_delayed("detach"):
                return False
            volume.holder = None
        return True

    def snapshot(self, disk_id: str, snapshot_id: str, in_use: bool = False) -> Snapshot | None:
        """Copy it."""
        with self.faults.around("snapshot"), self._lock:
            taken = self._snapshots.get(disk_id, {})
            if snapshot_id in taken:
                return taken[snapshot_id][0]
            volume = self._get(disk_id)
            if volume.holder is not None and not in_use:
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {volume.holder}")
            self._check_marker(disk_id, volume)
            if self._is_delayed("snapshot"):
                return None
            now = self._clock.now() if self._clock else datetime.now(UTC)
            made = Snapshot(
                id=snapshot_id,
                taken_at=now,
                verified_at=now,
                used_bytes=sum(entry.size for entry in volume.files.values()),
                crash_consistent=volume.holder is not None,
            )
            self._snapshots.setdefault(disk_id, {})[snapshot_id] = (made, tuple(volume.files.values()))
            return made

    def write_listing(self, disk_id: str, snapshot_id: str, key: str) -> bool:
        """Write the listing of a snapshot's files to the blob store, unless it is there."""
        with self.faults.around("write_listing"):
            files = self.snapshot_files(disk_id, snapshot_id)
            with self._lock:
                if self._is_delayed("write_listing"):
                    return False
            if not self._blobs.exists(key):
                self._blobs.put(key, encode_listing(files))
        return True

    def list_snapshots(self, disk_id: str) -> tuple[Snapshot, ...]:
        """The snapshots, oldest first."""
        with self.faults.around("list_snapshots"), self._lock:
            return tuple(made for made, _ in self._snapshots.get(disk_id, {}).values())

    def set_limit(self, disk_id: str, size_bytes: int) -> None:
        """Set its size limit."""
        with self.faults.around("set_limit"), self._lock:
            self._get(disk_id).size_bytes = size_bytes

    def delete(self, disk_id: str) -> bool:
        """Delete the volume; its snapshots stay."""
        with self.faults.around("delete"), self._lock:
            volume = self._volumes.get(disk_id)
            if volume is None:
                return True
            if volume.holder is not None:
                raise ProviderUnavailable(f"disk {disk_id} is still attached to {volume.holder}")
            self._check_marker(disk_id, volume)
            if self._is_delayed("delete"):
                return False
            del self._volumes[disk_id]
        return True

    def delete_snapshot(self, disk_id: str, snapshot_id: str, keep_last: bool = True) -> bool:
        """Delete it, unless it is the last one."""
        with self.faults.around("delete_snapshot"), self._lock:
            taken = self._snapshots.get(disk_id, {})
            if snapshot_id not in taken:
                return True
            if keep_last and list(taken)[-1] == snapshot_id:
                raise ProviderRefused(f"snapshot {snapshot_id} is the last one of disk {disk_id}")
            if self._is_delayed("delete_snapshot"):
                return False
            del taken[snapshot_id]
        return True

    def measure(self) -> StorageUse:
        """Return the usage of each disk; a snapshot's file counts unless a later snapshot, or the volume, has the
        same.
        """
        with self.faults.around("measure"), self._lock:
            disks = {disk_id: self._use_of(disk_id) for disk_id in self._volumes}
            used = sum(use.total_bytes or 0 for use in disks.values())
            return StorageUse(
                total_bytes=self.capacity_bytes, free_bytes=max(self.capacity_bytes - used, 0), disks=disks
            )

    def _use_of(self, disk_id: str) -> DiskUse:
        sets = {key: set(files) for key, (_, files) in self._snapshots.get(disk_id, {}).items()}
        live = set(self._volumes[disk_id].files.values())
        alone = {
            key: sum(entry.size for entry in files - live.union(*(other for k, other in sets.items() if k != key)))
            for key, files in sets.items()
        }
        return DiskUse(
            live_bytes=sum(entry.size for entry in live),
            total_bytes=sum(entry.size for entry in live.union(*sets.values())),
            limit_bytes=self._volumes[disk_id].size_bytes,
            snapshots=alone,
        )

    def write(self, disk_id: str, path: str, size: int = 1, kind: str = "f") -> None:
        """Act as a box: write a file into the home, replacing an existing one."""
        with self._lock:
            volume = self._get(disk_id)
            self._writes += 1
            volume.files[path] = FileEntry(path=path, kind=kind, size=size, mtime=self._writes)

    def files(self, disk_id: str) -> dict[str, int]:
        """Return the current contents of the home: path to size."""
        with self._lock:
            return {path: entry.size for path, entry in self._get(disk_id).files.items()}

    def snapshot_files(self, disk_id: str, snapshot_id: str) -> tuple[FileEntry, ...]:
        """Return the files of a snapshot, by path.

        Raises:
            ProviderRefused: there is no such snapshot.
        """
        with self._lock:
            entries = self._files_of(disk_id, snapshot_id).values()
            return tuple(sorted(entries, key=lambda entry: entry.path.split("/")))

    def delay(self, method: str, calls: int = 1) -> None:
        """Let the work of a method take so many more calls, each of which says *not yet*."""
        with self._lock:
            self._delays[method] = self._delays.get(method, 0) + calls

    def id_base(self, disk_id: str) -> int:
        """The range in which the volume's owners are seen now; 0: the stored one."""
        with self._lock:
            return self._get(disk_id).id_base

    def keep_busy(self, disk_id: str, user: str | None) -> None:
        """Let something use the mount, so that it cannot be detached; None ends that."""
        with self._lock:
            self._get(disk_id).user = user

    def mark(self, disk_id: str, marker: str) -> None:
        """Act as a box's user: change the marker; empty removes it."""
        with self._lock:
            self._get(disk_id).marker = marker

    def exchange(self, disk_id: str, marker: str) -> None:
        """Put a stranger's folder in the volume's place, as an operator's mistake does."""
        with self._lock:
            self._volumes[disk_id] = _Volume(self._get(disk_id).size_bytes, marker=marker, vouched=False)

    def lose(self, disk_id: str) -> None:
        """Let the volume be gone, as when its file system is not mounted."""
        with self._lock:
            self._volumes.pop(disk_id, None)

    def forget_snapshot(self, disk_id: str, snapshot_id: str) -> None:
        """Let a snapshot be gone, as when somebody deletes it by hand."""
        with self._lock:
            del self._snapshots[disk_id][snapshot_id]

    def reboot(self) -> None:
        """Forget every mount."""
        with self._lock:
            for volume in self._volumes.values():
                volume.holder = volume.user = None

    def _is_delayed(self, method: str) -> bool:
        self._delays[method] = self._delays.get(method, 0) - 1
        if self._delays[method] < 0:
            del self._delays[method]
            return False
        return True

    def _files_of(self, disk_id: str, snapshot_id: str) -> dict[str, FileEntry]:
        if snapshot_id not in self._snapshots.get(disk_id, {}):
            raise ProviderRefused(f"disk {disk_id} has no snapshot {snapshot_id}")
        return {entry.path: entry for entry in self._snapshots[disk_id][snapshot_id][1]}

    def _get(self, disk_id: str) -> _Volume:
        volume = self._volumes.get(disk_id)
        if volume is None:
            raise ProviderRefused(f"the volume of disk {disk_id} does not exist")
        return volume

    def _check_marker(self, disk_id: str, volume: _Volume) -> None:
        if volume.marker != disk_id and not volume.vouched:
            raise ProviderRefused(f"the volume of disk {disk_id} lacks its marker and has another identity")
        volume.marker = disk_id
