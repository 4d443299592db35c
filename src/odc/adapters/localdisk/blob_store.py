"""Blobs as files."""

from __future__ import annotations

from pathlib import Path

from odc.adapters.localdisk.errors import storage_errors
from odc.host import sync_folder, write_atomically
from odc.ports.blob_store import check_key


class FileBlobStore:
    """See `odc.ports.blob_store`. One file for each key, replaced whole; only this user may read it."""

    def __init__(self, root: Path) -> None:
        """Take the folder; it is made with the first blob."""
        self._root = root

    def put(self, key: str, content: bytes) -> None:
        """Store the bytes."""
        path = self._path(key)
        with storage_errors(f"{key} cannot be stored"):
            self._make_folder(path.parent)
            write_atomically(path, content, durable=True)

    def find(self, key: str) -> bytes | None:
        """The bytes, or None."""
        path = self._path(key)
        with storage_errors(f"{key} cannot be read"):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

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
