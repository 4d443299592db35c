"""A user who is refused again and again does not push everything else out of the log."""

from __future__ import annotations

import logging

from odc.operator.log_rate_limit import BURST, PER_S, RefusalRateLimit


def line(event: str, level: int = logging.INFO, uid: int = 7) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": event, "levelno": level, "uid": uid})


def test_refusals_beyond_the_rate_are_counted_and_not_written() -> None:
    now = [0.0]
    refusals = RefusalRateLimit(lambda: now[0])
    written = sum(refusals.filter(line("refused")) for _ in range(BURST + 5000))
    assert written == BURST
    now[0] = 1 / PER_S
    told = line("refused")
    assert refusals.filter(told)
    assert vars(told)["left_out"] == 5000
    assert not refusals.filter(line("refused"))


def test_a_refused_user_hides_neither_other_users_nor_other_events() -> None:
    refusals = RefusalRateLimit(lambda: 0.0)
    for _ in range(BURST + 1):
        refusals.filter(line("refused"))
    assert not refusals.filter(line("refused"))
    assert refusals.filter(line("refused", uid=8))
    assert refusals.filter(line("placed"))
    assert refusals.filter(line("refused", logging.WARNING))


def test_very_many_users_take_no_more_memory_than_some() -> None:
    refusals = RefusalRateLimit(lambda: 0.0)
    assert all(refusals.filter(line("refused", uid=uid)) for uid in range(5000))
    assert len(refusals._users) <= 1000
