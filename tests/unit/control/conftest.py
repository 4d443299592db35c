"""Every test of control runs in two worlds: in one process that lives on, and in a cold world (`tests.cold_world`)."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def both_worlds(world_kind: None) -> None:
    """Run the test once with each kind of world."""
