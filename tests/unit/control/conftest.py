"""Every test of control runs in two worlds: in one process that lives on, and in a cold world (`tests.cold_world`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cold_world import COLD, LAGS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test in both worlds; one that is marked `one_process` in the first only."""
    definition = metafunc.definition
    for mark in filter(None, map(definition.get_closest_marker, ("one_process", "prompt_lists"))):
        if not mark.args:
            raise pytest.UsageError(f"{definition.nodeid}: @pytest.mark.{mark.name} needs a reason")
    alone = definition.get_closest_marker("one_process") is not None
    metafunc.parametrize(
        "world_kind", ["warm"] if alone else ["warm", pytest.param("cold", marks=pytest.mark.cold)], indirect=True
    )


@pytest.fixture(autouse=True)
def world_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make the worlds of the test cold or not; in a cold one lists lag, unless it is marked `prompt_lists`."""
    cold = request.param == "cold"
    tokens = COLD.set(cold), LAGS.set(cold and request.node.get_closest_marker("prompt_lists") is None)
    yield
    COLD.reset(tokens[0])
    LAGS.reset(tokens[1])
