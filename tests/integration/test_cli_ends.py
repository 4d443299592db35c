"""Ending, and what is said of what ends: real processes and terminals against a cloud without containers."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import KEY
from tests.e2e.cloud import Person
from tests.e2e.terminal import ENTER, terminal
from tests.small_cloud import SmallCloud, small_cloud
from tests.someone import someone
from tests.unit.cli.screen import an_output

from odc.cli.context import Session
from odc.cli.diagnosis import explain
from odc.cli.times import local_now
from odc.domain.access import Principal
from odc.domain.errors import ProviderUnavailable
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


def test_enter_ends_ones_own(ada: Person) -> None:
    ada.ok(*T4, "-n", "mine", "--disk", "none")
    with terminal(ada, "gpu-dev", "cancel", "mine") as screen:
        screen.answer("(Y/n)", ENTER)
        screen.expect("is ending")
        assert screen.ended() == 0


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
    [told] = explain(session, session.client().reservation("train"), ["ssh"], is_command=False)
    session.client().close()
    assert told.endswith(why)
    with terminal(ada, "gpu-dev", "wait", "train") as screen:
        screen.expect("  ending")
        cloud.volumes.faults.clear()
        shown = screen.expect("train cancelled")
        assert screen.ended() == 1
    assert "placed" not in shown
    assert "  box " not in shown
