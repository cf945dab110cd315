"""What the soak calls a leak, and what it does not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from scipy import stats

from tests.soak import trend
from tests.soak.findings import DESCRIPTORS, MEMORY, MIB, Growth
from tests.soak.trend import Point

NOISE = 0.3 * MIB


def life(
    minutes: float,
    *,
    hourly: float = 0.0,
    noise: float = NOISE,
    born: float = 0.0,
    base: float = 80 * MIB,
    seed: int = 1,
) -> list[Point]:
    """A process's memory every 5 s: 20 MiB more in its first half minute, then a slope and noise."""
    draw = random.Random(seed)
    ages = [5.0 * number for number in range(int(12 * minutes))]
    warm = [min(1.0, age / 30) * 20 * MIB for age in ages]
    return [
        (born + age, base + up + hourly * age / 3600 + draw.gauss(0, noise)) for age, up in zip(ages, warm, strict=True)
    ]


def verdict(lives: list[list[Point]]) -> str | None:
    return Growth(within=trend.within(lives), between=trend.between(lives), bound=MEMORY).verdict


def test_two_hours_tell_a_leak_of_8_mib_an_hour_from_none() -> None:
    assert verdict([life(120)]) == "flat"
    assert verdict([life(120, hourly=8 * MIB)]) == "grows"


def test_five_minutes_tell_a_leak_of_60_mib_an_hour_and_leave_small_ones_open() -> None:
    assert verdict([life(5, hourly=60 * MIB)]) == "grows"
    assert {verdict([life(5, seed=seed)]) for seed in range(20)} <= {"flat", "open"}


def test_lives_of_a_minute_and_a_half_tell_together_what_none_tells_alone() -> None:
    lives = [life(2.2, hourly=120 * MIB, born=200.0 * number, noise=MIB, seed=number) for number in range(12)]
    assert verdict(lives[:1]) in {"open", "flat"}
    assert verdict(lives) == "grows"


def test_what_a_process_takes_in_its_first_minutes_and_single_outliers_are_no_leak() -> None:
    high = life(120)
    for number in range(40, len(high), 97):
        high[number] = (high[number][0], 900 * MIB)
    assert verdict([high]) == "flat"


def test_a_short_life_says_nothing() -> None:
    assert verdict([life(1)]) is None
    assert trend.within([]) is None


@pytest.mark.parametrize(("step", "wanted"), [(3 * MIB, "grows"), (0.0, "flat")])
def test_each_process_larger_than_the_last_one_is_a_leak_too(step: float, wanted: str) -> None:
    lives = [life(1, born=300.0 * number, base=(80 * MIB) + step * number, seed=number) for number in range(24)]
    assert trend.within(lives) is None
    assert verdict(lives) == wanted


def test_descriptors_are_counted_one_by_one() -> None:
    def growth(of: Callable[[float], float]) -> str | None:
        points = [(5.0 * number, of(5.0 * number)) for number in range(12 * 120)]
        return Growth(within=trend.within([points]), between=None, bound=DESCRIPTORS).verdict

    assert growth(lambda _: 17) == "flat"
    assert growth(lambda at_s: 17 + (int(at_s) // 60) % 2) == "flat"
    assert growth(lambda at_s: 17 + at_s // 300) == "grows"


def test_the_slope_and_its_interval_are_those_of_sen_for_one_series() -> None:
    points = trend.blocks(life(20, hourly=50 * MIB))
    found = trend.slope([points])
    assert found is not None
    slope, _, low, high = stats.theilslopes([value for _, value in points], [at for at, _ in points], 0.95)
    assert (found.slope, found.low, found.high) == pytest.approx((3600 * slope, 3600 * low, 3600 * high), rel=0.02)


def test_the_interval_of_several_series_covers_at_its_rate() -> None:
    draw = random.Random(5)

    def covers() -> bool:
        series = [[(float(at), 2.0 * at + draw.gauss(0, 5)) for at in range(size)] for size in (6, 9, 12)]
        found = trend.slope(series)
        assert found is not None
        return found.low <= 2.0 * 3600 <= found.high

    assert 0.92 <= sum(covers() for _ in range(500)) / 500 <= 0.985
