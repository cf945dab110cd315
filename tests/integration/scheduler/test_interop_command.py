from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyperf
import pytest

from storage import hosts, lifecycle, queries, records
from storage.database import Database
from tests import builders, commands
from tests.commands import Ended
from tests.unit.scheduler.interop import real

WIDE, NARROW = (str(real.PYPERF / f"{name}.json") for name in ("wide", "narrow"))
NAMED = ("--baseline", "torch/fp32", "--strategy", "wide=torch/fp32", "--strategy", "narrow=torch/int8-dynamic")
BESIDE = (*NAMED, "--model", "minilm", "--threads", "1", "--batch", "1", "--length", "16")


Call = Callable[..., Ended]


@pytest.fixture
def call(sqlite: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`quantfleet ARGUMENTS` on the database of `sqlite`."""
    given = {"QUANTFLEET_DATABASE": sqlite, "COLUMNS": "100", "TERM": "dumb"}
    return lambda *arguments: commands.run(monkeypatch, capsys, *arguments, **given)


def claimed(db: Database, platform: records.Platform) -> records.Claim:
    """A job of a study called demo that a host has taken."""
    hosts.register(db, name="here", platform=platform)
    jobs = [builders.planned(None, platform.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
    claim = lifecycle.claim(db, job_id, host="here", platform_key=platform.key, lease=60)
    assert claim is not None
    return claim


def ours(address: str, *, legs: bool = True, flags: tuple[str, ...] = ()) -> str:
    """One of our own results: three pairs of fresh processes, ×2.50; its job's id."""
    platform = builders.platform()
    with Database.open(address) as db:
        claim = claimed(db, platform)
        taken = [
            builders.leg(pair=pair, position=side, samples_ns=[base + pair * 1000 + step for step in range(6)])
            for pair in range(3)
            for side, base in enumerate((10_000_000, 4_000_000))
        ]
        lifecycle.finish(db, claim, builders.latency(flags=flags), taken if legs else [])
    return claim.job_id


def test_old_numbers_stand_beside_new_ones_marked_and_never_compared(sqlite: str, call: Call) -> None:
    ours(sqlite)
    imported = call("interop", "import", WIDE, NARROW, *BESIDE)
    assert imported.code == 0, imported.err
    assert "foreign/pyperf: 2 results imported" in imported.out
    assert "unpaired gain of 6 processes against 6" in imported.out

    shown = call("compare").out
    assert "by pyperf 2.11.0" in shown and "EPYC †" in shown
    assert "×2.50* [2.40, 2.60]" in shown
    assert "told by pyperf 2.11.0: AMD EPYC; 2 logical cores; Python 3.11.7; kernel 6.18.44" in " ".join(shown.split())
    assert "† foreign: imported from another tool" in shown

    (row,) = [row for row in _rows(call) if row["strategy"] == "torch/int8-dynamic"]
    told, own = sorted(row["cells"], key=lambda cell: cell["counted"])
    assert ("foreign" in told["marks"], told["counted"], own["counted"]) == (True, False, True)
    assert (row["low"], row["flips"]) == (None, False)
    (base,) = [row for row in _rows(call) if row["strategy"] == "torch/fp32"]
    assert [cell["gain"] for cell in base["cells"] if cell] == [None]


def test_nothing_is_concluded_from_what_other_tools_measured(sqlite: str, call: Call) -> None:
    call("interop", "import", WIDE, NARROW, *BESIDE)
    foreign_alone = call("best", "--json").document
    assert foreign_alone["choices"] == []
    ours(sqlite)
    (choice,) = call("best", "--json").document["choices"]
    assert choice["best"]["job_ids"] and "pyperf" not in json.dumps(choice)
    assert "there are results of one platform only" in call("transfer").err
    (chart,) = [chart for one in call("waterfall", "--json").document["waterfalls"] for chart in one["charts"]]
    assert "pyperf" not in json.dumps(chart)


def _rows(call: Call) -> list[Any]:
    return [row for matrix in call("compare", "--json").document["across"] for row in matrix["rows"]]


def test_results_and_details_show_the_mark_and_who_measured(call: Call) -> None:
    call("interop", "import", WIDE, NARROW, *BESIDE)
    alone = call("compare").out
    assert "†" in alone and "torch/int8-dynamic: measured by pyperf 2.11.0 (narrow.json), not by quantfleet" in alone
    assert "A/A" not in alone
    assert {"foreign"} == {flag for row in call("results", "--json").document["results"] for flag in row["flags"]}
    assert call("results").code == call("status").code == 0


def test_threads_that_no_file_tells_are_said_to_be_unknown(sqlite: str, call: Call) -> None:
    ours(sqlite)
    call("interop", "import", WIDE, NARROW, *NAMED, "--model", "minilm", "--batch", "1", "--length", "16")
    shown = call("compare").out
    assert "b1×l16, threads unknown" in shown and "b1×l16, 1 thread" in shown
    assert call("compare", "--details").code == call("compare", "--csv").code == call("compare", "--explain").code == 0


def test_the_same_files_again_change_nothing(call: Call) -> None:
    first = call("interop", "import", WIDE, NARROW, *BESIDE, "--json").document
    again = call("interop", "import", NARROW, WIDE, *BESIDE, "--json").document
    assert (len(first["new"]), first["existing"]) == (2, [])
    assert (again["new"], again["study"], sorted(again["existing"])) == ([], None, sorted(first["new"]))
    assert "nothing new: 2 results were imported before" in call("interop", "import", WIDE, NARROW, *BESIDE).out


def test_other_names_for_the_same_files_need_the_first_import_taken_back(call: Call) -> None:
    call("interop", "import", WIDE, "--model", "minilm")
    other = call("interop", "import", WIDE, "--model", "bert")
    assert other.code == 2
    assert "model was minilm, now bert; `quantfleet interop remove foreign/pyperf`" in other.err
    assert call("interop", "remove", "foreign/pyperf", "--yes").out == "foreign/pyperf: 1 foreign result deleted\n"
    assert call("interop", "import", WIDE, "--model", "bert").code == 0


def test_only_foreign_studies_can_be_removed(sqlite: str, call: Call) -> None:
    ours(sqlite)
    call("interop", "import", WIDE, "--study", "old")
    refused = call("interop", "remove", "demo", "--yes")
    assert (refused.code, "no study of foreign origin is called 'demo'" in refused.err) == (2, True)
    assert "did you mean 'foreign/old'" in call("interop", "remove", "foreign/odl", "--yes").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.json"], "nowhere.json: there is no such file"),
        ([WIDE, "--format", "pyperv"], "did you mean 'pyperf'?"),
        ([WIDE, "--format", "loadgen"], "mlperf_log_summary.txt is missing"),
        ([WIDE, "--baseline", "wode"], "did you mean 'wide'?"),
        ([str(real.FOLDER)], "a folder without benchmark.json"),
    ],
)
def test_a_mistake_in_an_import_is_one_message_and_exit_code_2(call: Call, arguments: list[str], said: str) -> None:
    ended = call("interop", "import", *arguments)
    assert (ended.code, said in ended.err, "Traceback" in ended.err) == (2, True, False), ended.err


