from __future__ import annotations

import math

import pytest
import scipy.stats

from benchmarks import precision
from benchmarks.precision import Process, Stated


def test_the_seconds_to_a_precision_buy_just_enough_units() -> None:
    seconds = precision.seconds_to(0.02, variance=0.0025, unit_s=10.0)

    units = round(seconds / 10.0)
    assert precision.width(units, 0.0025) <= 0.02 < precision.width(units - 1, 0.0025)


def test_the_width_is_that_of_a_two_sample_t_interval() -> None:
    base, own = [1.0, 1.2, 1.1, 1.5], [0.3, 0.2, 0.6, 0.5]
    variance = precision.unit_variance([[base], [own]])

    low, high = scipy.stats.ttest_ind(base, own).confidence_interval(0.95)

    assert precision.width(4, variance) == pytest.approx((high - low) / 2)


def test_what_is_judged_is_no_part_of_its_truth() -> None:
    far, near = Stated(mean=1.0, half=0.1, seconds=1.0), Stated(mean=0.0, half=0.1, seconds=1.0)

    assert precision.pooled([far, near], without=far) == pytest.approx(0.0)
    assert not far.holds(precision.pooled([far, near], without=far))


def test_values_are_means_over_a_tenth_of_a_second_three_of_each_process() -> None:
    process = Process(calls_s=(0.06, 0.05, 0.04, 0.07, 0.1, 0.2, 0.3), wall_s=5.0)

    assert process.values == pytest.approx([math.log(0.055), math.log(0.055), math.log(0.1)])
