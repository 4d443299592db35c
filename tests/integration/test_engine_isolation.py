"""Who reaches whom: boxes of one reservation each other, boxes of different ones nobody."""

from __future__ import annotations

import uuid

import pytest
from tests.engine import Engine, private_engine

from odc.adapters.engine.firewall import forget_rules, is_kept_apart, keep_apart
from odc.domain.box import BoxSpec
from odc.domain.errors import ProviderUnavailable

pytestmark = pytest.mark.podman


def address(engine: Engine, spec: BoxSpec) -> str:
    return engine.ssh(spec, "hostname -I").stdout.split()[0]


def reaches(engine: Engine, spec: BoxSpec, target: str) -> bool:
    greeting = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/22 && head -c 4 <&3'"
    return engine.ssh(spec, greeting).stdout == "SSH-"


def test_boxes_of_one_reservation_reach_each_other_and_no_others_even_when_some_have_ended() -> None:
    with private_engine("h100=1x4") as engine:
        gang = uuid.uuid4().hex
        first, second = (engine.spec(reservation_id=gang, rank=rank, gpus=()) for rank in (0, 1))
        other, ended = engine.spec(gpus=()), engine.spec(gpus=())
        uids = [engine.up(spec) for spec in (first, second, other, ended)]
        engine.cluster.remove_box(ended.name, uids[3])
        engine.cluster.clean_up(ended.name.reservation_id, 1)
        assert reaches(engine, first, address(engine, second))
        assert not reaches(engine, other, address(engine, first))
        assert not reaches(engine, first, address(engine, other))


def test_the_rule_is_made_once_and_goes_with_its_cloud() -> None:
    cloud = f"odcrule{uuid.uuid4().hex[:6]}"
    try:
        for network in ("203.0.113.0/25", "203.0.113.0/25", "203.0.113.128/25"):
            keep_apart(cloud, network)
        assert is_kept_apart(cloud)
    finally:
        forget_rules(cloud)
    assert not is_kept_apart(cloud)


def test_a_rule_that_cannot_be_made_is_told_and_no_box_is_started() -> None:
    with pytest.raises(ProviderUnavailable, match="cannot be kept apart"):
        keep_apart("odcrule", "no network")
