"""Waiting for something that happens by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 60.0
"""Many times what anything takes here: it only ends a test whose wait is in vain, also on a busy machine."""


def eventually(what: str, check: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of the check.

    Args:
        what: is waited for; for the message.
        check: asked again and again.
        deadline_s: how long, in seconds.

    Raises:
        AssertionError: it was never true.
    """
    end = time.monotonic() + deadline_s
    while not (value := check()):
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.03)
    return value
