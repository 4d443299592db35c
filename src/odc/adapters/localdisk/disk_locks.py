"""One lock for each disk, against other threads and other processes that work on the same storage.

The lock is that of the folder `volumes/<disk id>`, which needs no write to a file system that is full or read-only.
Programs that are started meanwhile have it too: when this process is killed in the middle of a copy, the next one waits
until the copying program has ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from odc.adapters.localdisk.background import Busy
from odc.adapters.localdisk.programs import inherited_locks
from odc.host import poll_until


@contextmanager
def disk_lock(folder: Path, wait_s: float) -> Iterator[None]:
    """Hold the disk's lock.

    Args:
        folder: of the disk's volume; made for the lock, and removed if it is empty afterwards.
        wait_s: how long to wait for another holder.

    Raises:
        Busy: another process or thread still has it.
        OSError: the folder cannot be made.
    """
    with ExitStack() as stack:
        descriptor = _acquire(stack, folder, wait_s)
        token = inherited_locks.set((*inherited_locks.get(), descriptor))
        try:
            yield
        finally:
            inherited_locks.reset(token)
            # Only an empty one: it was made for the lock, or its volume has just been deleted.
            with suppress(OSError):
                folder.rmdir()


def _acquire(stack: ExitStack, folder: Path, wait_s: float) -> int:
    """Lock the folder until the stack is closed; return its descriptor."""
    deadline = time.monotonic() + wait_s
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # An earlier holder has deleted it since it was made.
        stack.callback(os.close, descriptor)
        if not poll_until(partial(_try_lock, descriptor), deadline - time.monotonic()):
            raise Busy(folder.name)
        if _is_same(descriptor, folder):
            return descriptor
        stack.close()  # The lock of a folder that an earlier holder has deleted.


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
