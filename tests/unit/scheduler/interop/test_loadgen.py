from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scheduler.interop import formats, importing
from scheduler.interop.importing import Names
from storage import errors
from tests.unit.scheduler.interop import real

WIDE, NARROW = real.LOADGEN / "wide", real.LOADGEN / "narrow"
DETAIL, SUMMARY = "mlperf_log_detail", "mlperf_log_summary"


def summary_of(folder: Path) -> dict[str, str]:
    """`name : value` of a summary."""
    lines = (folder / f"{SUMMARY}.txt").read_text().splitlines()
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def test_nanoseconds_of_both_logs_become_seconds() -> None:
    (entry,) = formats.read([WIDE])
    told = summary_of(WIDE)
    assert entry.quantiles_s[0.9] == pytest.approx(1e-9 * int(told["90.00 percentile latency (ns)"]))
    assert entry.centres_s == [pytest.approx(1e-9 * int(told["50.00 percentile latency (ns)"]))]
    assert entry.throughput_per_s == pytest.approx(float(told["QPS w/o loadgen overhead"]), rel=1e-4)
    assert (entry.kind, entry.version, entry.batch, entry.input) == ("latency", "6.0.17", 1, "SingleStream")
    assert entry.measured_at == 1795828197.0  # 2026-11-28T01:09:57Z


def test_the_folder_and_either_log_in_it_are_the_same_run() -> None:
    paths = [WIDE, WIDE / f"{DETAIL}.txt", WIDE / f"{SUMMARY}.txt"]
    assert len({formats.read([path])[0].digest for path in paths}) == len(formats.read(paths)) == 1


def test_two_runs_give_a_gain_of_their_medians_without_an_interval() -> None:
    found = formats.read([WIDE, NARROW])
    gain = importing.results(found, Names(baseline="wide"))[1].measurement.gain
    assert gain is not None and gain.value == pytest.approx(found[0].centres_s[0] / found[1].centres_s[0])
    assert gain.value > 1.5 and gain.low is None


def test_who_vouches_for_the_machine_is_said() -> None:
    said = "its file does not tell the machine; files that are imported together are taken as of one"
    (alone,) = importing.results(formats.read([WIDE]), Names())
    (named,) = importing.results(formats.read([WIDE]), Names(host="lab-3"))
    assert said in alone.measurement.notes
    assert said not in named.measurement.notes and named.host == "lab-3"


def test_the_other_scenarios_are_read_as_what_they_are() -> None:
    server, offline, multi = formats.read([real.LOADGEN / name for name in ("server", "offline", "multi")])
    assert (server.kind, server.input) == ("server", "Server, 200/s")
    assert server.throughput_per_s == pytest.approx(
        float(summary_of(real.LOADGEN / "server")["Completed samples per second"]), rel=1e-3
    )
    assert (offline.kind, dict(offline.quantiles_s), offline.batch) == ("throughput", {}, None)
    assert offline.throughput_per_s == pytest.approx(
        float(summary_of(real.LOADGEN / "offline")["Samples per second"]), rel=1e-3
    )
    assert (multi.kind, multi.batch) == ("latency", 8)
    told = int(summary_of(real.LOADGEN / "multi")["Mean latency (ns)"])
    assert multi.throughput_per_s == pytest.approx(8e9 / told)


def test_runs_at_two_rates_are_two_cases_whatever_else_is_known(tmp_path: Path) -> None:
    slow, rate = real.LOADGEN / "server", '"effective_target_qps", "value": 200'
    fast = real.replaced(slow, tmp_path / "fast", **{DETAIL: (rate, '"effective_target_qps", "value": 400')})
    again = shutil.copytree(slow, tmp_path / "again")
    text = (
        (fast / f"{DETAIL}.txt")
        .read_text()
        .replace('"result_query_count", "value": 392', '"result_query_count", "value": 391')
    )
    (fast / f"{DETAIL}.txt").write_text(text)  # another run has other numbers
    found = importing.results(formats.read([slow, fast, again]), Names(strategies=("x",), batch=1, length=16))
    assert [one.label for one in found] == ["b1×l16, Server, 200/s", "b1×l16, Server, 400/s"]


