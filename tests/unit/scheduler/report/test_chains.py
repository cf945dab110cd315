from __future__ import annotations

import math

import pytest

from scheduler.report import chains as drawn
from tests import chains


def test_each_machine_has_its_chain_whose_factors_multiply_to_the_gain_of_its_end() -> None:
    views = [*chains.chain(chains.DUAL), *chains.chain(chains.QUAD, factor=1.5, host="two")]
    found = drawn.waterfalls(chains.compared(views), [chains.DUAL, chains.QUAD])
    assert {one.platform_key for one in found} == {chains.DUAL.key, chains.QUAD.key}
    for one in found:
        assert len(one.steps) >= 2
        assert math.prod(step.factor for step in one.steps) == pytest.approx(one.steps[-1].product)
    ends = {one.platform_key: one.steps[-1].product for one in found}
    assert ends[chains.QUAD.key] == pytest.approx(1.5 * ends[chains.DUAL.key])


def test_a_single_gain_is_no_chain() -> None:
    only = [view for view in chains.chain(chains.SINGLE) if view.strategy in (chains.BASELINE, chains.STUDENT)]
    found = drawn.waterfalls(chains.compared(only[:2]), [chains.SINGLE])
    assert found == []
