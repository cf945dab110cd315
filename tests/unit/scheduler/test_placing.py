from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from scheduler import placing, transfer
from scheduler.across import across
from scheduler.placing import Model, Table
from scheduler.transfer import Gains
from storage import records
from storage.views import ResultView
from tests import chains, fleets

Numbers = npt.NDArray[np.float64]


def model(covariance: list[list[float]], noise: float = 0.0) -> Model:
    found = np.array(covariance, dtype=np.float64)
    return Model(mean=np.zeros(len(found)), covariance=found, noise=np.full(len(found), noise))


def table(logs: Numbers, noise: float = 1e-4) -> Table:
    return Table(logs=logs, noise=np.where(np.isnan(logs), np.nan, noise))


def fleet(random: np.random.Generator, hosts: int, cases: int, factors: int, noise: float = 0.03) -> Table:
    """Hosts whose log gains follow a few hidden properties of a machine, to unlike degrees."""
    weights = random.normal(0, 1, (factors, cases)) * random.exponential(0.3, cases)
    logs = random.normal(0.7, 0.3, cases) + random.normal(0, 1, (hosts, factors)) @ weights
    return table(logs + random.normal(0, noise, logs.shape), noise**2)


def test_the_case_that_tells_most_about_the_others_comes_first() -> None:
    # the last one has the most variance, but goes with nothing
    covariance = [[1.0, 0.9, 0.9, 0.0], [0.9, 1.0, 0.9, 0.0], [0.9, 0.9, 1.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
    assert placing.choose(model(covariance), 2) == [0, 3]


def test_a_case_that_cannot_be_measured_well_tells_less() -> None:
    one = model([[1.0, 0.8], [0.8, 1.0]])
    noisy = Model(mean=one.mean, covariance=one.covariance, noise=np.array([2.0, 0.0]))
    assert placing.choose(noisy, 1) == [1]


def test_no_more_cases_are_chosen_than_there_are() -> None:
    assert sorted(placing.choose(model([[1.0, 0.5], [0.5, 1.0]]), 9)) == [0, 1]


def test_a_prediction_is_the_normal_distributions_conditional_mean() -> None:
    found = placing.predict(model([[1.0, 0.5], [0.5, 1.0]], noise=0.25), [0], np.array([1.0, np.nan]))
    assert found.tolist() == [1.0, pytest.approx(0.5 / 1.25)]


def test_greedy_reductions_are_those_of_the_conditional_covariance() -> None:
    random = np.random.default_rng(2)
    root = random.normal(size=(6, 6))
    covariance, noise = root @ root.T, 0.3
    chosen = placing.choose(model(covariance.tolist(), noise), 2)

    def left(at: list[int]) -> float:
        own = covariance[np.ix_(at, at)] + noise * np.eye(len(at))
        return float(np.trace(covariance - covariance[:, at] @ np.linalg.solve(own, covariance[at, :])))

    assert left(chosen[:1]) == pytest.approx(min(left([at]) for at in range(6)))
    assert left(chosen) == pytest.approx(min(left([chosen[0], at]) for at in range(6) if at != chosen[0]))


def test_shrinking_follows_the_oracle_approximation() -> None:
    random = np.random.default_rng(4)
    rows = random.normal(size=(6, 1)) @ random.normal(size=(1, 4)) + 0.2 * random.normal(size=(6, 4))
    centred = rows - rows.mean(axis=0)
    n, p = 5, 4
    sample = centred.T @ centred / n
    trace, square = np.trace(sample), np.trace(sample @ sample)
    share = min(1.0, ((1 - 2 / p) * square + trace**2) / ((n + 1 - 2 / p) * (square - trace**2 / p)))
    expected = (1 - share) * sample + share * trace / p * np.eye(p)
    assert placing.shrunk(centred) == pytest.approx(expected)
    assert 0 < share < 1


def test_shrinking_brings_the_covariance_of_few_hosts_nearer_to_the_true_one() -> None:
    random = np.random.default_rng(6)
    truth = np.diag([2.0, 1.0, 0.5, 0.2, 0.1])
    errors = np.zeros(2)
    for _ in range(200):
        rows = random.multivariate_normal(np.zeros(5), truth, 5)
        centred = rows - rows.mean(axis=0)
        for at, found in enumerate((placing.shrunk(centred), centred.T @ centred / 4)):
            errors[at] += float(((found - truth) ** 2).sum())
    assert errors[0] < 0.8 * errors[1]


def test_two_hosts_tell_nothing_of_how_cases_go_together() -> None:
    found = placing.shrunk(np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, -0.5]]))
    assert found == pytest.approx(np.eye(3) * np.trace(found) / 3)