def test_an_invalid_run_says_why_and_an_invalid_server_gives_no_gain() -> None:
    (server,) = formats.read([real.LOADGEN / "server"])
    assert server.notes == ("LoadGen calls this run INVALID: too few queries to be sure of its percentile",)
    assert server.centres_s == []


def test_percentiles_need_the_samples_that_ours_need() -> None:
    kept = {one.q: one for one in formats.read([real.LOADGEN / "server"])[0].percentiles()}
    assert kept[0.95].value_s is not None
    assert kept[0.99].withheld == "392 samples, 662 needed"


@pytest.mark.parametrize("name", [f"{DETAIL}.txt", f"{SUMMARY}.txt"])
def test_a_missing_log_is_named(tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(WIDE, tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(errors.ForeignError, match=rf"{name} is missing beside .*both logs of a run are needed"):
        formats.read([folder])


@pytest.mark.parametrize(
    ("log", "old", "new", "said"),
    [
        (
            SUMMARY,
            "Mean latency (ns)               : 102977",
            "Mean latency (ns) : 99",
            "two runs, or one was edited: Mean",
        ),
        (SUMMARY, "Mean latency (ns)", "Mean latency (us)", r"'Mean latency \(us\)' is not in nanoseconds"),
        (SUMMARY, "Scenario : SingleStream", "Scenario : Offline", "two runs.*the scenario is Offline in"),
        (SUMMARY, "Result is : VALID", "", "no scenario and result: cut off"),
        (DETAIL, '"key": "result_validity"', '"key": "result"', "no result_validity: the run did not end"),
        (DETAIL, '"value": 94095', '"value": 0.000094', r"result_50.00_percentile_latency_ns is a float, not a int"),
        (DETAIL, ":::MLLOG", "old", "no line begins with :::MLLOG"),
        (
            DETAIL,
            '"effective_scenario", "value": "SingleStream"',
            '"effective_scenario", "value": "Two"',
            "'Two' is unknown",
        ),
    ],
)
def test_logs_that_cannot_be_trusted_are_refused(tmp_path: Path, log: str, old: str, new: str, said: str) -> None:
    folder = real.replaced(WIDE, tmp_path / "run", **{log: (old, new)})
    if "percentile_latency_ns" in said:  # the summary is then not asked: it would only say that they differ
        text = re.sub(r"50.00 percentile latency \(ns\).*\n", "", (folder / f"{SUMMARY}.txt").read_text())
        (folder / f"{SUMMARY}.txt").write_text(text)
    with pytest.raises(errors.ForeignError, match=said):
        formats.read([folder])


def test_logs_of_two_runs_in_one_folder_are_not_taken_for_one(tmp_path: Path) -> None:
    folder = shutil.copytree(WIDE, tmp_path / "run")
    shutil.copy(NARROW / f"{SUMMARY}.txt", folder)
    with pytest.raises(errors.ForeignError, match="the logs are of two runs, or one was edited: Mean latency"):
        formats.read([folder])


def test_a_run_that_was_killed_has_no_result() -> None:
    with pytest.raises(errors.ForeignError, match="no result_validity: the run did not end"):
        formats.read([real.LOADGEN / "short"])


def test_a_detail_log_that_is_cut_off_is_told_with_its_line(tmp_path: Path) -> None:
    folder = shutil.copytree(WIDE, tmp_path / "run")
    text = (folder / f"{DETAIL}.txt").read_text()
    (folder / f"{DETAIL}.txt").write_text(text[: text.index("result_query_count") + 5])
    with pytest.raises(errors.ForeignError, match=r"line \d+ is cut off or damaged"):
        formats.read([folder])
