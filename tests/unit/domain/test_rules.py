"""Names, limits, shares, types, access, disks and promises: the rules without any state."""

from __future__ import annotations

import math
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.builders import NOW, a_disk, a_placed, a_reservation

from odc.domain.access import Act, Principal, allowed
from odc.domain.catalog import BUILT_IN, Catalog, GpuType, own_type_name
from odc.domain.errors import (
    OUTCOMES,
    InvalidRequest,
    InvariantError,
    LimitExceeded,
    NotFound,
    OdcError,
    exit_code,
    http_status,
)
from odc.domain.limits import Limits, check_hours, check_user_limits
from odc.domain.names import (
    check_github_user,
    check_name,
    free_name,
    is_id,
    near_match,
    probable_disk,
    probable_slip,
    short,
)
from odc.domain.promise import held_until, next_guess, ready_by, slot_span
from odc.domain.reservation import SlotRecord, State
from odc.domain.resources import Capacity, allocatable, share_of

GIB = 2**30
LIMITS = Limits()


# Names


@pytest.mark.parametrize("name", ["a", "my-project", "run2", "0", "a" * 40])
def test_a_dns_label_is_a_name(name: str) -> None:
    assert check_name(name, "disk") == name


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", "A", "-a", "a-", "a" * 41, "a" * 10_000, "ä", "a b", "a\n", "none", "all", "localhost", "a.b"],
)
def test_anything_else_is_refused_with_the_rule_in_a_short_message(name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 40 of a-z") as caught:
        check_name(name, "disk")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", ["ada", "Ada-1", "a" * 39, "foo-", "a--b", "-jerry-", "jane_corp"])
def test_every_login_that_github_has_is_one(name: str) -> None:
    assert check_github_user(name) == name


@pytest.mark.parametrize("name", ["", "-", "__", "a/b", "a\nb", "a" * 40, "a.keys", "é", "a b", "..", "x" * 100_000])
def test_what_cannot_be_a_login_is_never_asked_for(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_github_user(name)
    assert len(caught.value.message) < 200


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True), st.integers(0, 12))
def test_a_free_name_is_a_name_and_free(wanted: str, taken_count: int) -> None:
    taken: set[str] = set()
    for _ in range(taken_count):
        name = free_name(wanted, taken)
        assert name not in taken
        assert len(name) <= 40
        assert name[-1] != "-"
        taken.add(name)


def test_a_free_name_is_the_wanted_one_or_the_first_number() -> None:
    assert free_name("proj", ()) == "proj"
    assert free_name("proj", ("proj", "proj-2")) == "proj-3"
    assert free_name("a" * 40, ("a" * 40,)) == "a" * 38 + "-2"


def test_a_slip_is_noticed_and_a_sibling_is_not() -> None:
    assert probable_slip("my-porject", ["my-project"]) == "my-project"
    assert probable_slip("run2", ["run1"]) is None
    assert [probable_disk(name, ["proj"]) for name in ("non", "null", "one", "node")] == ["none", "none", None, None]
    assert near_match("h10", ["h100", "t4"]) == "h100"
    assert near_match("h100", ["h100"]) is None


def test_an_id_is_32_hexadecimal_digits_and_eight_of_them_are_shown() -> None:
    assert is_id("0123456789abcdef" * 2)
    assert not is_id("0123456789ABCDEF" * 2)
    assert not is_id("0" * 31)
    assert short("0123456789abcdef") == "01234567"


# Limits


@pytest.mark.parametrize("hours", [0.0833, 1, 1.5, 24, 24.0])
def test_hours_from_five_minutes_to_a_day_are_allowed(hours: float) -> None:
    assert check_hours(hours) == float(hours)


@pytest.mark.parametrize("hours", [0, -1, 0.08, 24.01, 1e308, math.inf, -math.inf, math.nan, True, "8", None, [8]])
def test_other_hours_are_refused_with_the_range(hours: object) -> None:
    with pytest.raises(InvalidRequest, match=r"0\.0833.* to 24"):
        check_hours(hours)


def test_one_more_reservation_than_the_limit_is_refused_with_what_is_used() -> None:
    check_user_limits(LIMITS, 9, 0, 8)
    with pytest.raises(LimitExceeded, match="you have 10 reservations, the limit for one user is 10"):
        check_user_limits(LIMITS, 10, 0, 1)


def test_gpus_are_limited_only_if_the_operator_says_so() -> None:
    check_user_limits(LIMITS, 0, 10_000, 8)
    eight = replace(LIMITS, gpus_per_user=8)
    check_user_limits(eight, 1, 4, 4)
    with pytest.raises(LimitExceeded, match="you hold 4 GPUs and ask for 8 more; the limit for one user is 8"):
        check_user_limits(eight, 1, 4, 8)


# Resources by share


