"""The part of the boxes' system call filter that keeps btrfs's own commands from boxes: pure.

A subvolume that a user makes in a home has a quota group of its own, so it escapes the disk's limit, and it is missing
in snapshots. btrfs lets every owner of a folder make one, without any right, by `ioctl`. The filter compares the
command number of `ioctl`, whose second byte names who defines it: of those of btrfs only sharing data between files
(`cp --reflink`) is allowed.
"""

from __future__ import annotations

import errno
from typing import Any

_BTRFS = 0x94
_TYPE_BITS = range(8, 16)
_WHOLE = 0xFFFFFFFF
SHARING = (0x40049409, 0x4020940D, 0xC0189436)
"""FICLONE, FICLONERANGE, FIDEDUPERANGE. Source: linux/fs.h."""
SUBVOLUMES = (0x5000940E, 0x50009418, 0x50009401, 0x50009417)
"""BTRFS_IOC_SUBVOL_CREATE, SUBVOL_CREATE_V2, SNAP_CREATE, SNAP_CREATE_V2. Source: linux/btrfs.h."""


def ioctl_rules() -> list[dict[str, Any]]:
    """All that is allowed of `ioctl`; the profile must not allow it elsewhere.

    Rule: conditions of one rule must all hold, and one of several rules is enough. So "not btrfs" is one rule for each
    bit of the second byte, which must differ from btrfs's.
    """
    allowed = [_where(1 << bit, (~_BTRFS << 8) & (1 << bit)) for bit in _TYPE_BITS]
    allowed += [_where(_WHOLE, number) for number in SHARING]
    rules = [{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [argument]} for argument in allowed]
    refused = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM, "errno": "EPERM"}
    return rules + [{"names": ["ioctl"], "args": [_where(_WHOLE, number)], **refused} for number in SUBVOLUMES]


def _where(mask: int, value: int) -> dict[str, Any]:
    """The command number, masked, is this."""
    return {"index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
