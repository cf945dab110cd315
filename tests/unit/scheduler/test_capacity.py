from __future__ import annotations

import dataclasses
from typing import Any

from scheduler.capacity import Capacity, capacity
from scheduler.compare import Comparison
from scheduler.demands import Limit
from tests.unit.scheduler.decisions import BF16, BIG, INT8, OLD, machine, names, near, plotted, row, served, throughput

P95 = Limit(name="latency_p95", most=0.020)
MACHINES = {BIG: machine(BIG, cores=4, price=0.40), OLD: machine(OLD, cores=2, price=0.10)}


def rent(*rows: Comparison, load: float = 500.0, limits: tuple[Limit, ...] = (P95,), **given: Any) -> Capacity:
    (found,) = capacity(plotted(*rows), load, limits, given.pop("machines", MACHINES), **given)
    return found


def test_the_machines_that_carry_a_load_are_counted_and_the_cheapest_comes_first() -> None:
    found = rent(served(200.0), served(60.0, where=OLD))
    assert [(one.machine.where, one.hosts, one.total) for one in found.offers] == [
        (OLD, 9, near(0.90)),
        (BIG, 3, near(1.20)),
    ]
    assert {one.evidence for one in found.offers} == {"server"}
    assert not found.unlike


def test_hosts_are_counted_by_the_rates_lower_end_and_ties_by_its_upper_end() -> None:
    found = rent(throughput(rate=101.0, latency_p95_s=0.01), throughput(rate=30.0, latency_p95_s=0.01, where=OLD))
    old, big = found.offers
    assert (big.hosts, big.hosts_least) == (6, 5)  # 98.98 to 103.02
    assert (old.total, big.total) == (near(1.8), near(2.4))
    assert found.ties == ()
    close = rent(throughput(rate=101.0, latency_p95_s=0.01), throughput(rate=25.4, latency_p95_s=0.01, where=OLD))
    assert [one.total_least for one in close.ties] == [near(2.0)]


def test_of_a_machines_configurations_the_fastest_that_keeps_the_limits_counts() -> None:
    late = served(900.0, strategy=BF16, latency_p95_s=0.050)
    assert names([rent(late, served(100.0)).offers[0].judged]) == [INT8]


def test_a_higher_rate_that_is_not_shown_to_keep_the_limits_is_named_beside_the_offer() -> None:
    faster = throughput(BF16, 200.0, latency_p95_s=0.019, latency_p95_high_s=0.021)
    found = rent(faster, throughput(INT8, 100.0, latency_p95_s=0.01))
    assert names([found.offers[0].judged]) == [INT8]
    assert names(found.unshown) == [BF16]


def test_requests_that_came_at_random_count_before_instances_that_never_rest() -> None:
    found = rent(served(100.0), throughput(rate=900.0, latency_p95_s=0.01))
    (offer,) = found.offers
    assert (offer.evidence, offer.rate, offer.interval) == ("server", near(100.0), None)
    assert "no interval" in offer.notes[0]


def test_instances_that_never_rest_are_said_to_give_the_least_number() -> None:
    found = rent(throughput(rate=100.0, latency_p95_s=0.01), served(100.0, where=OLD))
    assert [one.evidence for one in found.offers] == ["server", "busy"]
    assert found.unlike


def test_a_given_rate_is_what_was_seen_and_may_not_be_all() -> None:
    (offer,) = rent(served(50.0, label="50/s")).offers
    assert offer.hosts == 10
    assert "it may be able to do more" in offer.notes[0]


def test_one_callers_latency_is_no_rate_of_a_machine_unless_that_is_asked_for() -> None:
    found = rent(row(INT8, 4.0))
    assert found.offers == ()
    assert found.withheld == {BIG: "only latency was measured there, which is no rate of the whole machine"}
    (offer,) = rent(row(INT8, 4.0), extrapolate=True).offers
    assert (offer.evidence, offer.instances) == ("extrapolated", 4)
    assert offer.rate == near(800.0)  # 4 cores × 1 ÷ 5 ms
    assert offer.notes[-1] == "as if 4 processes side by side took nothing from one another"


def test_threads_of_one_caller_take_their_cores() -> None:
    (offer,) = rent(row(INT8, 4.0, threads=3), extrapolate=True).offers
    assert (offer.instances, offer.rate) == (1, near(200.0))


def test_an_overloaded_server_offers_nothing_and_the_nearest_say_what_they_miss() -> None:
    nothing: dict[str, Any] = {"gain": None, "latency_p50_s": None, "latency_p95_s": None}
    overloaded = dataclasses.replace(served(50.0, label="50/s"), **nothing, marks=("overloaded",))
    found = rent(overloaded, served(100.0, where=OLD, latency_p95_s=0.021))
    assert found.offers == ()
    assert [one.missed for one in found.nearest] == [
        ("p95 21.0 ms > 20.0 ms (+5 %)",),
        ("p95 unknown: overloaded",),
    ]
    assert "the nearest" in found.withheld[OLD]
    unlimited = rent(overloaded, limits=())
    assert unlimited.withheld[BIG] == "no rate was found there: overloaded, or the search found none"
    assert unlimited.nearest == ()


def test_without_prices_the_fewest_hosts_come_first() -> None:
    machines = {BIG: machine(BIG), OLD: machine(OLD)}
    found = rent(served(60.0), served(200.0, where=OLD), machines=machines)
    assert [(one.machine.where, one.hosts, one.total) for one in found.offers] == [(OLD, 3, None), (BIG, 9, None)]


def test_each_model_and_length_is_a_load_of_its_own() -> None:
    rows = (served(100.0), served(20.0, input="b1×l128, 2 instances, p95 ≤ 20 ms", length=128))
    found = capacity(plotted(*rows), 500.0, (P95,), MACHINES)
    assert [(one.request.name, one.offers[0].hosts) for one in found] == [("minilm, l16", 5), ("minilm, l128", 25)]
