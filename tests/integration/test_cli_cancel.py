"""Ending, and what is said of what ends: real processes and terminals against a cloud without containers."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from tests.builders import KEY
from tests.e2e.cloud import Person
from tests.e2e.terminal import ENTER, terminal
from tests.small_cloud import SmallCloud, small_cloud
from tests.someone import someone
from tests.unit.cli.screen import an_output

from odc.cli.cancel import _cancel_each, _combined_error
from odc.cli.context import Session
from odc.cli.diagnosis import Way, explain
from odc.cli.times import local_now
from odc.domain.access import Principal
from odc.domain.errors import ProviderUnavailable, exit_code
from odc.domain.requests import Reserve, SetOwnKeys
from odc.domain.reservation import Reservation

T4 = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "--wait")
BEN = Principal(id="unix:4711", user="ben")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SmallCloud]:
    with small_cloud(tmp_path, admins=[getpass.getuser()]) as made:
        yield made


@pytest.fixture
def ada(cloud: SmallCloud, tmp_path: Path) -> Person:
    """An operator with a key set."""
    person = someone(cloud, tmp_path)
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return person


@pytest.fixture
def of_ben(cloud: SmallCloud) -> Reservation:
    """What another user has."""
    cloud.requests.handle(BEN, uuid.uuid4().hex, SetOwnKeys(keys=(KEY,)))
    asked = Reserve(gpu_type="t4", gpus=1, hours=1.0, name="k2", disk="none")
    record = cloud.requests.handle(BEN, uuid.uuid4().hex, asked)
    assert isinstance(record, Reservation)
    return record


def test_enter_ends_nothing_of_somebody_else_and_the_question_names_the_owner(ada: Person, of_ben: Reservation) -> None:
    with terminal(ada, "gpu-dev", "cancel", of_ben.id[:8]) as screen:
        screen.answer(f"End k2 ({of_ben.id[:8]}) of ben? (y/N)", ENTER)
        screen.expect("Nothing was cancelled.")
        assert screen.ended() == 130
    assert ada.view(of_ben.id)["state"] in ("preparing", "active")


def test_enter_alone_ends_nothing_of_ones_own_either(ada: Person) -> None:
    ada.ok(*T4, "-n", "mine", "--disk", "none")
    with terminal(ada, "gpu-dev", "cancel", "mine") as screen:
        screen.answer("End mine", ENTER)
        screen.expect("(y/N)", "Nothing was cancelled.")
        assert screen.ended() == 130
    with terminal(ada, "gpu-dev", "cancel", "mine") as screen:
        screen.answer("(y/N)", "y" + ENTER)
        assert screen.ended() == 0
    assert ada.view("mine")["state"] in ("ending", "cancelled")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_anothers_reservation_ends_without_a_terminal_only_by_yes(
    ada: Person, of_ben: Reservation, more: tuple[str, ...]
) -> None:
    refused = ada.gpu_dev("cancel", of_ben.id[:8], *more)
    assert (refused.code, refused.out) == (2, "")
    assert f"k2 ({of_ben.id[:8]}) of ben is not yours" in refused.err
    assert f"gpu-dev cancel {of_ben.id[:8]} --yes" in refused.err
    assert ada.view(of_ben.id)["state"] in ("preparing", "active")
    ada.ok("cancel", of_ben.id[:8], "--yes", *more)
    assert ada.view(of_ben.id)["state"] in ("ending", "cancelled")


def test_json_on_a_terminal_does_not_stand_for_yes(ada: Person, of_ben: Reservation) -> None:
    with terminal(ada, "gpu-dev", "cancel", of_ben.id, "--json") as screen:
        screen.expect("is not yours")
        assert screen.ended() == 2
    assert ada.view(of_ben.id)["state"] in ("preparing", "active")


def test_all_ends_nothing_without_a_terminal_unless_by_yes(ada: Person) -> None:
    for name in ("one", "two"):
        ada.ok(*T4, "-n", name, "--disk", "none")
    refused = ada.gpu_dev("cancel", "--all")
    assert (refused.code, refused.out) == (2, "")
    assert "this ends all 2 of yours: one (" in refused.err
    assert "gpu-dev cancel --all --yes" in refused.err
    assert [view["state"] for view in ada.json("list")["reservations"]] == ["active", "active"]
    assert len(ada.json("cancel", "--all", "--yes")) == 2


def test_a_script_that_names_nothing_is_given_a_line_for_each(ada: Person) -> None:
    ada.ok(*T4, "-n", "one", "--disk", "none")
    alone = ada.gpu_dev("cancel")
    assert (alone.code, "gpu-dev cancel one" in alone.err) == (2, True)
    ada.ok(*T4, "-n", "two", "--disk", "none")
    refused = ada.gpu_dev("cancel", "--yes")
    lines = [line.split("   ")[-1] for line in refused.err.splitlines()[1:]]
    assert lines == ["gpu-dev cancel one", "gpu-dev cancel two", "gpu-dev cancel --all --yes"]
    assert len(ada.json("list")["reservations"]) == 2


def test_several_are_cancelled_by_one_command(ada: Person) -> None:
    for name in ("one", "two", "three"):
        ada.ok(*T4, "-n", name, "--disk", "none")
    told = ada.ok("cancel", "two", "one", ada.view("two")["id"])
    assert [line.split()[0] for line in told.splitlines()] == ["two", "one"]
    assert [view["name"] for view in ada.json("list", "--status", "active")["reservations"]] == ["three"]


def test_one_wrong_name_among_several_cancels_nothing(ada: Person) -> None:
    ada.ok(*T4, "-n", "one", "--disk", "none")
    refused = ada.gpu_dev("cancel", "one", "nope", "gone")
    assert (refused.code, refused.out) == (2, "")
    assert "nope" in refused.err
    assert "gone" in refused.err
    assert "nothing was cancelled" in refused.err
    assert ada.view("one")["state"] == "active"


def test_what_could_not_be_cancelled_is_told_and_the_rest_is(ada: Person, cloud: SmallCloud) -> None:
    session = Session(home=ada.home, output=an_output(), now=local_now, endpoint_typed=cloud.endpoint)
    for name in ("one", "two"):
        ada.ok(*T4, "-n", name, "--disk", "none")
    views = session.client().reservations().reservations
    stranger = msgspec.structs.replace(views[0], id="f" * 32, name="gone")
    ended, failed = _cancel_each(session, [stranger, *views])
    told = _combined_error(failed, of=3)
    session.client().close()
    assert [view.name for view in ended] == ["one", "two"]
    assert told.message.startswith("1 of 3 were not cancelled: gone (ffffffff): ")
    assert exit_code(told) == 2
    assert told.hints[-1].command == f"gpu-dev cancel {'f' * 32}"


def test_nothing_is_asked_about_what_has_ended(ada: Person) -> None:
    ada.ok(*T4, "-n", "q1", "--disk", "none")
    ada.ok("cancel", "q1", "-y")
    ada.until("q1", "cancelled")
    with terminal(ada, "gpu-dev", "cancel", "q1") as screen:
        screen.expect("q1 cancelled ", "Again: gpu-dev reserve --like q1")
        assert screen.ended() == 0
    assert "End q1" not in screen.screen.text


def test_one_that_waited_only_says_nothing_of_a_snapshot(ada: Person) -> None:
    whole = ("reserve", "-t", "h100", "-g", "8", "-h", "1")
    ada.ok(*whole, "-n", "first", "--disk", "proj", "--wait")
    ada.ok("cancel", "first", "-y")
    ada.until("first", "cancelled")
    ada.ok(*whole, "-n", "first", "--disk", "none", "--wait")
    asked = ada.ok(*whole, "-n", "second", "--disk", "proj", "--no-wait")
    assert asked.splitlines()[-1] == "Connect when it is ready: gpu-dev connect second"
    told = ada.ok("cancel", "second", "-y")
    assert "Disk proj is as it was." in told
    assert "snapshot" not in told + ada.ok("show", "second")


def test_connect_and_wait_say_what_happens_to_one_that_is_ending(ada: Person, cloud: SmallCloud) -> None:
    ada.ok(*T4, "-n", "train", "--disk", "proj")
    cloud.volumes.faults.add("snapshot", ProviderUnavailable("the disk is slow"), times=10**6)
    ada.ok("cancel", "train", "-y")
    why = "is ending: it was cancelled. Its disk proj is being made safe: gpu-dev show train"
    done = ada.gpu_dev("connect", "train")
    assert done.code == 1
    assert why in done.err
    session = Session(home=ada.home, output=an_output(), now=local_now, endpoint_typed=cloud.endpoint)
    way = Way(["ssh"], "train")
    [told] = explain(session, session.client().reservation("train"), way, way, is_command=False).lines
    session.client().close()
    assert told.endswith(why)
    with terminal(ada, "gpu-dev", "wait", "train") as screen:
        screen.expect("  ending")
        cloud.volumes.faults.clear()
        shown = screen.expect("train cancelled")
        assert screen.ended() == 1
    assert "placed" not in shown
    assert "  box " not in shown


def test_a_time_in_an_error_is_told_in_the_readers_zone_and_to_scripts_in_utc(ada: Person) -> None:
    ada.ok(*T4, "-n", "holder", "--disk", "proj")
    again = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "--disk", "proj", "-n", "second")
    refused = ada.gpu_dev(*again, TZ="UTC-9").err
    view = ada.view("holder")
    until = datetime.fromisoformat(view["expires_at"]).astimezone(timezone(timedelta(hours=9)))
    assert f"in use by holder ({view['id'][:8]}) until " in refused
    assert f"{until:%H:%M}\n" in refused
    error = msgspec.json.decode(ada.gpu_dev(*again, "--json").err)
    assert error["message"].endswith(f" until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    assert error["when"] == view["expires_at"]
