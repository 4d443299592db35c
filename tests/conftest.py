"""What holds for every test: missing components, tests that run alone, the order of files, and the two worlds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.balance import Balance
from tests.cold_world import COLD, LAGS
from tests.components import MISSING
from tests.leftovers import Leftovers, uses_the_machine

HEAVY = ("podman", "btrfs", "postgresql", "dynamodb", "timeout")
"""Marks of tests that take long."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", help="components that must be there, comma separated")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            # As under nohup. Programs that tests start would inherit that; a handler they do not.
            signal.signal(number, lambda *_: None)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        # A shorter name than the usual one: the path of a socket may have 107 bytes.
        config.option.basetemp = Path(config.option.basetemp).with_name(worker.removeprefix("gw"))
    elif uses_the_machine(config):
        # `kill` ends the run as Ctrl+C does: what the tests have made is removed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        config.pluginmanager.register(Balance())
        config.pluginmanager.register(Leftovers())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, so that the processes of a run end at about the same time."""
    heavy = {item.path for item in items if any(map(item.get_closest_marker, HEAVY))}

    def rank(path: Path) -> int:
        return 0 if "e2e" in path.parts else 1 if path in heavy else 2

    items.sort(key=lambda item: rank(item.path))
    for item in items:
        alone = item.get_closest_marker("alone")
        if alone is not None and not alone.args:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.alone needs a reason")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("alone") is not None and int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        pytest.skip("runs while no other test does: pytest -m alone")
    required = {name for name in item.config.getoption("--require").split(",") if name}
    for name, why in MISSING.items():
        if item.get_closest_marker(name) is None:
            continue
        reason = why()
        if reason and name in required:
            pytest.fail(f"{name} is required: {reason}")
        if reason:
            pytest.skip(f"{name}: {reason}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `world_kind` in both worlds; one that is marked `one_process` in the first only."""
    if "world_kind" not in metafunc.fixturenames:
        return
    definition = metafunc.definition
    for mark in filter(None, map(definition.get_closest_marker, ("one_process", "prompt_lists"))):
        if not mark.args:
            raise pytest.UsageError(f"{definition.nodeid}: @pytest.mark.{mark.name} needs a reason")
    alone = definition.get_closest_marker("one_process") is not None
    metafunc.parametrize(
        "world_kind", ["warm"] if alone else ["warm", pytest.param("cold", marks=pytest.mark.cold)], indirect=True
    )


@pytest.fixture
def world_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test's worlds (`tests.world`): one process that lives on, or a cold world (`tests.cold_world`).

    In a cold one lists lag, unless the test is marked `prompt_lists`.
    """
    cold = request.param == "cold"
    tokens = COLD.set(cold), LAGS.set(cold and request.node.get_closest_marker("prompt_lists") is None)
    yield
    COLD.reset(tokens[0])
    LAGS.reset(tokens[1])
