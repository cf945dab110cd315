from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scheduler.interop import formats, importing
from scheduler.interop.importing import Names
from storage import errors
from tests.unit.scheduler.interop import real

FLOAT, BFLOAT, AGAIN = (real.OPTIMUM / name / "benchmark.json" for name in ("float32", "bfloat16", "float32-again"))


def forward(path: Path = FLOAT) -> Any:
    return json.loads(path.read_text())["report"]["forward"]


def test_the_calls_of_a_report_are_seconds_of_one_process() -> None:
    (entry,) = formats.read([FLOAT])
    values = forward()["latency"]["values"]
    assert len(entry.processes) == 1
    assert entry.processes[0].calls_s == pytest.approx(values, abs=1e-9)
    assert entry.percentiles()[0].value_s == pytest.approx(forward()["latency"]["p50"], rel=1e-6)
    assert entry.percentiles()[2].value_s == pytest.approx(forward()["latency"]["p95"], rel=1e-6)
    assert entry.throughput_per_s == forward()["throughput"]["value"]


def test_case_machine_and_software_are_those_of_the_configuration() -> None:
    (entry,) = formats.read([BFLOAT])
    assert (entry.tool, entry.version, entry.strategy) == ("optimum-benchmark", "0.6.0", "pytorch/bfloat16")
    assert (entry.model, entry.threads, entry.batch, entry.length) == ("tiny-bert", 1, 1, 16)
    assert (entry.machine.cpu, entry.machine.logical_cores, entry.machine.architecture) == ("AMD EPYC", 2, "x86_64")
    assert entry.machine.packages["torch"].startswith("2.13.0")
    assert entry.machine.packages["transformers"].startswith("4.57")
    assert entry.machine.memory_bytes is not None and entry.machine.memory_bytes > 1e9


def test_memory_is_in_megabytes_and_loading_in_seconds() -> None:
    (entry,) = formats.read([FLOAT])
    assert entry.resident_peak_bytes == round(1e6 * forward()["memory"]["max_ram"])
    report = json.loads(FLOAT.read_text())["report"]
    assert entry.load_s == report["load_model"]["latency"]["values"][0]
    assert entry.first_answer_s == report["first_forward"]["latency"]["values"][0]


def test_a_report_takes_the_configuration_beside_it_and_is_the_same_measurement(tmp_path: Path) -> None:
    (whole,) = formats.read([FLOAT])
    (report,) = formats.read([FLOAT.with_name("benchmark_report.json")])
    assert (report.digest, report.model, report.threads) == (whole.digest, "tiny-bert", 1)
    assert formats.read([FLOAT.parent])[0].digest == whole.digest

    alone = shutil.copy(FLOAT.with_name("benchmark_report.json"), tmp_path)
    (bare,) = formats.read([Path(alone)])
    assert (bare.digest, bare.model, bare.threads, bare.machine.cpu) == (whole.digest, None, None, None)


def test_several_files_of_a_strategy_are_processes_and_only_then_is_there_an_interval(tmp_path: Path) -> None:
    one = importing.results(formats.read([FLOAT, BFLOAT]), Names(baseline="pytorch/float32"))[1].measurement
    assert one.gain is not None and one.gain.low is None
    assert "unpaired gain of 1 process against 1, without an interval" in one.notes[1]

    again = real.edited(BFLOAT, tmp_path / "again" / "benchmark.json", _slower)
    several = importing.results(formats.read([FLOAT, AGAIN, BFLOAT, again]), Names(baseline="pytorch/float32"))
    gain = several[1].measurement.gain
    assert gain is not None and gain.low is not None and gain.high is not None and gain.low < gain.value < gain.high


def _slower(document: Any) -> None:
    """1.5 times slower, in everything that the tool computes of its values."""
    latency = document["report"]["forward"]["latency"]
    for name in ("total", "mean", "p50", "p90", "p95", "p99", "stdev"):
        latency[name] *= 1.5
    latency["values"] = [1.5 * value for value in latency["values"]]
    document["report"]["forward"]["throughput"]["value"] /= 1.5


def test_threads_are_those_that_ran_where_the_tool_swaps_its_words(tmp_path: Path) -> None:
    def swapped(document: Any) -> None:
        document["config"]["backend"] |= {"inter_op_num_threads": 2, "intra_op_num_threads": 1}

    (entry,) = formats.read([real.edited(FLOAT, tmp_path / "benchmark.json", swapped)])
    assert entry.threads == 2
    assert "sets torch's threads of an operation by inter_op_num_threads (2), not by" in entry.notes[0]


def test_another_device_than_the_cpu_makes_another_platform(tmp_path: Path) -> None:
    def moved(document: Any) -> None:
        document["config"]["backend"]["device"] = "cuda"

    cuda = formats.read([real.edited(FLOAT, tmp_path / "benchmark.json", moved)])
    (there,) = importing.results(cuda, Names())
    (here,) = importing.results(formats.read([FLOAT]), Names())
    assert there.platform.key != here.platform.key
    assert there.measurement.notes[0].startswith("measured by optimum-benchmark 0.6.0 on cuda (")


def test_the_process_launchers_spinning_parent_is_noted() -> None:
    assert "spins in its parent" in formats.read([FLOAT])[0].notes[-1]


def _milliseconds(document: Any) -> None:
    document["report"]["forward"]["latency"]["unit"] = "ms"


def _mixed(document: Any) -> None:
    latency = document["report"]["forward"]["latency"]
    latency["values"] = [1e3 * value for value in latency["values"]]


def _gibibytes(document: Any) -> None:
    document["report"]["forward"]["memory"]["unit"] = "GiB"


def _no_latency(document: Any) -> None:
    document["report"]["forward"]["latency"] = None


def _no_target(document: Any) -> None:
    del document["report"]["forward"]


def _rate(document: Any) -> None:
    document["report"]["forward"]["throughput"]["value"] *= 60


def _nan(document: Any) -> None:
    document["report"]["forward"]["latency"]["values"][3] = float("nan")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_milliseconds, r"forward.latency is in 'ms'; optimum-benchmark writes 's'"),
        (_mixed, r"forward.latency.mean is .*, but its samples give .*: its units are mixed"),
        (_gibibytes, r"forward.memory is in 'GiB'; optimum-benchmark writes 'MB'"),
        (_no_latency, r"forward has no latency"),
        (_no_target, r"no target forward or call or generate \(the report has first_forward, load_model\)"),
        (_rate, r"forward.throughput.value is .*: its units are mixed"),
        (_nan, r"forward.latency.values\[3\] is nan, where a number above 0 is expected"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(errors.ForeignError, match=said):
        formats.read([real.edited(FLOAT, tmp_path / "benchmark.json", change)])
