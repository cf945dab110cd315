from __future__ import annotations

import numpy as np
import pytest

from scheduler.report import spread
from tests import builders, reports


def test_quantiles_are_those_of_each_sides_samples() -> None:
    own, other = spread.spreads(reports.legs())
    assert (own.side, other.side, own.samples, other.samples) == ("strategy", "baseline", 200, 200)
    wanted = np.quantile([10_000_000 + n * 20_000 for n in range(100)] * 2, 0.9) / 1e9
    assert own.at(0.9) == pytest.approx(wanted)
    assert other.at(0.9) == pytest.approx(2 * wanted)


def test_a_sample_too_small_for_a_quantile_has_none() -> None:
    own, _ = spread.spreads(reports.legs(calls=40))
    assert own.at(0.9) is not None  # 80 samples, 64 needed
    assert own.at(0.95) is None  # 130 needed


def test_rounds_that_were_disturbed_do_not_count_where_there_are_others() -> None:
    good = [builders.leg(position=n, samples_ns=[1_000_000] * 20) for n in (0, 1)]
    bad = [builders.leg(round=1, position=0, samples_ns=[9_000_000] * 20, disturbed=("load",)),
           builders.leg(round=1, position=1, samples_ns=[9_000_000] * 20)]  # fmt: skip
    own, other = spread.spreads([*good, *bad])
    assert (own.at(0.5), other.at(0.5)) == (0.001, 0.001)
    assert (own.disturbed_legs, other.disturbed_legs, other.legs) == (0, 1, 2)
    assert spread.spreads(bad)[0].at(0.5) == 0.009


def test_many_operations_in_a_sample_are_told_apart() -> None:
    (one,) = spread.spreads([builders.leg(position=1, samples_ns=[1_000_000] * 20, repeats=100)])
    assert one.at(0.5) == pytest.approx(1e-5)


def test_nothing_stored_has_no_spread() -> None:
    assert spread.spreads([]) == ()
