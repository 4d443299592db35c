"""Every test of control runs in two worlds: in one process that lives on, and in a cold world (`tests.world.COLD`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.world import COLD


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test in both worlds; one that is marked `one_process` in the first only."""
    alone = metafunc.definition.get_closest_marker("one_process")
    if alone is not None and not alone.args:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: @pytest.mark.one_process needs a reason")
    metafunc.parametrize("world_kind", ["warm"] if alone else ["warm", "cold"], indirect=True)


@pytest.fixture(autouse=True)
def world_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make the worlds of the test cold or not."""
    token = COLD.set(request.param == "cold")
    yield
    COLD.reset(token)
