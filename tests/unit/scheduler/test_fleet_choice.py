from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from scheduler import choose, fleet_choice
from scheduler.across import Where
from scheduler.compare import Comparison
from scheduler.demands import Limit
from scheduler.fleet_choice import FleetChoice
from scheduler.measures import OBJECTIVES
from tests.unit.scheduler.decisions import BASE_S, BF16, BIG, INT8, OLD, PRUNED, loss, near, plotted, row, throughput

LATENCY = OBJECTIVES["latency"]


def fleet(
    *rows: Comparison, hosts: dict[Where, int] | None = None, limits: tuple[Limit, ...] = (), free: bool = False
) -> FleetChoice:
    choices = choose.choose(plotted(*rows), LATENCY, limits)
    (found,) = fleet_choice.choose(choices, LATENCY, hosts or {}, free_layout=free)
    return found


THREE = (  # BF16 never wins; INT8 wins on one machine and loses much on the other
    *(row(INT8, 4.0), row(INT8, 1.0, where=OLD)),
    *(row(BF16, 3.2), row(BF16, 1.6, where=OLD)),
    *(row(PRUNED, 1.0), row(PRUNED, 2.0, where=OLD)),
)


def test_the_least_worst_regret_may_be_of_a_configuration_that_wins_nowhere() -> None:
    found = fleet(*THREE)
    assert found.minimax is not None
    assert found.minimax.configuration.strategy == BF16
    assert found.minimax.worst == near(0.25)
    assert {where: cell.regret for where, cell in found.minimax.cells.items()} == pytest.approx({BIG: 0.25, OLD: 0.25})
    assert [(one.configuration.strategy, one.worst) for one in found.candidates] == [
        (BF16, near(0.25)),
        (INT8, near(1.0)),
        (PRUNED, near(3.0)),
    ]


def test_many_hosts_of_one_kind_outweigh_the_worst_case() -> None:
    found = fleet(*THREE, hosts={BIG: 9, OLD: 1})
    assert found.weighted is not None
    assert (found.weighted.configuration.strategy, found.weighted.mean) == (INT8, near(0.1))
    assert found.minimax is not None
    assert found.minimax.configuration.strategy == BF16


def test_a_configuration_that_is_no_worse_anywhere_by_its_intervals_ties() -> None:
    found = fleet(row(INT8, 2.0), row(INT8, 2.0, where=OLD), row(BF16, 1.97), row(BF16, 1.97, where=OLD))
    assert [one.configuration.strategy for one in found.ties] == [BF16]
    assert found.candidates[1].cells[BIG].tied


def test_what_is_missing_or_not_allowed_somewhere_is_no_candidate_and_is_said() -> None:
    limit = Limit(name="accuracy_loss", most=0.005)
    found = fleet(
        row(INT8, 4.0, accuracy=loss(0.1)),
        row(INT8, 4.0, where=OLD, accuracy=loss(0.9)),  # int8 kernels differ by hardware
        row(BF16, 2.0, accuracy=loss(0.1)),
        row(BF16, 2.0, where=OLD, accuracy=loss(0.1)),
        limits=(limit,),
    )
    assert [one.configuration.strategy for one in found.candidates] == [BF16]
    assert [(one.configuration.strategy, one.where) for one in found.missing] == [(INT8, (OLD,))]


def test_nothing_in_common_leaves_no_choice() -> None:
    found = fleet(row(INT8), row(BF16, where=OLD))
    assert (found.minimax, found.weighted) == (None, None)
    assert len(found.missing) == 2


def test_threads_may_be_each_machines_own_where_that_is_asked_for() -> None:
    rows = (row(INT8, 2.0, threads=1), row(INT8, 2.0, threads=4, where=OLD))
    assert fleet(*rows).minimax is None
    found = fleet(*rows, free=True).minimax
    assert found is not None
    assert [cell.point.configuration.threads for cell in found.cells.values()] == [1, 4]


def test_one_machine_is_no_fleet() -> None:
    choices = choose.choose(plotted(row(), row(BF16)), LATENCY, ())
    assert fleet_choice.choose(choices, LATENCY, {}) == []


def test_the_regret_of_a_rate_is_what_the_best_has_more() -> None:
    objective = OBJECTIVES["throughput"]
    rows = [throughput(INT8, 100.0), throughput(BF16, 80.0)]
    rows += [throughput(INT8, 50.0, where=OLD), throughput(BF16, 40.0, where=OLD)]
    (found,) = fleet_choice.choose(choose.choose(plotted(*rows), objective, ()), objective, {})
    assert [one.worst for one in found.candidates] == [0.0, near(0.25)]


gains = st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(gains, min_size=1, max_size=6), st.lists(st.integers(1, 20), min_size=3, max_size=3))
def test_regrets_are_those_of_all_pairs_tried(found: list[list[float]], weights: list[int]) -> None:
    platforms: list[Where] = [(f"h{number}", "s") for number in range(3)]
    rows = [
        row(f"s{number}", gain, where=where)
        for number, own in enumerate(found)
        for where, gain in zip(platforms, own, strict=True)
    ]
    choice = fleet(*rows, hosts=dict(zip(platforms, weights, strict=True)))

    latencies = [[BASE_S / gain for gain in own] for own in found]
    least = [min(column) for column in zip(*latencies, strict=True)]
    regrets = [[own / best - 1 for own, best in zip(line, least, strict=True)] for line in latencies]
    means = [sum(w * r for w, r in zip(weights, line, strict=True)) / sum(weights) for line in regrets]
    assert choice.minimax is not None
    assert choice.weighted is not None
    assert choice.minimax.worst == near(min(map(max, regrets)), 1e-9)
    assert choice.weighted.mean == near(min(means), 1e-9)
    assert {one.configuration.strategy: near(one.worst, 1e-9) for one in choice.candidates} == {
        f"s{number}": max(line) for number, line in enumerate(regrets)
    }
