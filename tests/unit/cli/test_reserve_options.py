"""What is said, what is open, and the command that says all of it."""

from __future__ import annotations

import math

import click
import msgspec
import pytest
from tests.unit.cli.screen import a_view, an_ended

from odc.api.messages.reservations import ReservationView
from odc.api.messages.storage import DiskList, DiskView, OrphanedDiskView
from odc.cli.interactive import NEW_DISK_CHOICE, disk_lines, disk_name_fault, hours_fault
from odc.cli.options import gpus_of, hours_of
from odc.cli.reserve import reserve
from odc.cli.reserve_options import PartialRequest
from odc.domain.errors import InvalidRequest
from odc.domain.requests import Reserve

WHOLE = PartialRequest("h100", 4, 8.0)


def test_every_open_option_is_named() -> None:
    assert PartialRequest().missing == ["-t TYPE", "-g N", "-h HOURS"]
    assert PartialRequest("h100", None, 2).missing == ["-g N"]
    assert PartialRequest("cpu-x86", 0, 2).missing == []


@pytest.mark.parametrize("hours", [-1.0, 0.0, 0.08, 24.01, 1e308, math.nan, math.inf])
def test_hours_are_checked_before_anything_is_sent(hours: float) -> None:
    with pytest.raises(InvalidRequest, match=r"0\.0833"):
        PartialRequest("h100", 1, hours).check()


@pytest.mark.parametrize(
    "partial",
    [
        PartialRequest(name="Größe"),
        PartialRequest(name="none"),
        PartialRequest(disk="../x"),
        PartialRequest(disk=""),
        PartialRequest(gpus=-1),
    ],
)
def test_names_and_counts_are_checked_before_anything_is_sent(partial: PartialRequest) -> None:
    with pytest.raises(InvalidRequest):
        partial.check()


def test_the_word_for_a_temporary_home_is_not_a_disk_name() -> None:
    PartialRequest("h100", 1, 1.0, disk="none").check()


def test_the_request_says_what_was_wished() -> None:
    assert WHOLE.request(new_disk=False) == Reserve(gpu_type="h100", gpus=4, hours=8.0)
    assert PartialRequest("t4", 1, 0.5, "x", "proj").request(new_disk=True) == Reserve(
        gpu_type="t4", gpus=1, hours=0.5, name="x", disk="proj", new_disk=True
    )


def test_the_command_says_the_same() -> None:
    assert (
        PartialRequest("h100", 4, 0.5, "x", "proj").command() == "gpu-dev reserve -t h100 -g 4 -h 0.5 -n x --disk proj"
    )
    assert PartialRequest("cpu-x86", 0, 2.0).command() == "gpu-dev reserve -t cpu-x86 -h 2"


def test_like_takes_what_is_open_from_the_other_one() -> None:
    other = an_ended(disk="proj")
    assert PartialRequest(hours=1.0).like(other, frozenset()) == PartialRequest("h100", 4, 1.0, "train", "proj")


def test_like_leaves_a_name_that_is_taken_to_the_cloud() -> None:
    assert PartialRequest().like(a_view(), frozenset({"train"})).name is None


def test_like_one_without_a_disk_is_temporary_again() -> None:
    assert PartialRequest().like(an_ended(disk=None), frozenset()).disk == "none"


def test_the_disks_are_offered_and_those_in_use_cannot_be_chosen() -> None:
    held = DiskView(name="proj", size_bytes=1, used_bytes=None, created_at=a_view().created_at, holder_id="f" * 32)
    free = msgspec.structs.replace(held, name="free", holder_id=None)
    ending = a_view(id="e" * 32, disk="free", state="ending")
    closing = msgspec.structs.replace(held, name="closing", holder_id=ending.id)
    found = DiskList(disks=(held, free, closing), orphaned=(OrphanedDiskView(id="a" * 32, name="late"),))
    lines = disk_lines(found, [msgspec.structs.replace(ending, disk="closing")])
    assert [(line.text, line.taken) for line in lines] == [
        ("default  (new)", ""),
        ("proj", "in use by ffffffff"),
        ("free", ""),
        ("closing  (its snapshot is being made)", ""),
        ("late", "has files but no record; ask for: sudo odc disk recover aaaaaaaa"),
        (NEW_DISK_CHOICE, ""),
        ("none: a temporary home, lost at the end", ""),
    ]


@pytest.mark.parametrize(
    "user",
    [a_view(disk="proj"), a_view(disk="proj", state="queued"), a_view(disk="proj", state="ending", requeue=True)],
)
def test_a_disk_is_in_use_by_whoever_has_it_or_is_to_have_it(user: ReservationView) -> None:
    held = DiskView(name="proj", size_bytes=1, used_bytes=None, created_at=user.created_at, holder_id=user.id)
    assert disk_lines(DiskList(disks=(held,)), [user])[1].taken == "in use by train"


def test_a_default_disk_without_a_record_cannot_be_chosen_until_it_has_one() -> None:
    orphan = OrphanedDiskView(id="a" * 32, name="default")
    line, *_ = disk_lines(DiskList(disks=(), orphaned=(orphan,)), [])
    assert (line.text, line.taken[:26]) == ("default", "has files but no record; a")
    recorded = DiskView(name="default", size_bytes=1, used_bytes=None, created_at=a_view().created_at)
    line, *_ = disk_lines(DiskList(disks=(recorded,), orphaned=(orphan,)), [])
    assert (line.text, line.taken) == ("default", "")


def test_typed_answers_are_checked_as_they_are_typed() -> None:
    assert hours_fault("0.5") == ""
    assert hours_fault("two") == "a number, such as 2 or 0.5"
    assert "24" in str(hours_fault("25"))
    assert "0.0833" in str(hours_fault("nan"))
    assert disk_name_fault("proj") == ""
    assert "not allowed" in str(disk_name_fault("../x"))


@pytest.mark.parametrize(
    ("partial", "typed"),
    [
        (PartialRequest("t4", 1, 0.0), "gpu-dev reserve -t t4 -g 1 -h 0.0833"),
        (PartialRequest("t4", 1, 1e9), "gpu-dev reserve -t t4 -g 1 -h 24"),
        (PartialRequest("t4", 1, math.nan), "gpu-dev reserve -t t4 -g 1 -h 2"),
        (PartialRequest("t4", -1, 1.0), "gpu-dev reserve -t t4 -g 1 -h 1"),
        (PartialRequest("t4", 1, 1.0, "My Run"), "gpu-dev reserve -t t4 -g 1 -h 1 -n my-run"),
        (PartialRequest("t4", 1, 1.0, "x" * 64), f"gpu-dev reserve -t t4 -g 1 -h 1 -n {'x' * 40}"),
        (PartialRequest("t4", 1, 1.0, disk="../"), "gpu-dev reserve -t t4 -g 1 -h 1 --disk my-disk"),
    ],
)
def test_a_refusal_says_what_would_be_taken(partial: PartialRequest, typed: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        partial.check()
    assert refused.value.hints[0].command == typed


@pytest.mark.parametrize("text", ["1_0", "\u0661", "1e", "one"])
def test_only_what_people_take_for_a_number_is_one(text: str) -> None:
    context = click.Context(reserve)
    for read in (hours_of, gpus_of):
        with pytest.raises(InvalidRequest, match="must be a"):
            read(context, context.command.params[0], text)
