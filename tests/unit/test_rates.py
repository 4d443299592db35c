"""Token buckets: honest clients never meet them, and nobody passes them for long."""

from __future__ import annotations

import pytest

from odc.api.rates import FETCHES, QUESTIONS, REQUESTS, Rate, Rates
from odc.domain.access import Principal
from odc.domain.errors import RateLimited

ADA = Principal(id="unix:1000", user="ada")
BEN = Principal(id="unix:1001", user="ben")
ROOT = Principal(id="unix:0", user="root", admin=True)


class Clock:
    """Seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, caller: Principal, rate: Rate, most: int) -> int:
    """How many messages pass in a row."""
    for number in range(most):
        try:
            rates.take(caller, rate)
        except RateLimited:
            return number
    return most


@pytest.mark.parametrize("rate", [QUESTIONS, REQUESTS, FETCHES])
def test_a_burst_passes_and_then_as_many_as_come_back(rate: Rate) -> None:
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, ADA, rate, 10**5) == rate.burst
    assert taken(rates, BEN, rate, 10**5) == rate.burst
    clock.now += 10 / rate.per_s + 1e-6
    assert taken(rates, ADA, rate, 10**5) == 10


def test_who_comes_back_when_told_is_served() -> None:
    clock = Clock()
    rates = Rates(clock)
    taken(rates, ADA, FETCHES, 10**5)
    with pytest.raises(RateLimited, match="ada asks too often; try again in 180 s") as caught:
        rates.take(ADA, FETCHES)
    clock.now += caught.value.retry_after_s + 1e-6
    rates.take(ADA, FETCHES)


def test_operators_have_no_rate() -> None:
    assert taken(Rates(Clock()), ROOT, REQUESTS, 5000) == 5000


def test_a_day_of_many_terminals_editors_and_scripts_is_within_the_rate() -> None:
    """Twenty terminals with `--watch`, three questions each; and a script that reserves and cancels all day."""
    clock = Clock()
    rates = Rates(clock)
    for second in range(0, 8 * 3600, 2):
        clock.now = float(second)
        for _ in range(20 * 3):
            rates.take(ADA, QUESTIONS)
        rates.take(ADA, REQUESTS)
        if second % 3600 == 0:
            for _ in range(100):
                rates.take(ADA, REQUESTS)


def test_buckets_that_are_full_again_are_forgotten() -> None:
    clock = Clock()
    rates = Rates(clock)
    for number in range(30_000):
        clock.now += 0.01
        rates.take(Principal(id=f"unix:{number}", user="x"), QUESTIONS)
    assert len(rates._buckets) <= 10_000
