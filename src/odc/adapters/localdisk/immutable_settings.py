"""Settings that must not change while files of the cloud depend on them.

| setting | what depends on it |
|---|---|
| `box_id_base` | the owners of all files in homes; the ids of boxes |
| `disks` | where the volumes of all recorded disks are |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from odc.adapters.localdisk.btrfs_file import file_of
from odc.adapters.localdisk.disk_marker import MARKER
from odc.adapters.localdisk.select_storage import INSIDE, outer_id_file
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest
from odc.domain.host_ids import ID_COUNT

DEV = 1000


def check_disks_folder(old: Path, new: Path) -> None:
    """Refuse a folder for the disks other than the current one. A folder that was moved with its disks is accepted.

    Args:
        old: the disks' folder of the last start.
        new: the one of the settings.

    Raises:
        InvalidRequest: with the possible commands. Nothing was changed.
    """
    old, new = old.resolve(), new.resolve()
    has = _id_of(old)
    if old == new or not has or has == _id_of(new) or not _may_have_disks(old):
        return
    raise InvalidRequest(
        f"the disks of this cloud are in {old}, and {new} is another storage",
        ("keep them there", odc(f"up --disks {old}")),
        ("move them", odc(f"down --all; then: mv {old} {new}; or {file_of(old)} and {outer_id_file(old)} with it")),
        ("if they are lost for good", f"rm {outer_id_file(old)}"),
    )


def _id_of(folder: Path) -> str:
    """The id of the disk storage that is or was mounted there; empty if none was."""
    for path in (outer_id_file(folder), folder / INSIDE):
        try:
            return path.read_text(errors="replace").strip()
        except OSError:
            continue
    return ""


def _may_have_disks(folder: Path) -> bool:
    """Whether there are volumes. A btrfs file that is not mounted may have some."""
    volumes = folder / "volumes"
    if volumes.is_dir():
        return any(volumes.iterdir())
    return file_of(folder).exists()


def check_ids(wanted: int, disks: Path) -> None:
    """Refuse an id range other than that of the files in homes. The disks must be mounted.

    Args:
        wanted: the first id of the range.
        disks: the disks' folder.

    Cost: reads one folder of each disk.

    Raises:
        InvalidRequest: with the setting that fits. Nothing was changed.
    """
    wrong = [(what, base) for what, base in _bases(wanted, disks) if base != wanted]
    if wrong:
        raise _does_not_fit(wanted, wrong)


def check_box_ids(old: int, new: int, boxes: Path) -> None:
    """Refuse another first id while there are boxes: their ids follow from that of the last start.

    Args:
        old: the first id of the last start.
        new: the one of the settings.
        boxes: the folder of the boxes' own files.

    Raises:
        InvalidRequest: with the setting that fits. Nothing was changed.
    """
    found = [(f"box {folder.name}", old) for folder in sorted(boxes.glob("*-*-*"))]
    if found and old != new:
        raise _does_not_fit(new, found)


def _does_not_fit(wanted: int, wrong: Sequence[tuple[str, int]]) -> InvalidRequest:
    """Return the error that names the disks or boxes in another id range, with the base that keeps their ids."""
    base = wrong[0][1]
    shown = ", ".join(what for what, _ in wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return InvalidRequest(
        f"box_id_base = {wanted} does not fit {shown}: no box could use their files, which belong to ids from {base}",
        ("keep the ids", f"box_id_base = {base} in the settings"),
    )


def _bases(wanted: int, disks: Path) -> Iterator[tuple[str, int]]:
    """Each home, and the id range that its owner is in; one in the wanted range has the wanted base."""
    for home in sorted(disks.glob("volumes/*/home")):
        owner = home.lstat().st_uid
        yield f"disk {home.parent.name}", wanted if 0 <= owner - wanted < ID_COUNT else _base_of(home, owner)


def _base_of(home: Path, owner: int) -> int:
    """The base for a home: the owner of its marker is the box's root, unless the user has replaced the marker."""
    try:
        marker = (home / MARKER).lstat().st_uid
    except OSError:
        marker = owner - DEV
    return marker if marker == owner - DEV else owner - DEV
