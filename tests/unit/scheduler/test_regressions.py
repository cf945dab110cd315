from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from scheduler import regressions
from scheduler.compare import Comparison, compare
from scheduler.regressions import Change, Rule
from scheduler.sessions import Session
from storage.estimates import Component
from tests.factories import latency_view


class Study:
    """Cases with sessions then and now: 4 ms against a baseline of 10 ms, 1 % of noise."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.known: dict[str, list[Session]] = {}
        self.pairs: list[tuple[Comparison, Comparison]] = []

    def case(
        self, slower: float = 0.0, *, both: float = 0.0, pairs: int = 8, jobs: int = 1, noise: float = 0.01
    ) -> None:
        """A case that got slower by a share, its baseline (and itself) by another one."""
        then = self._row(0.0, 0.0, pairs, jobs, noise)
        now = self._row(math.log1p(slower) + math.log1p(both), math.log1p(both), pairs, jobs, noise)
        self.pairs.append((then, now))

    def _row(self, shift: float, baseline_shift: float, pairs: int, jobs: int, noise: float) -> Comparison:
        views = [latency_view(strategy=f"s{len(self.pairs):03}") for _ in range(jobs)]
        for view in views:
            times = math.log(0.004) + shift + self.rng.normal(0, noise, pairs)
            others = math.log(0.010) + baseline_shift + self.rng.normal(0, noise, pairs)
            self.known[view.job_id] = [
                Session(pair=n, log_time=time, log_baseline=other)
                for n, (time, other) in enumerate(zip(times, others, strict=True))
            ]
        (row,) = compare(views, lambda job_id: None)
        return row

    def changes(self, rule: Rule, drift: float | None = None) -> tuple[Change, ...]:
        moved = {} if drift is None else {"hardware00000001": Component(variance=drift**2, df=20)}
        return regressions.changes(self.pairs, self._sessions, rule, moved)

    def _sessions(self, kind: str, job_id: str) -> Sequence[Session]:
        return self.known[job_id]


def test_a_slower_case_is_told_with_how_much_slower_and_its_gain() -> None:
    study = Study()
    study.case(0.10)
    (found,) = study.changes(Rule())
    assert (found.verdict, found.regression, found.sessions, found.earlier_sessions) == ("worse", False, 8, 8)
    assert found.time is not None
    assert found.gain is not None
    assert found.time.ratio == pytest.approx(1.10, abs=0.02)
    assert found.time.low < 1.10 < found.time.high
    assert found.gain.ratio == pytest.approx(1 / 1.10, abs=0.02)
    assert regressions.verdict(found.gain, "gain", 0.05) == "worse"


def test_a_regression_is_a_loss_beyond_the_margin_not_just_any_loss() -> None:
    study = Study()
    study.case(0.02, noise=0.002)
    study.case(0.08, noise=0.002)
    study.case(-0.08, noise=0.002)
    found = study.changes(Rule(margin=0.03))
    assert [(one.verdict, one.regression) for one in found] == [("worse", False), ("worse", True), ("better", False)]


def test_what_slows_down_both_sides_is_a_longer_time_but_no_smaller_gain() -> None:
    study = Study()
    study.case(both=0.10)
    (timed,), (gained,) = (study.changes(Rule(margin=0.03, judge=judge)) for judge in ("time", "gain"))
    assert (timed.verdict, timed.regression) == ("worse", True)
    assert (gained.verdict, gained.regression) == ("no change shown", False)
    assert gained.baseline_time is not None
    assert gained.baseline_time.ratio == pytest.approx(1.10, abs=0.02)


def test_the_drift_of_a_machine_counts_in_times_and_not_in_gains() -> None:
    study = Study()
    study.case(0.05)
    (plain,), (drifting,) = study.changes(Rule()), study.changes(Rule(), drift=0.04)
    assert plain.time is not None
    assert drifting.time is not None
    assert plain.time.p_adjusted < 0.05 < drifting.time.p_adjusted
    assert drifting.time.half_width > 3 * plain.time.half_width
    assert drifting.gain == plain.gain


def test_more_jobs_of_one_hour_do_not_average_the_drift() -> None:
    one, four = Study(), Study()
    one.case(0.05)
    four.case(0.05, jobs=4)
    widths = [found.time.half_width for study in (one, four) for found in study.changes(Rule(), 0.04) if found.time]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


@pytest.mark.parametrize("slowdown", [0.0, 0.03], ids=["nothing changed", "all are at the margin itself"])
def test_regressions_are_false_at_the_stated_rate_at_most(slowdown: float) -> None:
    wrong = []
    for seed in range(60):
        study = Study(seed)
        for _ in range(10):
            study.case(slowdown, pairs=6)
        wrong.append(any(one.regression for one in study.changes(Rule(fdr=0.1, margin=0.03))))
    assert np.mean(wrong) <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / 60)


def test_the_false_share_of_what_is_told_keeps_its_rate_and_true_regressions_are_found() -> None:
    shares, found = [], 0
    for seed in range(40):
        study = Study(seed)
        for number in range(12):
            study.case(0.08 if number < 4 else 0.03, pairs=6)
        told = [number for number, one in enumerate(study.changes(Rule(fdr=0.1, margin=0.03))) if one.regression]
        shares.append(sum(number >= 4 for number in told) / max(1, len(told)))
        found += sum(number < 4 for number in told)
    assert np.mean(shares) <= 0.1
    assert found >= 0.9 * 4 * 40


@pytest.mark.parametrize(
    ("pairs", "note"),
    [
        (1, "too few sessions then: 1 session in a job, 2 needed"),
        (0, "no sessions then: a search has none that compare, and a result without raw samples neither"),
    ],
)
def test_too_few_sessions_are_told_and_take_no_part_in_the_adjustment(pairs: int, note: str) -> None:
    study = Study()
    study.case(0.10)
    alone = study.changes(Rule(margin=0.03))
    study.case(0.10, pairs=pairs)
    tested, untested = study.changes(Rule(margin=0.03))
    assert (untested.verdict, untested.note, untested.time, untested.regression) == ("not tested", note, None, False)
    assert tested.time == alone[0].time


def test_an_overloaded_server_is_not_tested() -> None:
    study = Study()
    study.case()
    then, now = study.pairs[0]
    overloaded = latency_view(kind="server", gain=None, gain_low=None, gain_high=None, notes=("overloaded at 50/s",))
    (row,) = compare([overloaded], lambda job_id: None)
    study.known[overloaded.job_id] = study.known[now.job_ids[0]]
    study.pairs = [(then, row)]
    assert study.changes(Rule())[0].note == "no time and no gain now: overloaded at 50/s"


def test_cases_too_noisy_for_the_margin_are_counted() -> None:
    study, rule = Study(), Rule(margin=0.03)
    study.case(noise=0.2)
    study.case(noise=0.001)
    study.case(pairs=1)
    assert [one.later.strategy for one in regressions.blind(study.changes(rule), rule)] == ["s000"]
