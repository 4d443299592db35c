"""What a box writes outside its disk: limited in a whole cloud, and shown before and when it is full."""

from __future__ import annotations

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import reserve
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def test_a_box_without_a_disk_fills_its_own_share_only_and_show_says_so(spare: Cloud, dora: Person) -> None:
    reserve(dora, "greedy")
    reserve(dora, "other")
    said = dora.in_box("greedy", "sudo dd if=/dev/zero of=/tmp/full bs=1M 2>&1; sync").out
    assert "Disk quota exceeded" in said
    assert dora.in_box("greedy", "echo still here").out == "still here\n"
    eventually("show says it", lambda: "root disk full:" in dora.ok("show", "greedy"))
    box = dora.view("greedy")["boxes"][0]
    assert box["layer_used_bytes"] <= box["layer_bytes"]
    assert dora.in_box("other", "head -c 1M /dev/zero > ~/mine && stat -c %s ~/mine").out == "1048576\n"
    assert "root disk" not in dora.ok("show", "other")
