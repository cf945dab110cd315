from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from storage import hosts, lifecycle, records
from storage.database import Database
from tests import builders, commands, fleets
from tests.commands import Ended

NEW, OLD = fleets.OLD, fleets.OLD_TORCH  # one hardware with torch 2.13.0 and 2.12.1
INT8, BASELINE = "torch/int8-dynamic", "torch/fp32"

Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`quantfleet compare …` as a person runs it."""

    return lambda *argv: commands.run(monkeypatch, capsys, "compare", *argv, COLUMNS="80")


def legs(milliseconds: float, pairs: int, noise: float, baseline_ms: float) -> list[records.Leg]:
    rng = np.random.default_rng(int(milliseconds * 1000))
    sides = (("baseline", baseline_ms), ("strategy", milliseconds))
    return [
        builders.leg(
            pair=pair, position=place, side=side, items=1,
            samples_ns=[round(1e6 * time * float(np.exp(rng.normal(0, noise))))] * 4,
        )
        for pair in range(pairs)
        for place, (side, time) in enumerate(sides)
    ]  # fmt: skip


def measure(
    db: Database,
    study: str,
    where: records.Platform,
    milliseconds: float,
    *,
    case: records.Case | None = None,
    pairs: int = 6,
    noise: float = 0.004,
    replica: int = 0,
    baseline_ms: float = 10.0,
    **changes: Any,
) -> str:
    """A latency of a study, with the samples that gave it."""
    held = claim(db, study, where, case or builders.case(), replica)
    gain = records.Interval(value=10 / milliseconds, low=9.9 / milliseconds, high=10.1 / milliseconds)
    given = {"gain": gain, "strategy": builders.side(INT8, milliseconds / 1000), "flags": (), **changes}
    assert lifecycle.finish(db, held, builders.latency(**given), legs(milliseconds, pairs, noise, baseline_ms))
    return held.job_id


def claim(db: Database, study: str, where: records.Platform, case: records.Case, replica: int = 0) -> records.Claim:
    hosts.register(db, name="here", platform=where)
    text = lifecycle.StudyText(name=study, text=f"name: {study}")
    (job_id,) = lifecycle.submit(db, study=text, jobs=[builders.planned(case, where.key, replica)]).new
    held = lifecycle.claim(db, job_id, host="here", platform_key=where.key, lease=60)
    assert held is not None
    return held


@pytest.fixture
def upgraded(sqlite: str) -> str:
    """Two cases under torch 2.12 (study main) and 2.13 (study pr-7): one is 10 % slower now, one as it was."""
    with Database.open(sqlite) as db:
        for study, where, slow in (("main", OLD, 4.0), ("pr-7", NEW, 4.4)):
            measure(db, study, where, slow)
            measure(db, study, where, 3.0, case=builders.case(threads=2))
    return sqlite


def test_a_regression_ends_with_1_and_says_what_was_tested(upgraded: str, run: Run) -> None:
    ended = run("--database", upgraded, "--against", "main", "--fail-on-regression", "3%")
    assert ended.code == 1, ended.said
    for part in (
        "study main → study pr-7",
        "torch: 2.12.1 → 2.13.0",
        "4.00 → 4.40 ms",
        "✗ 1 of 2 cases, slower beside its baseline by more than 3 %: minilm, torch/int8-dynamic (b1×l16, 1 thread)",
        '✗ a regression: of "slower beside its baseline by 3 % at most" (one-sided, adjusted likewise) is rejected',
    ):
        assert part in ended.said
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("margin", ["15%", "15 %", "12.5%"])
def test_a_slowdown_within_the_margin_ends_with_0(upgraded: str, run: Run, margin: str) -> None:
    ended = run("--database", upgraded, "--against", "main", "--fail-on-regression", margin)
    assert ended.code == 0, ended.said
    assert "no case of 2 cases is shown to be slower beside its baseline by more than 1" in ended.said


@pytest.mark.parametrize(
    ("earlier", "code", "said"),
    [
        (OLD, 1, "by the machine, or by software that is theirs too"),
        (NEW, 0, "the software is the same, so it is the machine"),  # whose drift the two baselines show
    ],
)
def test_what_slows_down_the_baseline_too_is_a_longer_time_at_most(
    sqlite: str, run: Run, earlier: records.Platform, code: int, said: str
) -> None:
    with Database.open(sqlite) as db:
        measure(db, "main", earlier, 4.0)
        measure(db, "pr-7", NEW, 4.4, replica=1, baseline_ms=11.0)
    common = ("--database", sqlite, "--against", "main", "--fail-on-regression", "3%")
    gains, times = run(*common), run(*common, "--judge", "time")
    assert (gains.code, times.code) == (0, code)
    assert re.search(rf"baselines take \+(9|10)\.\d % now \(median of 1 case\): {said}", gains.said)


def test_without_a_gate_a_slowdown_is_told_and_the_command_succeeds(upgraded: str, run: Run) -> None:
    ended = run("--database", upgraded, "--study", "pr-7", "--against", "main")
    assert (ended.code, "✗" in ended.out) == (0, False)
    assert "%*" in ended.out


@pytest.mark.parametrize(
    "asked", [("--against-environment", "torch=2.12"), ("--against-environment", OLD.environment_key)]
)
def test_what_an_upgrade_changed_is_found_by_its_software(upgraded: str, run: Run, asked: tuple[str, str]) -> None:
    ended = run("--database", upgraded, *asked, "--fail-on-regression", "3%", "--json")
    document = json.loads(ended.out)
    assert (ended.code, document["failed"], document["regressions"], document["tested"]) == (1, True, 1, 2)
    assert document["software"][0]["changed"] == ["torch: 2.12.1 → 2.13.0", "kernel: 5.15 → 6.1"]
    slow, same = document["changes"]
    assert (slow["verdict"], slow["regression"], same["verdict"]) == ("worse", True, "no change shown")
    assert slow["time_ratio"] == pytest.approx(1.1, abs=0.01)
    assert slow["time_ratio_low"] < slow["time_ratio"] < slow["time_ratio_high"]
    assert (slow["sessions"], slow["earlier_sessions"], slow["earlier_gain"]) == (6, 6, 2.5)


def test_a_csv_has_the_same_numbers(upgraded: str, run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("--database", upgraded, "--against", "main", "--csv").out)))
    assert [row["verdict"] for row in rows] == ["worse", "no change shown"]


def test_a_slice_is_judged_by_itself(upgraded: str, run: Run) -> None:
    common = ("--database", upgraded, "--against", "main", "--fail-on-regression", "3%")
    assert run(*common, "--threads", "2").code == 0
    assert run(*common, "--threads", "1", "--input", "b1xl16").code == 1
    assert run(*common, "--hardware", NEW.environment_key[:8]).code == 1


def test_replicas_of_one_study_are_parted_by_a_day(sqlite: str, run: Run) -> None:
    with Database.open(sqlite) as db:
        measure(db, "nightly", NEW, 4.0)
        measure(db, "nightly", NEW, 4.4, replica=1)
    everything = run("--database", sqlite, "--against-before", "2999-01-01")
    assert (everything.code, "no result now" in everything.said) == (2, True)
    nothing = run("--database", sqlite, "--against-before", "2001-01-01")
    assert (nothing.code, "no result then" in nothing.said) == (2, True)


def test_a_case_that_fails_now_is_a_regression_and_one_that_is_new_is_told(upgraded: str, run: Run) -> None:
    with Database.open(upgraded) as db:
        other = builders.case(strategy="torch/bf16")
        measure(db, "main", OLD, 5.0, case=other)
        held = claim(db, "pr-7", NEW, other)
        lifecycle.fail(db, held, records.Failure(reason="error", message="no such operator"), final=True)
        measure(db, "pr-7", NEW, 5.0, case=builders.case(strategy="onnxruntime/fp32"))
    ended = run("--database", upgraded, "--against", "main", "--fail-on-regression", "15%")
    assert ended.code == 1
    assert "1 a number then, and a failure now: minilm, torch/bf16" in ended.said
    assert "a number then, none now: failed, no such operator" in ended.said
    assert "minilm, onnxruntime/fp32 (b1×l16, 1 thread): measured now only" in ended.said


def test_a_study_of_which_every_case_fails_now_does_not_pass(sqlite: str, run: Run) -> None:
    with Database.open(sqlite) as db:
        measure(db, "main", OLD, 5.0)
        failure = records.Failure(reason="error", message="no such operator")
        lifecycle.fail(db, claim(db, "pr-7", NEW, builders.case()), failure, final=True)
    assert run("--database", sqlite, "--against", "main", "--fail-on-regression", "3%").code == 1
    assert run("--database", sqlite, "--against", "main").code == 2


def test_an_accuracy_that_is_lost_is_a_regression_where_asked_for(upgraded: str, run: Run) -> None:
    with Database.open(upgraded) as db:
        for study, where, wrong in (("main", OLD, 0), ("pr-7", NEW, 12)):
            right = [1] * 200
            measured = builders.accuracy([0] * wrong + [1] * (200 - wrong), right)
            lifecycle.finish(db, claim(db, study, where, builders.case("accuracy")), measured, [])
    common = ("--database", upgraded, "--against", "main")
    lost = run(*common, "--fail-on-accuracy-loss", "0.5pt")
    assert lost.code == 1
    assert "✗ 1 accuracy lost, more than 0.5 points: minilm, torch/int8-dynamic by 6.0 points" in lost.said
    assert run(*common, "--fail-on-accuracy-loss", "8pt").code == 0
    without = run(*common, "--fail-on-accuracy-loss", "8pt", "--kind", "latency")
    assert (without.code, "so that no loss of accuracy can be ruled out" in without.err) == (2, True)
    (change,) = json.loads(run(*common, "--json").out)["accuracies"]
    assert (change["verdict"], change["difference"], change["rows"]) == ("loses", -0.06, 200)


def test_too_few_sessions_can_rule_out_no_regression(sqlite: str, run: Run) -> None:
    with Database.open(sqlite) as db:
        measure(db, "main", OLD, 4.0, pairs=1)
        measure(db, "pr-7", NEW, 9.0)
    ended = run("--database", sqlite, "--against", "main", "--fail-on-regression", "3%")
    assert ended.code == 2
    assert "too few sessions then: 1 session in a job, 2 needed" in ended.said
    assert "nothing could be tested, so that no regression can be ruled out" in ended.err
    assert run("--database", sqlite, "--against", "main").code == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flags": ("disturbed",)}, "a number then, none now: left out, 1 disturbed result only; --include-disturbed"),
        ({"input_digest": "other"}, "not compared: the input differs (i1 then, other now)"),
    ],
)
def test_no_common_case_ends_with_2_and_says_why(sqlite: str, run: Run, changes: dict[str, Any], said: str) -> None:
    with Database.open(sqlite) as db:
        measure(db, "main", OLD, 4.0)
        measure(db, "pr-7", NEW, 4.4, **changes)
    ended = run("--database", sqlite, "--against", "main")
    assert (ended.code, ended.out) == (2, "")
    assert "study main → study pr-7: no case has a number on both sides" in ended.said
    assert said in ended.said


def test_disturbed_results_count_where_asked_for(sqlite: str, run: Run) -> None:
    with Database.open(sqlite) as db:
        measure(db, "main", OLD, 4.0)
        measure(db, "pr-7", NEW, 4.4, flags=("disturbed",))
    assert run("--database", sqlite, "--against", "main", "--include-disturbed").code == 0


def test_one_measurement_is_not_compared_with_itself(sqlite: str, run: Run) -> None:
    with Database.open(sqlite) as db:
        measure(db, "main", NEW, 4.0)
        text = lifecycle.StudyText(name="pr-8", text="name: pr-8")
        lifecycle.submit(db, study=text, jobs=[builders.planned(builders.case(), NEW.key)])
    ended = run("--database", sqlite, "--against", "main", "--study", "pr-8")
    assert (ended.code, "1 result belongs to both sides and tells no change" in ended.said) == (2, True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--against", "mian"), "--against: nothing is called 'mian'; did you mean 'main'?"),
        (("--against", "main", "--study", "pr-8"), "--study: nothing is called 'pr-8'; did you mean 'pr-7'?"),
        (("--against", "main", "--study", "main"), "--against main is the study itself"),
        (
            ("--against", "main", "--fail-on-regression", "3"),
            "--fail-on-regression '3': the unit is missing: expected a percentage with its sign",
        ),
        (("--against", "main", "--fail-on-regression=-3%"), "expected a percentage with its sign, such as 3%"),
        (
            ("--against", "main", "--fail-on-accuracy-loss", "1%"),
            "unknown unit '%' (units: pt, pp, points)",
        ),
        (("--against", "main", "--fdr", "5"), "--fdr 5: expected a share above 0 and up to 0.5"),
        (("--against", "main", "--judge", "gian"), "--judge: nothing is called 'gian'; did you mean 'gain'?"),
        (("--against", "main", "--over", "threads"), "--over says nothing of changes"),
        (("--fail-on-regression", "3%"), "--fail-on-regression wants --against STUDY"),
        (("--against-environment", "torch=2.14"), "no software has torch 2.14"),
        (("--against-before", "soon"), "--against-before soon: expected a day"),
        (("--against", "main", "--threads", "3"), "--threads: nothing is called '3'"),
        (("--over", "thread"), "--over: nothing is called 'thread'; did you mean 'threads'?"),
        (("--over", "threads", "--csv"), "--csv and --over exclude one another"),
        (("--over", "instances"), "--over instances: no result has any instances to tell apart"),
    ],
)
def test_what_cannot_be_asked_ends_with_2_and_what_would(
    upgraded: str, run: Run, argv: tuple[str, ...], message: str
) -> None:
    ended = run("--database", upgraded, *argv)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.said


def test_an_axis_on_the_columns_as_table_and_as_json(upgraded: str, run: Run) -> None:
    shown = run("--database", upgraded, "--over", "threads", "--hardware", NEW.environment_key[:8])
    assert shown.code == 0, shown.said
    assert "1 thread 2 threads range" in shown.said
    assert "×2.27* [2.25, 2.30] ×3.33* [3.30, 3.37] ×2.27–×3.33" in shown.said
    document = json.loads(run("--database", upgraded, "--over", "environment", "--json").out)
    (table,) = document["tables"]
    assert (document["over"], table["columns"]) == ("environment", ["torch 2.12.1", "torch 2.13.0"])
    assert [cell["gain"] for cell in table["sections"][0]["rows"][0]["cells"]] == pytest.approx([2.5, 10 / 4.4])


def test_both_kinds_of_database_tell_the_same(address: str, run: Run) -> None:
    with Database.open(address) as db:
        measure(db, "main", OLD, 4.0)
        measure(db, "pr-7", NEW, 4.4)
    assert run("--database", address, "--against", "main", "--fail-on-regression", "3%").code == 1
