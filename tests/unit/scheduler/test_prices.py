from __future__ import annotations

import dataclasses

import pytest

from scheduler import compare, prices
from storage import errors
from tests.factories import latency_view
from tests.unit.scheduler.fleet_hosts import host


def row(kind: str = "throughput", hosts: tuple[str, ...] = ("a",)) -> compare.Comparison:
    view = latency_view(kind=kind, throughput_per_s=100.0, baseline_throughput_per_s=50.0)
    (found,) = compare.compare([view], lambda _job: None)
    return dataclasses.replace(found, hosts=hosts)


def test_a_million_rows_cost_what_the_time_costs_that_they_take() -> None:
    (found,) = prices.priced([row()], {"a": 0.36})

    assert found.cost_per_million == pytest.approx(1.0)  # 10,000 s at 0.0001 a second
    assert found.baseline_cost_per_million == pytest.approx(2.0)


def test_where_a_host_has_no_price_or_one_caller_was_timed_there_is_no_cost() -> None:
    alone, mixed = prices.priced([row("latency"), row(hosts=("a", "b"))], {"a": 0.36})

    assert (alone.cost_per_million, mixed.cost_per_million) == (None, None)


def test_prices_are_labels_of_hosts() -> None:
    assert prices.prices([host("a", labels={"price": "0.34"}), host("b")]) == {"a": 0.34}


@pytest.mark.parametrize("text", ["cheap", "-1", "0", "nan", "inf"])
def test_a_price_that_is_no_positive_number_is_told(text: str) -> None:
    with pytest.raises(errors.SettingsError, match=f"host a has the label price={text}: expected what it costs"):
        prices.prices([host("a", labels={"price": text})])
