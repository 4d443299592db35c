"""Blobs as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from odc.adapters.localdisk.errors import storage_errors
from odc.host import remove_unfinished, sync_folder, write_atomically
from odc.ports.blob_store import PIECE_BYTES, check_key


class FileBlobStore:
    """See `odc.ports.blob_store`. One file for each key, replaced whole; only this user may read it."""

    def __init__(self, root: Path) -> None:
        """Take the folder; it is made with the first blob."""
        self._root = root

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store the bytes."""
        path = self._path(key)
        with storage_errors(f"{key} cannot be stored"):
            self._make_folder(path.parent)
            # A large blob takes a while to write, so that a killed process is likely to leave a part of it.
            remove_unfinished(path)
            write_atomically(path, pieces, durable=True)

    def exists(self, key: str) -> bool:
        """Whether there is a blob with this key."""
        path = self._path(key)
        with storage_errors(f"{key} cannot be looked up"):
            return path.is_file()

    def read(self, key: str) -> Iterator[bytes] | None:
        """The bytes in pieces, or None."""
        return _pieces(self._path(key), key) if self.exists(key) else None

    def delete(self, key: str) -> None:
        """Forget the bytes."""
        path = self._path(key)
        with storage_errors(f"{key} cannot be deleted"):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._root:
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
        else:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _pieces(path: Path, key: str) -> Iterator[bytes]:
    with storage_errors(f"{key} cannot be read"), path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
