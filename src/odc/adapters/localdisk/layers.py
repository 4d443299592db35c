"""The writable layers of boxes on the disk storage, each with a size limit.

A box writes outside its home into its container's writable layer, and its root can write into the few files that the
engine mounts from its run directory (`/etc/hosts`, `/etc/resolv.conf`, `/run/.containerenv`). The engine keeps both on
the host's own file systems without any limit. So before a box starts, two subvolumes of the disk storage, each with a
quota, are mounted over its layer's directory and its run directory. The engine works in them as before, and unmounts
them when it deletes the container.

Layout below the disk storage:

    layers/<box>/layer            the layer's directory as the engine made it: `diff`, `work`, `link`, …
    layers/<box>/run              the run directory

Source: containers/storage, `drivers/overlay/overlay.go` (layout of a layer) and `pkg/system/rm.go` (EnsureRemoveAll).
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from odc.adapters.localdisk.backends import StorageBackend
from odc.adapters.localdisk.btrfs_ioctl import root_id
from odc.adapters.localdisk.errors import storage_errors
from odc.adapters.localdisk.mounts import bind, detach, find_mount, read_mounts, unmount_unused
from odc.adapters.localdisk.programs import run as run_program
from odc.adapters.localdisk.quota_groups import read_groups
from odc.domain.box import BoxName, attempts_named, is_up_to
from odc.domain.errors import ProviderError, ProviderRefused
from odc.domain.storage import gib_text
from odc.host import poll_until
from odc.ports.box_layers import LayerUse

log = logging.getLogger(__name__)

RUN_BYTES = 16 * 2**20
"""Limit of the run directory. The engine's own files there take a few kB."""
LARGEST_RUN_FILE = 64 * 2**10
START_BYTES = 16 * 2**20
"""Added to the limit of a full layer when its box starts again: the engine and sshd write a little there."""
MOST_EXTRA = 64 * START_BYTES
LARGEST_SHARE = 4
"""A layer gets at most this part (one fourth) of the whole storage, so that one box cannot fill it."""
MOUNT_LIMIT_S = 5.0
MEASURE_S = 10.0
MEASURE_LIMIT_S = 5.0
_LINK = "link"


