"""Disks on the machine's own storage.

Layout below a folder that only root may enter; the names never come from users:

    volumes/<disk id>/id        the disk's id: written last, so a volume without it is half-made
    volumes/<disk id>/home      what boxes see as /home/dev, with the marker `.odc-disk`
    snapshots/<disk id>/<id>    read-only copies
    mounts/<holder>             the volume while a reservation holds it, `nosuid,nodev`

"Verified" is defined by the mechanism (`mechanisms.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from odc.adapters.localdisk.commands import run
from odc.adapters.localdisk.mechanisms import Btrfs, Folders, Mechanism, is_btrfs, mount_btrfs_file
from odc.domain.disk import Snapshot
from odc.domain.errors import ProviderError, ProviderRefused, ProviderUnavailable
from odc.ports.volumes import FileEntry

MARKER = ".odc-disk"


class LocalVolumes:
    """See `odc.ports.volumes`."""

    def __init__(self, root: Path, mechanism: Mechanism, id_base: int, dev: int = 1000) -> None:
        """Take the folder.

        Args:
            root: only root may enter it.
            mechanism: how volumes are made and copied.
            id_base: host uid of a box's root.
            dev: uid of the user in the box.
        """
        self._root = root
        self._mechanism = mechanism
        self._box_root = id_base
        self._owner = id_base + dev
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        for name in ("volumes", "snapshots", "mounts"):
            (root / name).mkdir(exist_ok=True)

    def describe(self) -> str:
        """What the storage is, in a few words."""
        return f"{self._mechanism.name} ({_size(shutil.disk_usage(self._root).free)} free)"

    def list_attached(self) -> dict[str, str]:
        """Disk id to holder, read from the kernel's table of mounts."""
        attached = {}
        for target, source in self._mounts():
            if target.parent == self._root / "mounts":
                attached[source.parent.name] = target.name
        return attached

    def create(self, disk_id: str, size_bytes: int) -> bool:
        """Make the disk's volume with its marker."""
        folder = self._root / "volumes" / disk_id
        if (folder / "id").exists():
            return False
        folder.mkdir(exist_ok=True)
        self._mechanism.make(folder / "home", size_bytes)
        os.chown(folder / "home", self._owner, self._owner)
        (folder / "home").chmod(0o755)
        self._write_marker(disk_id)
        fresh = folder / "id.new"
        fresh.write_text(disk_id + "\n")
        fresh.rename(folder / "id")
        return True

    def attach(self, disk_id: str, holder: str) -> str:
        """Mount the volume for this holder."""
        home = self._home(disk_id)
        self._check_marker(disk_id)
        other = self.list_attached().get(disk_id)
        if other not in (None, holder):
            raise ProviderUnavailable(f"disk {disk_id} is still attached to {other}")
        target = self._root / "mounts" / holder
        if other is None:
            target.mkdir(exist_ok=True)
            run("mount", "-o", "bind,nosuid,nodev", str(home), str(target))
            run("mount", "--make-private", str(target))
        return str(target)

    def detach(self, disk_id: str, holder: str) -> None:
        """Unmount the volume of this holder."""
        target = self._root / "mounts" / holder
        if self.list_attached().get(disk_id) == holder:
            run("umount", str(target))
        if target.exists() and not os.path.ismount(target):
            target.rmdir()

    def snapshot(self, disk_id: str, snapshot_id: str) -> Snapshot:
        """Copy the volume, verify the copy, and say what it holds."""
        folder = self._root / "snapshots" / disk_id
        folder.mkdir(exist_ok=True)
        target = folder / snapshot_id
        if not target.exists():
            self._home(disk_id)
            before = self.list_snapshots(disk_id)
            try:
                self._mechanism.copy(self._home(disk_id), target, folder / before[-1] if before else None)
            except ProviderError:
                # What is not verified must not look whole.
                self._mechanism.delete(target)
                raise
        if self._marker_of(target) != disk_id:
            raise ProviderRefused(f"snapshot {snapshot_id} is not of disk {disk_id}")
        now = datetime.now(UTC)
        return Snapshot(id=snapshot_id, taken_at=now, verified_at=now, used_bytes=self.used_bytes(disk_id) or 0)

    def list_files(self, disk_id: str, snapshot_id: str) -> Iterator[FileEntry]:
        """The files of a snapshot by path."""
        top = self._root / "snapshots" / disk_id / snapshot_id
        yield from _walk(top, "")

    def list_snapshots(self, disk_id: str) -> tuple[str, ...]:
        """Ids of the complete snapshots, oldest first."""
        folder = self._root / "snapshots" / disk_id
        if not folder.exists():
            return ()
        whole = [path for path in folder.iterdir() if not path.name.startswith(".")]
        return tuple(path.name for path in sorted(whole, key=lambda path: path.stat().st_ctime_ns))

    def used_bytes(self, disk_id: str) -> int | None:
        """What the volume's files take, if that is cheap to say."""
        return self._mechanism.used_bytes(self._home(disk_id))

    def close(self) -> None:
        """Unmount everything below the folder, and the folder itself if it is a mounted file. Deletes nothing."""
        for target, _ in reversed(self._mounts()):
            if target.is_relative_to(self._root):
                run("umount", str(target))

    def _home(self, disk_id: str) -> Path:
        folder = self._root / "volumes" / disk_id
        if not (folder / "id").exists():
            raise ProviderRefused(f"the volume of disk {disk_id} is not there", ("look closer", "odc doctor"))
        return folder / "home"

    def _check_marker(self, disk_id: str) -> None:
        """Refuse another disk's home. A marker that its user removed is written again: `id` beside it vouches."""
        found = self._marker_of(self._home(disk_id))
        if found is None:
            self._write_marker(disk_id)
        elif found != disk_id:
            raise ProviderRefused(f"the volume of disk {disk_id} carries the marker of {found[:40]}")

    def _marker_of(self, home: Path) -> str | None:
        """What the marker says. The home belongs to its user, so nothing in it is followed."""
        try:
            descriptor = os.open(home / MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ProviderRefused(f"the marker {MARKER} of the disk is not a plain file") from error
        with os.fdopen(descriptor, "rb") as file:
            return file.read(64).decode(errors="replace").strip()

    def _write_marker(self, disk_id: str) -> None:
        home = self._root / "volumes" / disk_id / "home"
        fresh = home / f"{MARKER}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, self._box_root, self._box_root)
            os.fchmod(descriptor, 0o444)
            file.write(disk_id.encode() + b"\n")
            os.fsync(descriptor)
        fresh.rename(home / MARKER)

    def _mounts(self) -> list[tuple[Path, Path]]:
        """Mount point and source folder of every mount below the root, in the order in which they were made."""
        found = []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            words = line.split()
            target = Path(_unescape(words[4]))
            if target.is_relative_to(self._root):
                found.append((target, Path(_unescape(words[3]))))
        return found


def _unescape(text: str) -> str:
    """The kernel writes blanks and such as three octal digits after a backslash."""
    return text.encode().decode("unicode_escape") if "\\" in text else text


def _walk(folder: Path, prefix: str) -> Iterator[FileEntry]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if not prefix and entry.name == MARKER:
            continue
        facts = entry.stat(follow_symlinks=False)
        path = prefix + entry.name.encode(errors="surrogateescape").decode(errors="replace")
        is_folder = entry.is_dir(follow_symlinks=False)
        kind = "d" if is_folder else "l" if entry.is_symlink() else "f" if entry.is_file() else "o"
        yield FileEntry(path=path, kind=kind, size=facts.st_size, mtime=int(facts.st_mtime))
        if is_folder:
            yield from _walk(Path(entry.path), f"{path}/")


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def open_volumes(folder: Path, file_bytes: int, id_base: int) -> LocalVolumes:
    """The best storage that the folder can give: its own btrfs, else a btrfs file mounted there, else plain folders.

    What was chosen once stays: a folder that holds disks is never covered by a mount.

    Raises:
        ProviderError: the file that holds the disks cannot be mounted; nothing was changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    file = folder.with_name(folder.name + ".btrfs")
    plain = (folder / "volumes").exists() and not os.path.ismount(folder)
    tools = shutil.which("mkfs.btrfs") is not None
    if not is_btrfs(folder) and (file.exists() or (tools and not plain)):
        mount_btrfs_file(file, folder, file_bytes)
    mechanism: Mechanism = Btrfs(folder) if is_btrfs(folder) else Folders()
    return LocalVolumes(folder, mechanism, id_base)
