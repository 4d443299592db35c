"""The words for why a start was given up, from the numbers of the record. See `odc.domain.reservation.GivenUp`."""

from __future__ import annotations


def given_up_text(detail: str, phase: str, limit_s: float, last_attempt: int) -> str:
    """Return why a start was given up.

    Args:
        detail: what failed last, or what the box waited for; empty if that is not known.
        phase: whose limit was over; empty for the limit of the whole start.
        limit_s: that limit, in seconds; 0 if none was over.
        last_attempt: the number of the last attempt; 0 if another one follows.

    Returns:
        `ssh took longer than 120 s: no SSH server answers (attempt 3, the last)`.
    """
    text = detail or "the box did not come up"
    if phase:
        text = f"{phase} took longer than {limit_s:g} s: {text}"
    elif limit_s:
        text = f"not ready within {limit_s:g} s: {text}"
    return f"{text} (attempt {last_attempt}, the last)" if last_attempt else text