class Layers:
    """Makes, mounts, measures and deletes the layers of one cloud. May be used by several threads at once."""

    def __init__(self, root: Path, backend: StorageBackend, limit_bytes: int) -> None:
        """Name the folder; it is made with the first layer.

        Args:
            root: a folder of the disk storage that only root may enter.
            backend: makes subvolumes with quotas.
            limit_bytes: of one layer; at most a fourth of the storage is given.
        """
        self._root = root
        self._backend = backend
        self._limit = limit_bytes
        self._measured: dict[str, LayerUse] = {}
        self._measured_at = -MEASURE_S

    @property
    def limit_bytes(self) -> int:
        """Return the bytes that one box may write now."""
        return min(self._limit, shutil.disk_usage(self._root.parent).total // LARGEST_SHARE)

    def prepare(self, name: BoxName) -> None:
        """Make the subvolumes of a box that is about to be created. Repeatable.

        Raises:
            ProviderUnavailable: the storage is full or read-only.
        """
        with storage_errors(f"the writable layer of box {name} cannot be made"):
            folder = self._root / str(name)
            folder.mkdir(parents=True, exist_ok=True)
            self._backend.make(folder / "layer", self.limit_bytes)
            self._backend.make(folder / "run", RUN_BYTES)

    def mount(self, name: BoxName, layer: Path, run: Path) -> None:
        """Mount the subvolumes for a container that does not run. Repeatable.

        A container that has already written to its layer, such as one made by an earlier version of ODC, keeps it.

        Args:
            name: which box; one for which `prepare` was not called has no limit.
            layer: the container's layer directory in the engine's storage.
            run: its run directory.

        Raises:
            ProviderUnavailable: it could not be mounted; the container must not start.
            ProviderRefused: it is full, and was given more too often.
        """
        folder = self._root / str(name)
        with storage_errors(f"the writable layer of box {name} cannot be mounted"):
            if not folder.exists():
                return
            mounted = {mount.target for mount in read_mounts()}
            if layer not in mounted and not self._fill(folder / "layer", layer):
                self._delete(folder)
                return
            self._make_room(name, folder / "layer")
            if not poll_until(partial(_mount_layer, folder / "layer", layer), MOUNT_LIMIT_S):
                raise OSError(errno.EBUSY, "the engine mounts and unmounts its storage folder", str(layer.parent))
            if not any((folder / "run").iterdir()):
                _copy(run, folder / "run")
            self._shorten_files(folder / "run")
            if run not in mounted:
                bind(folder / "run", run)

    def is_mounted(self, name: BoxName, layer: Path) -> bool:
        """Whether the box's layer is mounted at the engine's directory; True for a box without a layer of its own."""
        return not (self._root / str(name)).exists() or _is_shown(layer)

    def attempts(self) -> set[tuple[str, str]]:
        """Reservation and attempt of every layer that is there."""
        with storage_errors("the writable layers cannot be listed"):
            return attempts_named(path.name for path in self._root.glob("*-*-*"))

    def remove(self, reservation_id: str, attempt: int) -> None:
        """Delete the layers of the attempts up to this one; there may be none. Their containers are gone.

        Raises:
            ProviderUnavailable: some could not be deleted.
        """
        with storage_errors(f"the writable layers of reservation {reservation_id} cannot be deleted"):
            for folder in self._root.glob(f"{reservation_id}-*"):
                if is_up_to(folder.name, reservation_id, attempt):
                    self._delete(folder)

    def measure(self) -> dict[str, LayerUse]:
        """Return usage by name of the box, at most some seconds old. Layers that cannot be measured are left out.

        Cost: one command for all boxes, since a pass waits for it.
        """
        if time.monotonic() - self._measured_at > MEASURE_S:
            self._measured_at = time.monotonic()
            self._measured = self._read()
        return self._measured

    def _read(self) -> dict[str, LayerUse]:
        found: dict[str, LayerUse] = {}
        folders = list(self._root.glob("*-*-*"))
        with suppress(ProviderError):
            groups = read_groups(self._root, MEASURE_LIMIT_S) if folders else {}
            for folder in folders:
                with suppress(OSError, KeyError):  # deleted meanwhile
                    used = groups[f"0/{root_id(folder / 'layer')}"].referenced
                    found[folder.name] = LayerUse(used, self.limit_bytes)
        return found

    def _make_room(self, name: BoxName, kept: Path) -> None:
        """Give a full layer a little more, so that its box can start again and its user can log in and delete files."""
        limit = self.limit_bytes
        if not any((kept / "diff").iterdir()):
            return
        run_program("btrfs", "filesystem", "sync", str(kept))
        wanted = (self._backend.used_bytes(kept) or 0) + START_BYTES
        if wanted > limit + MOST_EXTRA:
            raise ProviderRefused(f"the writable layer of box {name} is full: {gib_text(limit)} outside the home")
        self._backend.make(kept, max(limit, wanted))

    def _shorten_files(self, run: Path) -> None:
        """Empty the files that the box made large: the engine needs room to write its own when it starts the box again.

        With a full quota even that needs space, and freed space counts only after the next commit of the file system.
        """
        plain = [path for path in run.iterdir() if path.is_file() and not path.is_symlink()]
        large = [path for path in plain if path.stat().st_size > LARGEST_RUN_FILE]
        if large:
            self._backend.make(run, 2 * RUN_BYTES)
            for path in large:
                os.truncate(path, 0)
            run_program("btrfs", "filesystem", "sync", str(run))
            self._backend.make(run, RUN_BYTES)

    def _fill(self, kept: Path, layer: Path) -> bool:
        """Give the subvolume the layer's own (empty) content; False if the container has used its own layer already."""
        link = (layer / _LINK).read_bytes()
        if (kept / _LINK).exists() and (kept / _LINK).read_bytes() == link:
            return True
        if any((layer / "diff").iterdir()):
            return False
        if any(kept.iterdir()):
            # Half-filled, or of a container that somebody removed: this one begins with an empty layer.
            self._backend.delete(kept)
            self._backend.make(kept, self.limit_bytes)
        _copy(layer, kept)
        return True

    def _delete(self, folder: Path) -> None:
        for mount in reversed(read_mounts()):
            if mount.source.parent.name == folder.name and mount.source.name in ("layer", "run"):
                _detach_if_visible(mount.target)
        for name in ("layer", "run"):
            self._backend.delete(folder / name)
        folder.rmdir()


def _mount_layer(kept: Path, layer: Path) -> bool:
    """Mount the layer in the mount of the engine's storage folder; False if that has changed meanwhile: try again.

    Each engine command mounts its storage folder on itself when it starts, unless it is mounted. While no container
    runs, it takes that away again when it ends, with what is mounted in it. A mount that was made in between is hidden
    by the next one: the engine could not delete the container, and every command would wait for that.
    """
    if find_mount(layer.parent) is None:
        bind(layer.parent, layer.parent)
    if find_mount(layer) is None:
        bind(kept, layer)
    if _is_shown(layer):
        return True
    # Only without other boxes' layers in it can the engine's mount be a later one than ours.
    with suppress(OSError):
        unmount_unused(layer.parent)
    with suppress(OSError):
        detach(layer)
    return False


def _is_shown(layer: Path) -> bool:
    """Whether something is mounted at the layer's directory, in the mount of the engine's storage folder."""
    engines, ours = find_mount(layer.parent), find_mount(layer)
    return engines is not None and ours is not None and ours.parent == engines.number


def _detach_if_visible(target: Path) -> None:
    """Unmount; a mount that a later one hides cannot be named by any path, and stays until that one is unmounted.

    The subvolume is deleted all the same: otherwise each clean-up would fail and be repeated forever.
    """
    try:
        detach(target)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        text = "a box's storage stays mounted below another mount; its space is freed when that is unmounted"
        log.warning(text, extra={"mount": str(target)})


def _copy(source: Path, target: Path) -> None:
    """Copy a small tree with owners and modes. The link file is last: half a copy is not taken for a whole one."""
    for path in sorted(source.iterdir(), key=lambda path: path.name == _LINK):
        if path.is_dir() and not path.is_symlink():
            (target / path.name).mkdir()
            _copy(path, target / path.name)
        elif path.is_file() or path.is_symlink():
            shutil.copy2(path, target / path.name, follow_symlinks=False)
    facts = source.stat()
    os.chown(target, facts.st_uid, facts.st_gid)
    target.chmod(facts.st_mode & 0o7777)
