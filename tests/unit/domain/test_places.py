"""The place of a box: what its record keeps, and what a record of 0.1.0 becomes."""

from __future__ import annotations

import msgspec

from odc.domain.reservation import Place

FIRST_VERSION = (
    b'{"node":"node-1","gpus":["gpu-0"],"ssh_port":30007,"uid":"u","address":"10.0.0.5",'
    b'"simulated":true,"id_base":65536}'
)


def test_the_port_of_a_record_of_the_first_version_is_its_ssh_port_and_is_written_in_the_new_form() -> None:
    place = msgspec.json.decode(FIRST_VERSION, type=Place)
    assert place == Place(
        node="node-1",
        gpus=("gpu-0",),
        ports={"ssh": 30007},
        uid="u",
        address="10.0.0.5",
        simulated=True,
        id_base=65536,
    )
    written = msgspec.json.decode(msgspec.json.encode(place))
    assert "ssh_port" not in written
    assert written["ports"] == {"ssh": 30007}
    assert msgspec.json.decode(msgspec.json.encode(place), type=Place) == place


def test_a_place_without_a_box_has_no_ports() -> None:
    assert msgspec.json.decode(b'{"node":"node-1","ssh_port":0}', type=Place).ports == {}
