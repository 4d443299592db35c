"""What btrfs-progs, umount and the kernel say, and the error classes that it is mapped to."""

from __future__ import annotations

import errno
import os

import pytest

from odc.adapters.localdisk import errors
from odc.adapters.localdisk.errors import BY_ERRNO, BY_WORDS, error_of_program, storage_errors
from odc.domain.errors import ProviderError, ProviderUnavailable

PRINTED: tuple[tuple[str, str, type[ProviderUnavailable]], ...] = (
    ("btrfs", "ERROR: cannot snapshot '/disks/a': No space left on device", errors.StorageFull),
    ("rsync", 'rsync: write failed on "/disks/a": Disk quota exceeded (122)', errors.StorageFull),
    ("btrfs", "ERROR: cannot create subvolume: Read-only file system", errors.StorageReadOnly),
    ("umount", "umount: /disks: target is busy.", errors.InUse),
    ("btrfs", "ERROR: Could not destroy subvolume/snapshot: Device or resource busy", errors.InUse),
    ("btrfs", "ERROR: can't list qgroups: quotas not enabled", errors.QuotasOff),
    ("btrfs", "ERROR: cannot find the qgroup 0/275", errors.GroupsChanged),
    ("umount", "umount: /disks: not mounted.", ProviderUnavailable),
    ("btrfs", "", ProviderUnavailable),
)


@pytest.mark.parametrize(("program", "printed", "kind"), PRINTED)
def test_what_a_program_prints_has_its_class(program: str, printed: str, kind: type[ProviderUnavailable]) -> None:
    error = error_of_program(program, f"\n{printed}\n")
    assert type(error) is kind
    assert error.message.startswith(f"{program} failed: ")
    assert (printed or "no reason given") in error.message


def test_every_class_and_every_word_of_the_table_has_a_printed_line() -> None:
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__}
    assert {kind for kind in own if issubclass(kind, ProviderError)} <= {kind for _, _, kind in PRINTED}
    lines = [printed for _, printed, _ in PRINTED]
    assert [sign for _, signs in BY_WORDS for sign in signs if not any(sign in line for line in lines)] == []


@pytest.mark.parametrize("number", [*BY_ERRNO, errno.EIO])
def test_an_error_of_the_kernel_has_its_class(number: int) -> None:
    with pytest.raises(ProviderUnavailable) as raised, storage_errors("disk d cannot be made"):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is BY_ERRNO.get(number, ProviderUnavailable)
    assert raised.value.message.startswith("disk d cannot be made: ")
