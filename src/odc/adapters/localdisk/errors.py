"""Failures of the disk storage as error classes: the only module with messages of btrfs-progs and umount.

    ProviderError
    ├── ProviderUnavailable
    │   ├── StorageFull       no space, or a quota is used up
    │   ├── StorageReadOnly   the file system stopped writing after an error, or is mounted read-only
    │   ├── InUse             a program uses the mount or file to be removed
    │   ├── QuotasOff         the file system's quotas were turned off
    │   └── GroupsChanged     quota groups were made or deleted while they were read
    └── ProviderRefused       a program is not installed

Programs run in the C locale, so that their messages match the table.

Source: btrfs-progs 6.2 (`cmds/qgroup.c`), util-linux 2.38 (`sys-utils/umount.c`), errno(3).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from odc.domain.commands import odc
from odc.domain.errors import ProviderUnavailable


class StorageFull(ProviderUnavailable):
    """The disk storage, or the quota of the written files, is full."""


class StorageReadOnly(ProviderUnavailable):
    """The disk storage does not accept writes."""


class InUse(ProviderUnavailable):
    """A process uses it; it stays as it is."""


class QuotasOff(ProviderUnavailable):
    """The file system counts nothing, and limits nothing."""


class GroupsChanged(ProviderUnavailable):
    """Quota groups were made or deleted while they were read; reading them again at once succeeds."""


BY_ERRNO: dict[int, type[ProviderUnavailable]] = {
    errno.ENOSPC: StorageFull,
    errno.EDQUOT: StorageFull,
    errno.EROFS: StorageReadOnly,
    errno.EBUSY: InUse,
}
BY_WORDS: tuple[tuple[type[ProviderUnavailable], tuple[str, ...]], ...] = (
    (StorageFull, (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))),
    (StorageReadOnly, (os.strerror(errno.EROFS),)),
    (InUse, (os.strerror(errno.EBUSY), "target is busy")),
    (QuotasOff, ("quotas not enabled",)),
    (GroupsChanged, ("cannot find the qgroup",)),
)
"""Class to messages of programs on stderr. The first match wins."""

_MEANING = {StorageFull: "the disk storage is full", StorageReadOnly: "the disk storage is read-only"}
_HINT = ("find the cause", odc("doctor"))


def error_of_program(program: str, printed: str) -> ProviderUnavailable:
    """The error for a program that failed.

    Args:
        program: its name.
        printed: on stderr.
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()] or ["no reason given"]
    kind = next((kind for kind, signs in BY_WORDS if any(sign in printed for sign in signs)), ProviderUnavailable)
    if kind in _MEANING:
        return kind(f"{program} failed: {_MEANING[kind]} ({lines[0]})", _HINT)
    return kind(f"{program} failed: {lines[0]}")


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise the class of `BY_ERRNO`, else `ProviderUnavailable`, for an OSError; `what` begins the message."""
    try:
        yield
    except OSError as error:
        kind = BY_ERRNO.get(error.errno or 0, ProviderUnavailable)
        if kind in _MEANING:
            raise kind(f"{what}: {_MEANING[kind]}", _HINT) from error
        raise kind(f"{what}: {error.strerror or error}") from error