def test_pyperf_itself_reads_what_is_exported_for_it(sqlite: str, call: Call, tmp_path: Path) -> None:
    job_id = ours(sqlite)
    folder = tmp_path / "out"
    written = call("interop", "export", "--format", "pyperf", "-o", str(folder), "--json").document["written"]
    stem = f"{builders.platform().key[:8]}.torch-int8-dynamic"
    assert [Path(path).name for path in written] == [f"{stem}.json", f"{stem}.baseline.json"]

    own, base = (pyperf.BenchmarkSuite.load(path).get_benchmark("minilm, b1×l16, 1 thread") for path in written)
    assert (own.get_nrun(), own.get_nvalue(), base.get_nvalue()) == (3, 3, 3)
    assert own.median() == pytest.approx(0.004, rel=0.001) and base.median() == pytest.approx(0.010, rel=0.001)
    told = own.get_metadata()
    assert (told["quantfleet_gain"], told["quantfleet_jobs"]) == ("2.5 [2.4, 2.6]", job_id)
    assert (told["cpu_model_name"], told["hostname"], told["unit"]) == ("AMD EPYC 9B14", "here", "second")
    assert own.get_dates()[0].isoformat() == "2023-11-14T22:13:20"

    call("interop", "export", "--format", "pyperf", "-o", str(folder), "--samples")
    assert pyperf.Benchmark.load(written[0]).get_nvalue() == 18

    back = call("interop", "import", written[0])
    assert (back.code, "are quantfleet's own" in back.err) == (2, True)


def test_an_imported_file_survives_its_way_through_the_database(call: Call, tmp_path: Path) -> None:
    call("interop", "import", WIDE)
    call("interop", "export", "--format", "pyperf", "-o", str(tmp_path / "out"))
    (written,) = (tmp_path / "out").iterdir()
    there = pyperf.Benchmark.load(WIDE)
    back = pyperf.Benchmark.load(str(written))
    assert back.get_values() == pytest.approx(there.get_values(), rel=1e-6)
    assert back.get_nrun() == there.get_nrun() - 1  # its calibration has no values


def test_a_result_without_samples_is_nothing_for_pyperf(sqlite: str, call: Call) -> None:
    ours(sqlite, legs=False)
    refused = call("interop", "export", "--format", "pyperf", "-o", "out")
    assert (refused.code, "none of these results has raw samples" in refused.err) == (2, True)


def test_disturbed_results_are_exported_only_when_asked_for(sqlite: str, call: Call, tmp_path: Path) -> None:
    ours(sqlite, flags=("disturbed",))
    export = ("interop", "export", "--format", "pyperf", "-o", str(tmp_path / "out"))
    refused = call(*export)
    assert (refused.code, "every result is disturbed; --include-disturbed" in refused.err) == (2, True)
    call("interop", "import", WIDE)
    assert "1 result disturbed left out; --include-disturbed writes them" in call(*export).err
    assert len(call(*export, "--include-disturbed").out.splitlines()) == 3


