"""`results` with expressions and formats, `sql`, `export` and `import`, as a person calls them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import hosts, lifecycle, queries, records
from storage.database import Database
from tests import builders, commands, fleets
from tests.commands import Ended

INT8, BASELINE = "torch/int8-dynamic", "torch/fp32"


Call = Callable[..., Ended]


@pytest.fixture
def call(sqlite: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """A command in this process, as `quantfleet` runs it, on the test's SQLite database."""
    monkeypatch.chdir(tmp_path)
    given = {"QUANTFLEET_DATABASE": sqlite, "COLUMNS": "80", "TERM": "dumb"}
    return lambda *argv: commands.run(monkeypatch, capsys, *argv, **given)


@pytest.fixture
def measured(sqlite: str) -> str:
    """Address of a database with gains of two machines, an accuracy and a case that cannot run."""
    with Database.open(sqlite) as db:
        for host, platform, gain in (("big", fleets.EPYC, 3.0), ("old", fleets.OLD, 0.5)):
            measure(db, host, platform, builders.case(), gain)
        measure(db, "big", fleets.EPYC, builders.case(threads=2), 1.5)
        measure(db, "big", fleets.EPYC, builders.case("accuracy"), 0.0)
        held = plan(db, "big", fleets.EPYC, builders.case(strategy="onnxruntime/fp32"))
        lifecycle.fail(db, held, records.Failure(reason="unsupported", message='=HYPERLINK("http://x")'))
    return sqlite


