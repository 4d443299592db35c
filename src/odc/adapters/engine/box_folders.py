"""The files that boxes read under `/run/odc`: one folder on the host for each box, plain files, each replaced
atomically.

Only root may enter the folders' parent, so that no user of the host reads another's keys there. In the box the files
belong to root, and the mount is read-only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from odc.domain.box import BoxName, attempts_named, is_up_to
from odc.domain.commands import odc
from odc.domain.errors import ProviderUnavailable
from odc.host import write_atomically

SECRETS = frozenset({"ssh_host_ed25519_key"})
"""Files that only the box's root reads."""


class BoxFolders:
    """The folders of one cloud's boxes."""

    def __init__(self, parent: Path) -> None:
        """Name the place; nothing is made yet.

        Args:
            parent: of all folders.
        """
        self._parent = parent

    def path(self, name: BoxName) -> Path:
        """The box's folder."""
        return self._parent / str(name)

    def make(self, name: BoxName, files: Mapping[str, bytes], owner: int) -> None:
        """Create the folder with these files, or write them to an existing one.

        Args:
            name: which box.
            files: path below the folder to content.
            owner: host uid and gid of the box's root.

        Raises:
            ProviderUnavailable: they could not be written, for example to a full host; some may be written.
        """
        with _host_errors(f"the files of box {name} could not be written"):
            self._parent.mkdir(parents=True, exist_ok=True)
            self._parent.chmod(0o700)
            self.path(name).mkdir(exist_ok=True)
            _own_folder(self.path(name), owner)
            _put(self.path(name), files, owner)

    def replace(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        """Put these files in the folder; others stay. Without the folder nothing happens.

        Raises:
            ProviderUnavailable: the host could not write them; each is the old one or the new one.
        """
        with _host_errors(f"the files of box {name} could not be written"):
            if self.path(name).is_dir():
                # The folder may go at any moment, when another thread cleans up: then nothing is to be written.
                with contextlib.suppress(FileNotFoundError):
                    _put(self.path(name), files, self.path(name).stat().st_uid)

    def attempts(self) -> set[tuple[str, str]]:
        """Return the reservation and attempt of every existing folder."""
        with _host_errors("the boxes' files could not be listed"):
            return attempts_named(path.name for path in self._parent.glob("*-*-*"))

    def remove(self, reservation_id: str, attempt: int) -> None:
        """Delete the folders of the attempts up to this one; there may be none.

        Raises:
            ProviderUnavailable: some could not be deleted.
        """
        with _host_errors(f"the files of reservation {reservation_id} could not be deleted"):
            for folder in self._parent.glob(f"{reservation_id}-*"):
                if is_up_to(folder.name, reservation_id, attempt):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.rmtree(folder)


def _put(folder: Path, files: Mapping[str, bytes], owner: int) -> None:
    for path in sorted(files):
        below = (folder / path).parent
        if below != folder and not below.is_dir():
            below.mkdir()
            _own_folder(below, owner)
        # Unchanged files keep their modification time, by which a box notices new settings.
        if not _holds(folder / path, files[path], owner):
            mode = 0o600 if path in SECRETS else 0o644
            write_atomically(folder / path, files[path], mode, owner=owner)


def _own_folder(folder: Path, owner: int) -> None:
    os.chown(folder, owner, owner)
    folder.chmod(0o755)


def _holds(path: Path, content: bytes, owner: int) -> bool:
    try:
        return path.stat().st_uid == owner and path.read_bytes() == content
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _host_errors(what: str) -> Iterator[None]:
    """Turn the host's errors into ODC's."""
    try:
        yield
    except OSError as error:
        raise ProviderUnavailable(f"{what}: {error.strerror or error}", ("look for space", odc("doctor"))) from error
