"""The host ids of boxes: whether each box has a range of its own, and who else has ids of the cloud's ranges."""

from __future__ import annotations

import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from odc.adapters.engine.layer_sharing import layers_folder, why_layers_are_copied
from odc.adapters.localdisk.idmapped import has_idmapped_mounts
from odc.adapters.system.accounts import SUBORDINATE, lent_ranges
from odc.domain.host_ids import LARGEST_ID, IdRanges
from odc.operator.host_claims import FOLDER, other_claims
from odc.operator.settings import Settings


def why_shared(settings: Settings, engine: Mapping[str, Any], has_disks: bool, release: str | None = None) -> str:
    """Return why all boxes of this cloud share one range of ids; empty if each has its own.

    Args:
        settings: of the cloud.
        engine: what Podman's `info` says.
        has_disks: whether the disk storage is mounted; otherwise it is not checked.
        release: of the kernel; None: of this one.
    """
    ranges = settings.id_ranges
    if not ranges.fit:
        return f"above box_id_base = {ranges.base} there are too few ids for {ranges.count} ports"
    why = why_layers_are_copied(engine, release)
    if why:
        return why
    folders = [layers_folder(engine), *([settings.disks_folder] if has_disks else [])]
    try:
        missing = [str(folder) for folder in folders if not has_idmapped_mounts(folder)]
    except OSError as error:
        return f"the kernel gives no user namespace: {error.strerror}"
    return f"the file system of {missing[0]} has no idmapped mounts" if missing else ""


def foreign_ids(settings: Settings, clouds: Path = FOLDER, lent: Path = SUBORDINATE) -> Iterator[str]:
    """Return the other users of ids in the cloud's ranges: the kernel counts them together with boxes.

    Args:
        settings: of the cloud.
        clouds: the folder with the claims of the machine's clouds.
        lent: the machine's file of subordinate ids.
    """
    ours = settings.id_ranges
    for claim in other_claims(settings, clouds):
        first, last = claim.ids
        if _overlap(ours, first, last):
            yield f"boxes of the cloud {claim.cloud!r} ({first} to {last})"
    for login, first, count in lent_ranges(lent):
        if _overlap(ours, first, first + count - 1):
            yield f"subordinate ids of {login} ({first} to {first + count - 1}, {lent})"
    for user in pwd.getpwall():
        if _overlap(ours, user.pw_uid, user.pw_uid):
            yield f"the login {user.pw_name} ({user.pw_uid})"


def _overlap(ours: IdRanges, first: int, last: int) -> bool:
    return first <= min(ours.last, LARGEST_ID) and ours.base <= last
