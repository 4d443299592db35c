"""Where two lists differ: of ten thousand records, most are the same from pass to pass, and need not be looked into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress, count
from operator import is_not
from typing import Any, NamedTuple


class ChangedSpan(NamedTuple):
    """Two lists are the same but for `before[start:end_before]` in one and `now[start:end_now]` in the other."""

    start: int
    end_before: int
    end_now: int


def changed_span(
    before: Sequence[Any], now: Sequence[Any], differ: Callable[[Any, Any], bool] = is_not
) -> ChangedSpan | None:
    """Return the shortest span outside of which the lists are the same; None if they are the same.

    Args:
        before: one list.
        now: the other.
        differ: whether two items differ; by default, whether they are not the same object.

    Cost: linear in the items outside of the span, without any Python code for each.
    """
    shorter = min(len(before), len(now))
    start = next(compress(count(), map(differ, before, now)), shorter)
    if start == len(before) == len(now):
        return None
    rest = shorter - start
    same = min(next(compress(count(), map(differ, reversed(before), reversed(now))), rest), rest)
    return ChangedSpan(start, len(before) - same, len(now) - same)
