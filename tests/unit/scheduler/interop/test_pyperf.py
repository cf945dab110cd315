from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from scheduler.interop import formats
from storage import errors
from tests.unit.scheduler.interop import real

WIDE = real.PYPERF / "wide.json"


def test_runs_become_processes_and_calibrations_none() -> None:
    (entry,) = formats.read([WIDE])
    runs = json.loads(WIDE.read_text())["benchmarks"][0]["runs"]
    assert "calibrate_loops" in runs[0]["metadata"] and "values" not in runs[0]

    assert len(entry.processes) == len(runs) - 1 == 6
    told = [statistics.median(run["values"]) for run in runs[1:]]
    assert entry.centres_s == pytest.approx(told, rel=1e-6)
    assert (entry.tool, entry.version, entry.name, entry.strategy) == ("pyperf", "2.11.0", "tokenize", "wide")


def test_the_machine_is_what_the_metadata_tell_and_the_rest_stays_unknown() -> None:
    machine = formats.read([WIDE])[0].machine
    assert (machine.host, machine.cpu, machine.architecture, machine.logical_cores) == (
        "host-a",
        "AMD EPYC",
        "x86_64",
        2,
    )
    assert (machine.kernel, machine.python) == ("6.18.44", "3.11.7")
    assert (machine.memory_bytes, dict(machine.packages)) == (None, {})


def test_means_over_many_calls_give_a_median_and_no_other_percentile() -> None:
    median, *others = formats.read([WIDE])[0].percentiles()
    assert median.value_s is not None
    assert {(one.value_s, one.withheld) for one in others} == {(None, "each sample is the mean of up to 4,096 calls")}


def test_single_calls_give_the_percentiles_that_their_number_supports() -> None:
    sleep, join = formats.read([real.PYPERF / "suite.json"])
    assert (sleep.name, join.name) == ("sleep", "join")
    assert sleep.percentiles()[0].value_s == pytest.approx(0.0021, rel=0.02)
    assert sleep.percentiles()[1].withheld == "15 samples, 64 needed"


def test_a_compressed_file_is_the_same_measurement(tmp_path: Path) -> None:
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(WIDE.read_bytes()))
    assert formats.read([packed])[0].digest == formats.read([WIDE])[0].digest
    assert formats.read([packed])[0].strategy == "packed"


def _newer(document: Any) -> None:
    document["version"] = "2.0"


def _older(document: Any) -> None:
    document["version"] = 6


def _bytes(document: Any) -> None:
    document["metadata"]["unit"] = "byte"


def _milliseconds(document: Any) -> None:
    run = document["benchmarks"][0]["runs"][2]
    run["values"] = [1e3 * value for value in run["values"]]


def _calibration_only(document: Any) -> None:
    document["benchmarks"][0]["runs"] = document["benchmarks"][0]["runs"][:1]


def _negative(document: Any) -> None:
    document["benchmarks"][0]["runs"][1]["values"][2] = -1e-5


def _empty(document: Any) -> None:
    document["benchmarks"] = []


def _ours(document: Any) -> None:
    document["benchmarks"][0]["metadata"] = {"quantfleet_jobs": "0a1b"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_newer, r"file format '2.0'; this version reads 1.0.*newer version wrote it"),
        (_older, r"file format 6; this version reads 1.0.*before 1.0 wrote it"),
        (_bytes, r"is in 'byte', not in 'second': only times"),
        (_milliseconds, r"tokenize, run 2: values of .* s in a run of .*: units are mixed"),
        (_calibration_only, r"tokenize has no values, only calibration runs"),
        (_negative, r"tokenize, run 1\[2\] is -1e-05, where a number above 0 is expected"),
        (_empty, r"without benchmarks"),
        (_ours, r"written by `quantfleet interop export`"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(errors.ForeignError, match=said):
        formats.read([real.edited(WIDE, tmp_path / "edited.json", change)])


def test_a_file_that_is_cut_off_is_told_with_its_place(tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_text(WIDE.read_text()[:1000])
    with pytest.raises(errors.ForeignError, match=r"no complete JSON \(line 1, column \d+: .*cut off"):
        formats.read([cut])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1, "b": 2}', r"JSON, but no result of optimum-benchmark, pyperf or LoadGen .*its fields: a, b"),
        ("[1, 2]", r"a JSON list where an object is expected"),
        ("\udcff", r"not a text file"),
    ],
)
def test_other_files_are_told_from_results(tmp_path: Path, content: str, said: str) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(errors.ForeignError, match=said):
        formats.read([other])


def test_a_format_that_the_file_is_not_of_is_refused_with_the_right_one() -> None:
    with pytest.raises(
        errors.ForeignError, match=r"not a file of optimum-benchmark, but of pyperf; leave --format out"
    ):
        formats.read([WIDE], "optimum-benchmark")
