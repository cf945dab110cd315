from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler import scope, stored
from scheduler.cli import decide, decide_tables
from storage import errors, hosts, lifecycle, records
from storage.database import Database
from tests import builders, fleets

app = typer.Typer()
app.command("best")(decide.best)
app.command("pareto")(decide.show_pareto)

BASELINE, INT8, BF16 = "torch/fp32", "torch/int8-dynamic", "torch/bf16"
MACHINES = {"big": fleets.EPYC, "old": fleets.OLD_TORCH}
GAINS = {("big", INT8): 4.0, ("big", BF16): 3.2, ("old", INT8): 1.0, ("old", BF16): 1.6}
LOST = {INT8: 90, BF16: 2, BASELINE: 0}
"""Rows of 3000 that the strategy has wrong."""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def finish(db: Database, host: str, case: records.Case, measured: object) -> None:
    platform = MACHINES[host]
    jobs = [builders.planned(case, platform.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
    held = lifecycle.claim(db, job_id, host=host, platform_key=platform.key, lease=60)
    assert held is not None
    assert lifecycle.finish(db, held, measured, [])  # type: ignore[arg-type]


def latency(gain: float, flags: Sequence[str] = ()) -> records.LatencyMeasurement:
    """10 ms of the baseline ÷ the gain ± 2 %; percentiles ± 1 %."""
    times = {q: 0.010 / gain * (1 + q / 10) for q in (0.5, 0.9, 0.95)}
    found = tuple(records.Percentile(q=q, value_s=s, low_s=0.99 * s, high_s=1.01 * s) for q, s in times.items())
    return builders.latency(
        gain=records.Interval(value=gain, low=gain * 0.98, high=gain * 1.02),
        strategy=builders.side(percentiles=found),
        flags=tuple(flags),
    )


@pytest.fixture
def fleet(address: str) -> str:
    """Address of a database in which two machines measured two strategies and their accuracies; `big` has a price."""
    with Database.open(address) as db:
        hosts.register(db, name="big", platform=fleets.EPYC, labels={"price": "0.40"})
        hosts.register(db, name="old", platform=fleets.OLD_TORCH)
        for (host, strategy), gain in GAINS.items():
            finish(db, host, builders.case(strategy=strategy), latency(gain))
        for host in MACHINES:
            for strategy, lost in LOST.items():
                right = [1] * 3000
                answers = builders.accuracy([0] * lost + right[lost:], right)
                finish(db, host, builders.case("accuracy", strategy=strategy), answers)
    return address


def test_best_answers_for_each_machine_and_for_the_whole_fleet(fleet: str) -> None:
    found = call("best", "--database", fleet)
    assert found.exit_code == 0, found.output
    for part in ("minilm, b1×l16: best latency", "EPYC 9B14, 1 host", "2.50 ms [2.45, 2.55]", "25.0 %", "all 2 hosts"):
        assert part in found.output
    assert f"least worst regret: {BF16}, 1 thread (25.0 % at worst)" in found.output
    assert max(map(len, found.output.splitlines())) <= 80

    document = json.loads(call("best", "--database", fleet, "--json").output)
    assert [(one["platform"]["label"], one["best"]["strategy"]) for one in document["choices"]] == [
        ("EPYC 9B14", INT8),
        ("Xeon E5-2686 v4", BF16),
    ]
    (together,) = document["fleet"]
    assert together["minimax"]["strategy"] == BF16
    assert together["minimax"]["worst_regret"] == pytest.approx(0.25)


def test_of_many_machines_less_is_said_of_each(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_tables, "MANY", 1)
    monkeypatch.setattr(decide, "TOP_OF_MANY", 1)
    result = call("best", "--database", fleet)
    assert "2 more on 2 machines (--top)." in result.stdout
    assert "worst on" in result.stdout
    assert "the regret on each of 2 machines: --json" in result.stdout
    both = call("best", "--database", fleet, "--top", "2").stdout
    assert "more on" not in both.replace("worst on", "")


def test_limits_move_the_choice_and_where_nothing_keeps_them_the_nearest_are_shown(fleet: str) -> None:
    document = json.loads(call("best", "--database", fleet, "--max-accuracy-loss", "0.5pt", "--json").output)
    assert [one["best"]["strategy"] for one in document["choices"]] == [BF16, BF16]
    none = call("best", "--database", fleet, "--max-accuracy-loss", "0.5pt", "--max-latency-p95", "2ms")
    assert none.exit_code == decide.NOTHING_FOUND
    output = " ".join(none.output.split())
    assert "nothing of 2 keeps all limits on EPYC 9B14; the nearest:" in output
    assert "torch/bf16, 1 thread: p95 3.42 ms > 2.00 ms (+71 %)" in output
    assert "no configuration keeps all limits on every machine" in output


def test_a_percentile_counts_by_the_upper_end_of_its_interval(fleet: str) -> None:
    asked = ("best", "--database", fleet, "--hardware", "EPYC", "--max-latency-p95")
    kept = call(*asked, "2.8ms")
    assert kept.exit_code == 0, kept.output
    assert "2.74 ms [2.71, 2.76]" in kept.output
    held_back = call(*asked, "2.75ms")
    assert held_back.exit_code == decide.NOTHING_FOUND
    told = "p95 2.74 ms, up to 2.76 ms: not shown to be within 2.75 ms (about 4.8 × as many calls would tell)"
    assert told in " ".join(held_back.output.split())
    (choice,) = json.loads(call(*asked, "2.75ms", "--json").output)["choices"]
    (check,) = choice["nearest"][0]["checks"]
    assert (check["state"], check["samples"]) == ("not shown", "calls")
    assert check["samples_times"] == pytest.approx(4.8, abs=0.1)


@pytest.mark.parametrize("large", [False, True], ids=["at once", "a platform at a time"])
def test_intervals_that_nobody_needs_are_not_taken(fleet: str, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    monkeypatch.setattr(scope, "LARGE", 0 if large else 1000)
    with Database.open(fleet, readonly=True) as db:
        found = stored.compared(db, study=None, kinds="latency", intervals=[95])
    ends = {(row.latency_p50_high_s is None, row.latency_p95_high_s is None) for row in found.rows}
    assert ends == {(True, False)}


def test_json_has_the_intervals_of_all_percentiles(fleet: str) -> None:
    for words in (("best",), ("pareto",)):
        document = json.loads(call(*words, "--database", fleet, "--json").stdout)
        text = json.dumps(document)
        for q in (50, 90, 95):
            assert f'"latency_p{q}_high_s": 0.0' in text


def test_a_load_is_not_answered_from_latencies_unless_that_is_asked_for(fleet: str) -> None:
    asked = ("best", "--database", fleet, "--load", "500/s", "--max-latency-p95", "20ms")
    held_back = call(*asked)
    assert held_back.exit_code == decide.NOTHING_FOUND
    assert "only latency was measured there, which is no rate of the whole machine" in " ".join(
        held_back.output.split()
    )
    found = call(*asked, "--extrapolate", "--price", "old=0.05")
    assert found.exit_code == 0, found.output
    assert "nobody measured that" in " ".join(found.output.split())
    assert max(map(len, found.output.splitlines())) <= 80
    (answer,) = json.loads(call(*asked, "--extrapolate", "--price", "old=0.05", "--json").output)["capacity"]
    offers = [(one["label"], one["hosts_needed"], one["total_per_hour"]) for one in answer["offers"]]
    assert offers == [("Xeon E5-2686 v4", 4, pytest.approx(0.20)), ("EPYC 9B14", 2, pytest.approx(0.80))]


def test_pareto_shows_what_nothing_else_beats(fleet: str) -> None:
    found = call("pareto", "--database", fleet, "--over", "latency,accuracy", "--all")
    assert found.exit_code == 0, found.output
    output = " ".join(found.output.split())
    assert "minilm, b1×l16 on EPYC 9B14: front over latency, accuracy" in output
    assert "torch/int8-dynamic, 1 thread: torch/bf16, 1 thread is better in latency, accuracy" in output
    fronts = json.loads(call("pareto", "--database", fleet, "--over", "latency,accuracy", "--json").output)["fronts"]
    assert [[point["strategy"] for point in front["points"]] for front in fronts] == [[INT8, BF16], [BF16]]


def test_one_machine_alone_has_a_best_and_no_fleet(fleet: str) -> None:
    found = call("best", "--database", fleet, "--hardware", "old")
    assert found.exit_code == 0, found.output
    assert "one configuration for all" not in found.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("best", "--max-latency-p95", "20"), "--max-latency-p95 '20': the unit is missing"),
        (("best", "--max-accuracy-loss", "1%"), "--max-accuracy-loss '1%': unknown unit '%'"),
        (("best", "--for", "latensy"), "did you mean 'latency'?"),
        (("best", "--length", "128"), "--length: nothing is called '128'"),
        (("best", "--study", "dmeo"), "did you mean 'demo'?"),
        (("best", "--load", "500/s", "--price", "bug=1"), "no host is called 'bug'; did you mean 'big'?"),
        (("best", "--load", "500/s", "--for", "cost"), "leave one out"),
        (("best", "--extrapolate"), "--extrapolate belongs to --load"),
        (("pareto", "--over", "latency"), "at least two objectives"),
        (("pareto", "--over", "latency,akkuracy"), "did you mean 'accuracy'?"),
    ],
)
def test_an_option_that_cannot_be_meant_says_what_would(fleet: str, arguments: tuple[str, ...], said: str) -> None:
    command, *rest = arguments
    error = call(command, "--database", fleet, *rest).exception
    assert isinstance(error, errors.QueryError)
    assert said in str(error)


def test_a_database_that_has_nothing_to_choose_from_says_why(sqlite: str) -> None:
    for command in ("best", "pareto"):
        empty = call(command, "--database", sqlite)
        assert (empty.exit_code, "holds no results to choose from yet" in " ".join(empty.output.split())) == (1, True)
    with Database.open(sqlite) as db:
        hosts.register(db, name="big", platform=fleets.EPYC)
        finish(db, "big", builders.case(), latency(2.0, flags=["disturbed"]))
    for command in ("best", "pareto"):
        disturbed = call(command, "--database", sqlite)
        assert disturbed.exit_code == 1
        assert "1 disturbed result is left out; --include-disturbed counts it" in " ".join(disturbed.output.split())
    assert call("best", "--database", sqlite, "--include-disturbed").exit_code == 0
    without = call("best", "--database", sqlite, "--include-disturbed", "--max-accuracy-loss", "1pt")
    assert without.exit_code == 1
    assert "accuracy loss unknown: its accuracy is not measured" in " ".join(without.output.split())
    rate = call("best", "--database", sqlite, "--include-disturbed", "--for", "throughput")
    assert rate.exit_code == 1
    assert "Nothing was measured that has a throughput" in " ".join(rate.output.split())