def test_equal_hosts_leave_no_variance_and_no_error() -> None:
    logs = np.tile(np.array([0.5, 1.0, 1.5]), (5, 1))
    (found,) = placing.left_out(table(logs), [[at] for at in range(5)], [1])
    assert (found.chosen, found.at_random, found.mean_of_others) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("hosts", [5, 10])
def test_chosen_cases_beat_random_ones_and_the_mean_of_other_hosts(hosts: int) -> None:
    random = np.random.default_rng(hosts)
    found = [
        placing.left_out(fleet(random, hosts, 24, 2), [[at] for at in range(hosts)], [3], seed=run)[0]
        for run in range(12)
    ]
    chosen, at_random, mean = (
        float(np.mean([math.log1p(getattr(one, name)) for one in found]))
        for name in ("chosen", "at_random", "mean_of_others")
    )
    assert chosen < 0.85 * at_random
    assert at_random < mean


def test_where_cases_do_not_go_together_nothing_is_gained_over_the_mean_but_what_is_measured() -> None:
    random = np.random.default_rng(9)
    logs = random.normal(0.5, 0.3, (8, 30))
    (found,) = placing.left_out(table(logs), [[at] for at in range(8)], [3])
    assert found.chosen <= 1.1 * found.mean_of_others


def test_hosts_that_lack_cases_are_predicted_where_they_can_be() -> None:
    random = np.random.default_rng(10)
    logs = fleet(random, 6, 12, 1).logs
    logs[random.random(logs.shape) < 0.2] = np.nan
    logs[1:, 0] = np.nan  # one host alone has the first case
    (found,) = placing.left_out(table(logs), [[at] for at in range(6)], [2])
    assert found.cells == int((~np.isnan(logs[:, 1:])).sum())
    assert found.chosen < found.mean_of_others


STRATEGIES = ("torch/bf16", "torch/int8-dynamic", "onnxruntime/fp32", "onnxruntime/int8-dynamic")


def machine(number: int, **software: str) -> records.Platform:
    changed = fleets.packages(**software) if software else None
    return fleets.platform(f"AMD EPYC {7000 + number}", software=changed)


def known(platforms: list[records.Platform], seed: int = 1) -> Gains:
    random = np.random.default_rng(seed)
    weights = random.normal(0.2, 0.3, len(STRATEGIES))
    views: list[ResultView] = []
    for where in platforms:
        logs = 0.7 + random.normal() * weights
        views += [
            fleets.latency(where, math.exp(log), strategy=strategy)
            for strategy, log in zip(STRATEGIES, logs, strict=True)
        ]
    return transfer.gains(across(chains.compared(views), platforms))


def test_each_choice_leaves_less_than_the_one_before() -> None:
    found = placing.first(known([machine(number) for number in range(4)]), 3)
    assert len({choice.case for choice in found}) == 3
    assert [choice.hosts for choice in found] == [4, 4, 4]
    assert 1 > found[0].left > found[1].left > found[2].left >= 0
    assert found[0].uncertainty > found[2].uncertainty


def test_three_hardware_make_a_choice_and_four_a_check() -> None:
    for number, chosen, checked in ((2, 0, 0), (3, 2, 0), (4, 2, 1)):
        gains = known([machine(at) for at in range(number)])
        assert len(placing.first(gains, 2)) == chosen
        assert len(placing.check(gains, [2])) == checked


def test_platforms_of_one_hardware_are_left_out_together() -> None:
    platforms = [*(machine(at) for at in range(4)), machine(0, torch="2.12.1")]
    gains = known(platforms)
    (found,) = placing.check(gains, [1])
    assert (found.hardware, found.cells) == (4, 20)
