"""How many requests a run of a search takes."""

from __future__ import annotations

from storage import records
from worker import serving
from worker.server_facts import requests_needed


def asked(bound_s: float, quantile: float) -> records.ServingSpec:
    return records.ServingSpec(bound_s=bound_s, quantile=quantile)


def test_a_run_holds_what_loadgen_asks_of_the_percentile_without_its_beginning() -> None:
    for quantile, samples in ((0.9, 64), (0.95, 130), (0.99, 662)):
        count = requests_needed(asked(0.02, quantile), rate=1.0)
        assert samples <= len(range(count)[serving.Served.settled_of(count)]) <= samples + 2


def test_a_run_is_long_enough_for_a_backlog_to_show() -> None:
    assert requests_needed(asked(0.03, 0.9), rate=3000.0) == 3000
