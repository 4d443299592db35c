"""One box for all tests of a file, and a user whose ssh settings are as they were after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Cloud, Person


@pytest.fixture(scope="module")
def box(cloud: Cloud, ada: Person) -> Iterator[Person]:
    """One box for all the settings, by name too."""
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "settings", "--disk", "none", "--wait")
    yield ada
    ada.ok("cancel", "settings", "--yes")
    ada.gpu_dev("wait", "settings")


@pytest.fixture(autouse=True)
def nothing_is_left() -> None:
    """The box outlives a test here; the module's fixture waits until it is gone."""


@pytest.fixture
def named(box: Person) -> Iterator[Person]:
    box.ok("config", "ssh-include", "enable")
    yield box
    box.run("bash", "-c", "for master in .gpu-dev/*.mux; do ssh -F none -o ControlPath=$master -O exit x; done")
    box.run("bash", "-c", "rm -f .ssh/config .ssh/k* .ssh/conf.d .ssh/*-cert.pub; rm -rf .ssh/conf.d .ssh/known_hosts")
    box.ok("list")
