"""Records as they are stored."""

from __future__ import annotations

import msgspec
from tests.builders import a_reservation

from odc.domain.reservation import Reservation


def test_a_record_of_version_0_1_0_keeps_the_config_that_its_boxes_have() -> None:
    stored = msgspec.json.decode(msgspec.json.encode(a_reservation()))
    loaded = msgspec.json.decode(msgspec.json.encode(stored | {"told": "0123456789abcdef"}), type=Reservation)
    assert loaded.applied_config == "0123456789abcdef"
    assert msgspec.json.decode(msgspec.json.encode(loaded))["told"] == "0123456789abcdef"
