from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from storage.multiple_testing import benjamini_hochberg


@pytest.mark.parametrize("size", [1, 2, 17, 400])
def test_adjusted_p_values_equal_scipys(size: int) -> None:
    p = np.random.default_rng(size).uniform(size=size) ** 3
    assert benjamini_hochberg(p.tolist()) == pytest.approx(scipy.stats.false_discovery_control(p, method="bh"))


def test_equal_p_values_and_no_test_at_all_are_no_exception() -> None:
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([0.04, 0.04, 0.04]) == pytest.approx([0.04] * 3)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        benjamini_hochberg([0.5, p])


@pytest.mark.parametrize("shared", [0.0, 0.5], ids=["independent", "positively dependent"])
@pytest.mark.parametrize(("tests", "true"), [(20, 5), (60, 6), (40, 0)])
def test_the_false_share_of_what_is_found_keeps_its_rate_in_mixtures(tests: int, true: int, shared: float) -> None:
    rng = np.random.default_rng(1)
    wrong, found = [], 0
    for _ in range(1500):
        common = rng.normal() * shared**0.5
        z = common + rng.normal(size=tests) * (1 - shared) ** 0.5 + 3.2 * (np.arange(tests) < true)
        adjusted = np.array(benjamini_hochberg(scipy.stats.norm.sf(z).tolist()))
        rejected = adjusted <= 0.1
        wrong.append(rejected[true:].sum() / max(1, rejected.sum()))
        found += int(rejected[:true].sum())
    assert np.mean(wrong) <= 0.1 + 2 * np.std(wrong) / 1500**0.5
    assert found >= 0.5 * 1500 * true  # and it is no test that never finds anything
