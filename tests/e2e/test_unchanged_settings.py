"""Settings that the files of disks and boxes depend on: a change is refused with the way back, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import reserve

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


@contextmanager
def changed(cloud: Cloud, line: str) -> Iterator[None]:
    """The settings file with this line in the place of that with the same key, if there is one, for a while."""
    text = cloud.config.read_text()
    key = line.partition(" ")[0]
    others = [other for other in text.splitlines() if not other.startswith(f"{key} ")]
    cloud.config.write_text("\n".join([line, *others, ""]))
    try:
        yield
    finally:
        cloud.config.write_text(text)


def test_another_id_base_is_refused_while_disks_or_boxes_have_the_old_one(spare: Cloud, dora: Person) -> None:
    base = spare.settings["box_id_base"]
    reserve(dora, "work", disk="ids")
    with changed(spare, "box_id_base = 2000000000"):
        refused = spare.odc("up", check=False)
        assert (refused.code, refused.out) == (2, "It is up already.\n")
        assert f"box_id_base = {base} in the settings" in refused.err
        assert spare.is_ready()
    spare.odc("down")
    with changed(spare, "box_id_base = 2000000000"):
        refused = spare.odc("up", check=False)
        assert refused.code != 0
        assert "box_id_base = 2000000000 does not fit" in refused.err
        assert f"box_id_base = {base} in the settings" in refused.err
        assert not spare.is_ready()
    spare.odc("up")
    assert dora.in_box("work", "cat file").out == "work\n"
    dora.ok("cancel", "work", "--yes")
    dora.until("work", "cancelled")
    spare.odc("down", "--all", "--yes")
    with changed(spare, "box_id_base = 2000000000"):
        refused = spare.odc("up", check=False)
        assert f"box_id_base = {base} in the settings" in refused.err
    spare.odc("up")
    reserve(dora, "again", disk="ids")
    assert dora.in_box("again", "cat file").out == "again\n"


def test_another_folder_for_the_disks_is_refused_unless_they_were_moved_there(
    spare: Cloud, dora: Person, tmp_path: Path
) -> None:
    reserve(dora, "work", disk="moved")
    dora.ok("cancel", "work", "--yes")
    dora.until("work", "cancelled")
    spare.odc("down", "--all", "--yes")
    old, new = spare.state / "disks", tmp_path / "elsewhere"
    with changed(spare, f"disks = {json.dumps(str(new))}"):
        refused = spare.odc("up", check=False)
        assert refused.code == 2, refused
        assert f"the disks of this cloud are in {old}, and {new} is another storage" in refused.err
        assert f"odc --config {spare.config} up --disks {old}" in refused.err
        assert not new.exists()
        moved = [(path, tmp_path / path.name.replace("disks", "elsewhere")) for path in spare.state.glob("disks*")]
        for source, target in moved:
            source.rename(target)
        try:
            spare.odc("up")
            dora.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "after", "--disk", "moved", "--wait")
            assert dora.in_box("after", "cat file").out == "work\n"
            spare.odc("down", "--all", "--yes")
        finally:
            for source, target in moved:
                target.rename(source)
    spare.odc("up")
