"""Components: a missing one skips its tests loudly, or fails them where it is required."""

from __future__ import annotations

import pytest
from tests.components import MISSING


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", help="components that must be there, comma separated")


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = {name for name in item.config.getoption("--require").split(",") if name}
    for name, why in MISSING.items():
        if item.get_closest_marker(name) is None:
            continue
        reason = why()
        if reason and name in required:
            pytest.fail(f"{name} is required: {reason}")
        if reason:
            pytest.skip(f"{name}: {reason}")