def plan(db: Database, host: str, platform: records.Platform, case: records.Case) -> records.Claim:
    hosts.register(db, name=host, platform=platform)
    jobs = [builders.planned(case, platform.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
    held = lifecycle.claim(db, job_id, host=host, platform_key=platform.key, lease=60)
    assert held is not None
    return held


def measure(db: Database, host: str, platform: records.Platform, case: records.Case, gain: float) -> None:
    held = plan(db, host, platform, case)
    if case.kind == "accuracy":
        lifecycle.finish(db, held, builders.accuracy(), [])
        return
    interval = records.Interval(value=gain, low=gain * 0.9, high=gain * 1.1)
    lifecycle.finish(db, held, builders.latency(gain=interval, flags=()), [builders.leg()])


def test_an_expression_picks_results_and_a_field_sorts_them(measured: str, call: Call) -> None:
    where = "gain > 1 and strategy ~ 'torch/*'"
    ended = call("results", "--where", where, "--sort", "-gain", "--columns", "host,threads,gain", "--csv")
    assert ended.code == 0, ended.err
    assert list(csv.reader(io.StringIO(ended.out))) == [
        ["host", "threads", "gain"],
        ["big", "1", "3.0"],
        ["big", "2", "1.5"],
    ]


def test_a_wrong_expression_ends_with_2_and_points_at_the_place(measured: str, call: Call) -> None:
    ended = call("results", "--where", "gain > 1 and thread == 1")
    assert ended.code == 2
    assert ended.err == (
        "error: --where: there is no field 'thread'; did you mean 'threads'?\n"
        "  gain > 1 and thread == 1\n"
        "               ^^^^^^\n"
    )


def test_an_expression_that_nothing_fits_is_no_error(measured: str, call: Call) -> None:
    ended = call("results", "--where", "gain > 100")
    assert (ended.code, ended.out) == (0, "none of 5 results fits --where\n")
    assert json.loads(call("results", "--where", "gain > 100", "--json").out) == {"schema": 1, "results": []}


def test_results_in_every_format_say_the_same(measured: str, call: Call, tmp_path: Path) -> None:
    document = json.loads(call("results", "--json").out)["results"]
    assert [json.loads(line) for line in call("results", "--format", "ndjson").out.splitlines()] == document
    rows = list(csv.DictReader(io.StringIO(call("results", "--format", "csv").out)))
    assert [row["job_id"] for row in rows] == [row["job_id"] for row in document]
    assert list(rows[0]) == list(document[0])
    assert {row["message"] for row in rows} == {"", '\'=HYPERLINK("http://x")'}
    markdown = call("results", "--format", "markdown").out.splitlines()
    assert len(markdown) == 2 + len(document)
    assert call("results", "-o", "r.parquet").out == ""
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "r.parquet")
    assert parquet["gain"].to_pylist() == [row["gain"] for row in document]
    table = call("results", "--format", "table").out
    assert table == call("results").out
    assert max(map(len, table.splitlines())) <= 80


def test_parquet_goes_through_a_pipe(measured: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    code = "import sys; from scheduler.cli import main; sys.argv[0] = 'quantfleet'; main.run()"
    line = [sys.executable, "-c", code, "results", "--database", measured, "--format", "parquet"]
    done = subprocess.run(line, capture_output=True, check=True)
    assert parquet.read_table(io.BytesIO(done.stdout)).num_rows == 5


def test_sql_answers_in_every_format(measured: str, call: Call) -> None:
    query = "SELECT cpu, max(gain) AS best FROM v_gain GROUP BY cpu ORDER BY best DESC"
    rows = [{"cpu": fleets.EPYC.hardware.cpu, "best": 3.0}, {"cpu": fleets.OLD.hardware.cpu, "best": 0.5}]
    assert json.loads(call("sql", query, "--json").out) == {"schema": 1, "rows": rows}
    assert call("sql", query, "--csv").out.splitlines()[:2] == ["cpu,best", "AMD EPYC 9B14,3.0"]
    assert call("sql", query, "--format", "markdown").out.splitlines()[0] == "| cpu | best |"
    assert "AMD EPYC 9B14" in call("sql", query).out
    blob = json.loads(call("sql", "SELECT samples FROM sample LIMIT 1", "--format", "ndjson").out)
    assert set(blob) == {"samples"}


def test_sql_without_a_query_lists_the_views(call: Call) -> None:
    listed = json.loads(call("sql", "--json").out)["columns"]
    assert {row["view"] for row in listed} == {"v_result", "v_gain", "v_host"}
    shown = call("sql").out.splitlines()
    assert any("v_gain.gain " in line and "baseline time ÷ strategy time" in line for line in shown)


def test_a_write_is_refused_and_a_wrong_query_points_at_its_place(measured: str, call: Call) -> None:
    ended = call("sql", "DELETE FROM result")
    assert ended.code == 2
    assert "`quantfleet sql` only reads, and this is refused: it begins with DELETE" in ended.err
    assert call("sql", "WITH x AS (SELECT 1) DELETE FROM result").code == 2
    ended = call("sql", "SELECT gian FROM v_gain")
    assert (ended.code, ended.err.splitlines()[1:]) == (2, ["  SELECT gian FROM v_gain", "         ^^^^"])
    with Database.open(measured) as db:
        assert len(queries.results(db)) == 5


def test_rows_beyond_the_limit_are_told_beside_the_answer(measured: str, call: Call) -> None:
    ended = call("sql", "SELECT job_id FROM v_result", "--limit", "2", "--csv")
    assert len(ended.out.splitlines()) == 3
    assert ended.err == "only the first 2 rows; --limit N shows more, --limit 0 all\n"
    assert call("sql", "SELECT job_id FROM v_result", "--limit", "0", "--csv").err == ""


def test_a_study_moves_with_two_commands(measured: str, call: Call, tmp_path: Path, postgres: str) -> None:
    ended = call("export", "demo", "-o", "demo.qfz")
    assert ended.code == 0, ended.err
    assert "demo: 5 jobs, 4 results, raw samples of 3 legs" in ended.out
    ended = call("import", "demo.qfz", "--database", postgres, "--dry-run")
    assert "5 jobs would come (4 results), 0 here already" in ended.out
    ended = call("import", "demo.qfz", "--database", postgres, "--json")
    assert (ended.code, json.loads(ended.out)["new"], json.loads(ended.out)["hosts"]) == (0, 5, ["big", "old"])
    again = call("import", "demo.qfz", "--database", postgres)
    assert (again.code, "0 jobs came (0 results), 5 here already" in again.out) == (0, True)
    shown = json.loads(call("results", "--database", postgres, "--json").out)
    assert shown == json.loads(call("results", "--json").out)
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    assert call("import", "demo.qfz", "--database", fresh).code == 0  # a missing SQLite file is made


def test_a_refused_result_ends_with_1(measured: str, call: Call, postgres: str) -> None:
    with Database.open(postgres) as db:
        measure(db, "twin", fleets.EPYC, builders.case(), 2.0)
    assert call("export", "demo", "-o", "demo.qfz").code == 0
    ended = call("import", "demo.qfz", "--database", postgres)
    assert ended.code == 1
    assert "4 jobs came (3 results)" in ended.out
    assert "refused: minilm · torch/int8-dynamic · b1×l16 · threads 1: job " in ended.out
    assert "has another result here, of twin" in ended.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("export", "dmeo", "-o", "x.qfz"), "no study is called 'dmeo'; did you mean 'demo'?"),
        (("export", "demo", "-o", "there.qfz"), "is there already; --force replaces a file"),
        (("import", "there.qfz"), "there.qfz is no file of `quantfleet export`"),
        (("import", "none.qfz"), "none.qfz cannot be read"),
        (("results", "--columns", "gian"), "did you mean 'gain'?"),
        (("results", "--format", "xml"), "--format: nothing is called 'xml'"),
    ],
)
def test_what_a_person_can_mend_ends_with_2(
    measured: str, call: Call, tmp_path: Path, argv: tuple[str, ...], said: str
) -> None:
    (tmp_path / "there.qfz").write_text("hello")
    ended = call(*argv)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert (tmp_path / "there.qfz").read_text() == "hello"