@pytest.mark.parametrize(
    ("cpus", "gib", "gpus_of_node", "gpus", "share_cpus", "share_gib"),
    [
        (192, 2048, 8, 1, 24, 256),
        (192, 2048, 8, 4, 96, 1024),
        (192, 2048, 8, 8, 192, 2048),
        (96, 1152, 8, 1, 12, 144),
        (48, 192, 4, 1, 12, 48),
    ],
)
def test_a_box_gets_its_share_as_the_guide_says(
    cpus: int, gib: int, gpus_of_node: int, gpus: int, share_cpus: int, share_gib: int
) -> None:
    node = Capacity(cpu_millis=cpus * 1000, memory_bytes=gib * GIB)
    got = share_of(node, gpus, gpus_of_node)
    assert got.request.cpu_millis == share_cpus * 900
    assert got.request.memory_bytes == share_gib * GIB * 90 // 100
    assert got.limit.cpu_millis == min(share_cpus * 1500, cpus * 1000)
    assert got.limit.memory_bytes == min(share_gib * GIB * 150 // 100, gib * GIB)
    assert got.shm_bytes == share_gib * GIB // 2
    assert got.cpus == min(math.ceil(share_cpus * 1.5), cpus)


@given(st.integers(1, 512_000), st.integers(1, 2**42), st.integers(1, 16), st.integers(1, 16))
def test_no_box_gets_more_than_its_node_and_all_together_are_guaranteed_no_more(
    cpu: int, memory: int, node_units: int, units: int
) -> None:
    units = min(units, node_units)
    node = Capacity(cpu_millis=cpu, memory_bytes=memory)
    got = share_of(node, units, node_units)
    assert got.limit.cpu_millis <= max(cpu, 1)
    assert got.limit.memory_bytes <= max(memory, 1)
    assert got.request.cpu_millis <= max(got.limit.cpu_millis, 1)
    assert got.cpus >= 1
    one = share_of(node, 1, node_units)
    assert one.request.memory_bytes * node_units <= memory or one.request.memory_bytes == 1


def test_the_host_keeps_its_part_but_boxes_never_lose_everything() -> None:
    node = Capacity(cpu_millis=8000, memory_bytes=16 * GIB)
    assert allocatable(node, Capacity(cpu_millis=1000, memory_bytes=GIB)) == Capacity(
        cpu_millis=7000, memory_bytes=15 * GIB
    )
    assert allocatable(node, Capacity(cpu_millis=9000, memory_bytes=99 * GIB)) == Capacity(
        cpu_millis=800, memory_bytes=16 * GIB // 10
    )


# Types

GUIDE = {
    "b200": (8, 192),
    "h200": (8, 141),
    "h100": (8, 80),
    "a100": (8, 40),
    "a10g": (4, 24),
    "l4": (4, 24),
    "t4": (4, 16),
    "t4-small": (1, 16),
    "cpu-arm": (0, 0),
    "cpu-x86": (0, 0),
}


def test_the_built_in_types_are_the_guides_table() -> None:
    built = {t.name: (t.gpus_per_node, t.gpu_memory_gib) for t in BUILT_IN}
    assert built == GUIDE


def test_a_type_that_version_0_1_0_stored_is_still_read() -> None:
    stored = b'{"name":"rtx4090","gpus_per_node":4,"gpu_memory_gib":24,"cpus":64,"memory_gib":256,"match":["4090"]}'
    read = msgspec.json.decode(stored, type=GpuType)
    assert read == GpuType(name="rtx4090", gpus_per_node=4, gpu_memory_gib=24, match=("4090",))


@pytest.mark.parametrize(
    ("nvml", "gib", "name"),
    [
        ("NVIDIA B200", 180.0, "b200"),
        ("NVIDIA H200", 140.0, "h200"),
        ("NVIDIA H100 80GB HBM3", 79.6, "h100"),
        ("NVIDIA H100 PCIe", 79.6, "h100"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "a100"),
        ("NVIDIA A10G", 22.0, "a10g"),
        ("NVIDIA L4", 22.5, "l4"),
        ("Tesla T4", 15.0, "t4"),
        ("NVIDIA L40S", 44.5, "l40s"),
        ("NVIDIA A10", 22.0, "a10"),
        ("NVIDIA GeForce RTX 4090", 23.6, "rtx4090"),
        ("Tesla V100-SXM2-32GB", 31.7, "v100-32gb"),
        ("NVIDIA RTX 6000 Ada Generation", 48.0, "rtx6000ada"),
        ("NVIDIA T400 4GB", 4.0, "t400-4gb"),
        ("NVIDIA RTX A6000", 47.5, "rtxa6000"),
        ("", 1.0, "gpu"),
    ],
)
def test_a_real_gpu_is_of_the_type_that_its_name_says_or_of_its_own(nvml: str, gib: float, name: str) -> None:
    assert Catalog().type_of_gpu(nvml, gib) == name


def test_a_name_of_its_own_may_be_a_type_name() -> None:
    assert own_type_name("NVIDIA " + "x" * 99) == "x" * 24
    Catalog([GpuType(name=own_type_name("NVIDIA GeForce RTX 4090"), gpus_per_node=2)])


def test_an_operators_type_replaces_one_of_its_name_or_joins_the_others() -> None:
    small = GpuType(name="h100", gpus_per_node=2, match=("h100",))
    big = GpuType(name="a100-80", gpus_per_node=8, match=("a100",), min_memory_gib=60)
    catalog = Catalog([small, big])
    assert catalog.get_type("h100") == small
    assert len(catalog.types) == len(BUILT_IN) + 1
    assert catalog.type_of_gpu("NVIDIA A100-SXM4-80GB", 79.2) == "a100-80"
    assert catalog.type_of_gpu("NVIDIA A100-SXM4-40GB", 39.4) == "a100"
    assert catalog.get_type("a100-80") == big


def test_an_unknown_type_is_refused_with_a_near_one_or_with_all() -> None:
    with pytest.raises(NotFound, match="did you mean h100"):
        Catalog().get_type("h10")
    with pytest.raises(NotFound, match="there are b200, "):
        Catalog().get_type("zzz")
    with pytest.raises(InvalidRequest):
        Catalog([GpuType(name="Bad Name")])


# Access


OWNER = Principal(id="unix:1000", user="ada")
OTHER = Principal(id="unix:1001", user="ben")
ROOT = Principal(id="unix:0", user="root", admin=True)


@pytest.mark.parametrize(
    ("act", "owner", "other", "operator"),
    [
        (Act.SEE_EXISTS, True, True, True),
        (Act.FOR_ONESELF, True, True, True),
        (Act.SEE, True, False, True),
        (Act.CHANGE, True, False, True),
        (Act.SEE_SECRETS, True, False, False),
        (Act.OPERATE, False, False, True),
    ],
)
def test_who_may_do_what(act: Act, owner: bool, other: bool, operator: bool) -> None:
    assert [allowed(who, act, OWNER.id) for who in (OWNER, OTHER, ROOT)] == [owner, other, operator]


def test_every_act_is_in_that_table() -> None:
    assert len(Act) == 6
    assert not allowed(OWNER, Act.SEE, None)


# Disks


def test_a_disk_has_one_holder_and_one_successor_and_only_they_let_go() -> None:
    held = a_disk().claimed_by("one").claimed_by("two")
    assert (held.holder, held.successor) == ("one", "two")
    assert held.released_by("three") == held
    assert held.released_by("two") == replace(held, successor=None)
    passed_on = held.released_by("one")
    assert (passed_on.holder, passed_on.successor) == ("two", None)
    assert passed_on.released_by("one") == passed_on


# Promises


def test_a_slot_spans_the_limits_and_the_promise_is_its_start_and_the_prepare_limit() -> None:
    assert slot_span(timedelta(hours=1), LIMITS) == timedelta(hours=1) + LIMITS.prepare + LIMITS.stop
    assert ready_by(NOW, LIMITS) == NOW + LIMITS.prepare


def test_gpus_are_held_until_the_planned_end_whenever_a_pass_looks() -> None:
    placed = a_placed(slot=SlotRecord(start=NOW, nodes=("node-1",)))
    active = replace(placed, state=State.ACTIVE, expires_at=NOW + timedelta(hours=1))
    ending = replace(active, state=State.ENDING, ending_at=NOW + timedelta(minutes=10))
    for late in (timedelta(0), timedelta(seconds=29)):
        assert held_until(placed, LIMITS, NOW + late) == NOW + slot_span(timedelta(hours=1), LIMITS)
        assert held_until(active, LIMITS, NOW + late) == NOW + timedelta(hours=1) + LIMITS.stop
        assert held_until(ending, LIMITS, NOW + late) == NOW + timedelta(minutes=10) + LIMITS.stop


def test_an_end_without_a_time_is_guessed_from_the_start() -> None:
    record = a_placed(state=State.ACTIVE, placed_at=None)
    assert held_until(record, LIMITS, NOW) == NOW + slot_span(timedelta(hours=1), LIMITS)
    assert a_reservation().expires_at is None


@given(st.integers(0, 10**7), st.integers(0, 10**4))
def test_guesses_are_later_than_now_stay_between_passes_and_grow_few(late_s: int, patience_s: int) -> None:
    patience = timedelta(seconds=patience_s)
    now = NOW + timedelta(seconds=late_s)
    guess = next_guess(NOW, patience, now)
    assert guess > now
    just_before = guess - timedelta(microseconds=1)
    assert next_guess(NOW, patience, max(now, just_before)) == guess
    guesses, moment = set(), NOW
    while moment <= now:
        moment = next_guess(NOW, patience, moment)
        guesses.add(moment)
    assert len(guesses) <= 2 + math.log2(1 + late_s / max(patience_s, 1))


# Errors


def _tree(kind: type[OdcError]) -> list[type[OdcError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in _tree(below))]


def test_every_error_has_an_exit_code_that_is_not_0_and_an_http_status() -> None:
    assert OdcError in OUTCOMES
    for kind in _tree(OdcError):
        error = kind("message", ("label", "command"))
        assert exit_code(error) > 0
        assert 400 <= http_status(error) < 600
    assert exit_code(InvariantError("a bug")) == 70
