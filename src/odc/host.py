"""Files, locks and processes of the host: the one implementation of each that the other packages use.

Light to import, since `gpu-dev` does so, and imports nothing of ODC.
"""

from __future__ import annotations

import fcntl
import glob
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

POLL_S = 0.02
Found = TypeVar("Found")


def write_atomically(
    path: Path,
    content: bytes | Iterable[bytes],
    mode: int = 0o600,
    *,
    owner: int | tuple[int, int] | None = None,
    durable: bool = False,
) -> None:
    """Replace a file: a reader, and a later start after a crash, sees the old content or the new one, whole.

    A link at the path is replaced, not followed. Several writers may write at once; the last one wins.

    Args:
        path: in a folder that exists.
        content: of the new file, whole or in pieces. An error that its iterator raises is passed on.
        mode: its permissions, independent of the umask.
        owner: its uid and gid, which are one number or two; None for this process's.
        durable: whether the new file outlives a power cut from the return on. Costs two disk flushes.

    Raises:
        OSError: the file is the old one, or absent as before.
    """
    # A name of its own: two writers never share an unfinished file.
    fresh = path.with_name(f"{_unfinished(path)}{os.getpid()}-{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(descriptor, *(owner if isinstance(owner, tuple) else (owner, owner)))
            os.fchmod(descriptor, mode)
            file.writelines((content,) if isinstance(content, bytes) else content)
            if durable:
                file.flush()
                os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def remove_unfinished(path: Path) -> None:
    """Delete the parts of this file that `write_atomically` left in processes that do not run any more.

    A process id that is in use again keeps its part until that process ends.
    """
    for part in path.parent.glob(f"{glob.escape(_unfinished(path))}*-*"):
        pid = part.name.removeprefix(_unfinished(path)).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            part.unlink(missing_ok=True)


def _unfinished(path: Path) -> str:
    """The beginning of the names of the file's unfinished versions; the writer's process id follows."""
    return f".{path.name}."


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, wait_s: float | None = None) -> Iterator[int]:
    """Hold the exclusive lock of a file or folder; the kernel frees it however the process ends.

    Args:
        path: a folder that exists, or a file, which is made if it does not exist, and stays.
        wait_s: how long to wait for another process; None: without a limit.

    Yields:
        The file's descriptor, open for reading and writing; of a folder, for nothing else.

    Raises:
        BlockingIOError: another process still holds it. Nothing was changed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        if wait_s is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not poll_until(lambda: _try_lock(descriptor, fcntl.LOCK_EX), wait_s):
            raise BlockingIOError(f"{path} is locked by another process")
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False for a file that does not exist.

    Cost: it takes a shared lock for a moment, so a process that takes the lock should wait a little.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def poll_until(check: Callable[[], Found], limit_s: float, pause_s: float = POLL_S) -> Found:
    """Call the check until it returns a true value or the time is over; it is called at least once.

    Returns:
        The last value: a false one if the time is over.
    """
    deadline = time.monotonic() + limit_s
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(pause_s)
    return found


@dataclass(frozen=True, slots=True)
class PidFile:
    """A file with the id of a process that may end, and whose id may then be another process's.

    Attributes:
        path: of the file.
        argument: one word of the process's command line that no other process has, such as the path of its socket.
    """

    path: Path
    argument: str

    def write(self, pid: int) -> None:
        """Write down the process."""
        write_atomically(self.path, str(pid).encode(), 0o644)

    def remove(self) -> None:
        """Delete the file, if it exists."""
        self.path.unlink(missing_ok=True)

    def running(self) -> int | None:
        """The process, if it runs and is the one that was written down; else None."""
        try:
            pid = int(self.path.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.argument) in words else None

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        pid = self.running()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