REQUIRED: dict[str, type] = {
    "run_id": str,
    "batch_id": str,
    "timestamp": str,
    "tags": dict,
    "context": dict,
    "github": dict,
    "machine_info": dict,
}
"""What conbench's API requires (`_BenchmarkResultCreateSchema`), with `machine_info` and not `cluster_info`."""

OPTIONAL = {"run_name", "run_tags", "run_reason", "stats", "error", "info", "optional_benchmark_info", "validation"}

MACHINE: dict[str, type] = {
    **dict.fromkeys(("name", "architecture_name", "kernel_name", "os_name", "os_version", "cpu_model_name"), str),
    **{f"cpu_{cache}_cache_bytes": int for cache in ("l1d", "l1i", "l2", "l3")},
    **dict.fromkeys(("cpu_core_count", "cpu_thread_count", "cpu_frequency_max_hz", "memory_bytes", "gpu_count"), int),
    "gpu_product_names": list,
}
"""`MachineCreate`: every field is required."""

STATS: dict[str, type] = {"data": list, "times": list, "unit": str, "time_unit": str, "iterations": int}

UNITS = {"B", "B/s", "s", "ns", "i/s"}


def check_conbench(result: dict[str, Any]) -> None:
    """What conbench's server checks before it stores a result."""
    for fields, holder in ((REQUIRED, result), (MACHINE, result["machine_info"])):
        assert {name: type(holder[name]) for name in fields} == fields
    assert set(result) <= {*REQUIRED, *OPTIONAL}
    assert ("stats" in result) != ("error" in result)
    for name in ("tags", "info", "run_tags"):
        assert all(key and isinstance(value, str) and value for key, value in result[name].items())
    assert result["tags"]["name"]
    assert result["github"]["repository"].startswith("https://github.com/")
    if "stats" in result:
        assert {name: type(value) for name, value in result["stats"].items()}.items() <= STATS.items()
        assert result["stats"]["unit"] in UNITS and result["stats"]["data"]


def test_conbench_gets_one_time_for_each_pair_of_processes(sqlite: str, call: Call, tmp_path: Path) -> None:
    job_id = ours(sqlite)
    file, repository = tmp_path / "results.json", "https://github.com/org/repo"
    ended = call(
        *("interop", "export", "--format", "conbench", "-o", str(file)),
        *("--repository", repository, "--commit", "0a1b2c"),
    )
    assert (ended.code, ended.out) == (0, f"{file}\n")
    (result,) = json.loads(file.read_text())
    check_conbench(result)
    assert result["stats"]["data"] == pytest.approx([0.004, 0.004001, 0.004002], rel=1e-5)
    assert result["tags"] == {
        "name": "quantfleet-latency",
        "model": "minilm",
        "strategy": "torch/int8-dynamic",
        "baseline": "torch/fp32",
        "threads": "1",
        "input": "b1×l16",
    }
    assert result["github"] == {"repository": repository, "commit": "0a1b2c"}
    assert (result["info"]["gain"], result["info"]["job_id"]) == ("2.5", job_id)
    assert (result["timestamp"], result["machine_info"]["cpu_l2_cache_bytes"]) == ("2023-11-14T22:13:20Z", 1 << 20)


def test_conbench_gets_a_job_without_a_number_as_an_error(sqlite: str, call: Call, tmp_path: Path) -> None:
    platform = builders.platform()
    with Database.open(sqlite) as db:
        claim = claimed(db, platform)
        lifecycle.fail(db, claim, records.Failure(reason="unsupported", message="this CPU lacks avx2"))
    file = tmp_path / "results.json"
    call("interop", "export", "--format", "conbench", "-o", str(file), "--repository", "https://github.com/org/repo")
    (result,) = json.loads(file.read_text())
    check_conbench(result)
    assert result["error"] == {"state": "unsupported", "message": "this CPU lacks avx2"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "conbench"], "needs --repository https://github.com/ORG/REPO"),
        (["--format", "conbench", "--repository", "git@example.org:a/b"], "needs --repository https://github.com"),
        (["--format", "pyperv"], "did you mean 'pyperf'?"),
        (["--format", "pyperf", "--strategy", "torch/fp61"], "--strategy: nothing is called 'torch/fp61'"),
    ],
)
def test_a_mistake_in_an_export_is_one_message_and_exit_code_2(
    sqlite: str, call: Call, arguments: list[str], said: str
) -> None:
    ours(sqlite)
    ended = call("interop", "export", "-o", "nowhere", *arguments)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert not Path("nowhere").exists()


def test_a_database_without_results_has_nothing_to_export(sqlite: str, call: Call) -> None:
    with Database.open(sqlite) as db:
        assert queries.results(db) == []
    assert "holds no results that could be exported" in call("interop", "export", "--format", "pyperf", "-o", "x").err
