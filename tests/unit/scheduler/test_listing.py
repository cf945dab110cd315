"""Columns and order of results, and each format that they are written in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scheduler.cli import export, listing, sheets
from storage import errors
from storage.views import ResultView
from tests.factories import accuracy_view, failed_view, latency_view

VIEWS = [
    latency_view(strategy="b", gain=1.0, latency_p50_s=0.02, host="x"),
    latency_view(strategy="c", gain=3.0, latency_p50_s=0.01, host="y", length="dataset"),
    accuracy_view(strategy="a", host="=HYPERLINK(1)"),
    failed_view(strategy="<b>d|e</b>", host="-1+1"),
]
WORDS = ("gain", "p50")


def sheet(format_: str = "csv", columns: str | None = None) -> sheets.Sheet:
    return listing.sheet(VIEWS, listing.columns_of(columns), (), format_)


def text(made: sheets.Sheet, format_: str, tmp_path: Path) -> str:
    file = tmp_path / "out"
    sheets.write(made, format_, file)
    return file.read_text()


def by(sort: str) -> list[str]:
    return [view.strategy for view in listing.ordered(VIEWS, listing.order_of(sort, WORDS))]


def test_results_are_sorted_by_any_field_and_what_has_none_comes_last() -> None:
    assert by("latency_p50_s") == ["c", "b", "a", "<b>d|e</b>"]
    assert by("-latency_p50_s") == ["b", "c", "a", "<b>d|e</b>"]
    assert by("-kind,strategy") == ["<b>d|e</b>", "b", "c", "a"]
    assert by("length,-strategy") == ["b", "<b>d|e</b>", "c", "a"]
    assert listing.order_of("gain", WORDS) == ()  # a word keeps its meaning: best first inside each input
    assert by("-gain") == ["c", "b", "a", "<b>d|e</b>"]
    for fieldname in listing.FIELDS:
        assert len(by(fieldname)) == len(VIEWS)


@pytest.mark.parametrize(
    ("sort", "message"),
    [("gian", "did you mean 'gain'"), ("-p50", "p50 is a word that stands alone"), ("model,gian", "'gain'")],
)
def test_a_sort_by_nothing_says_what_there_is(sort: str, message: str) -> None:
    with pytest.raises(errors.QueryError, match=message):
        listing.order_of(sort, WORDS)


def test_columns_are_chosen_by_name_and_by_pattern_in_their_order() -> None:
    assert listing.columns_of("gain, strategy,gain") == ("gain", "strategy")
    assert listing.columns_of("host,latency_p9*") == ("host", "latency_p90_s", "latency_p95_s", "latency_p99_s")
    with pytest.raises(errors.QueryError, match=r"--columns: nothing is called .*; did you mean 'latency_p50_s'"):
        listing.columns_of("latencyp50")
    with pytest.raises(errors.QueryError, match="names no field"):
        listing.columns_of(" , ")


def test_the_fields_are_those_of_the_other_formats() -> None:
    assert tuple(listing.FIELDS) == export.RESULT_FIELDS


def test_csv_runs_nothing_in_a_spreadsheet_and_keeps_negative_numbers(tmp_path: Path) -> None:
    rows = [{"n": -1.5, "t": text_} for text_ in ("=1", "+1", "-1", "@A", "\t=1", "\r=1", "\n=1", "＝1", "plain")]
    written = text(sheets.Sheet(columns=("n", "t"), rows=rows), "csv", tmp_path)
    found = list(csv.reader(io.StringIO(written, newline="")))[1:]
    assert {row[0] for row in found} == {"-1.5"}
    assert [row[1][0] for row in found] == ["'"] * 8 + ["p"]


def test_each_format_has_the_chosen_columns(tmp_path: Path) -> None:
    columns = "strategy,gain,host"
    rows = list(csv.reader(io.StringIO(text(sheet("csv", columns), "csv", tmp_path))))
    assert rows == [["strategy", "gain", "host"], ["b", "1.0", "x"], ["c", "3.0", "y"], ["a", "", "'=HYPERLINK(1)"],
                    ["<b>d|e</b>", "", "'-1+1"]]  # fmt: skip
    document = json.loads(text(sheet("json", columns), "json", tmp_path))
    assert document["schema"] == 1
    assert document["results"][0] == {"strategy": "b", "gain": 1.0, "host": "x"}
    lines = text(sheet("ndjson", columns), "ndjson", tmp_path).splitlines()
    assert [json.loads(line) for line in lines] == document["results"]


def test_markdown_shows_names_as_text_whatever_they_are(tmp_path: Path) -> None:
    made = text(sheet("markdown", "strategy,gain,latency_p50_s"), "markdown", tmp_path)
    assert made.splitlines() == [
        "| strategy | gain | latency_p50_s |",
        "| --- | ---: | ---: |",
        "| b | ×1.00 | 20.0 ms |",
        "| c | ×3.00 | 10.0 ms |",
        "| a | – | – |",
        r"| \<b\>d\|e\</b\> | – | – |",
    ]


def test_a_table_fits_the_terminal_and_repeats_its_first_column() -> None:
    made = sheet("table", "strategy,host,cpu,platform_key,hardware_key,environment_key,gain")
    console = Console(width=80, file=io.StringIO())
    console.print(sheets.render(made, 80))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("<b>d|e</b>") > 1


@pytest.mark.parametrize(
    ("value", "text_"),
    [(None, "–"), (0.123456789, "0.123457"), (1764288000.2, "1764288000.2"), (10**9, "1000000000"),
     (b"abc", "<3 bytes>"), ({"a": ["é"]}, '{"a": ["é"]}'), (("a", "b"), "a, b"), (True, "True")],
)  # fmt: skip
def test_a_cell_is_short_and_exact_enough(value: object, text_: str) -> None:
    assert sheets.shown(value) == text_


def test_parquet_keeps_types_and_what_is_missing(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "r.parquet"
    sheets.write(sheet("parquet"), "parquet", file)
    table = parquet.read_table(file)
    assert table.column_names == list(export.RESULT_FIELDS)
    types = {name: str(table.schema.field(name).type) for name in ("strategy", "threads", "gain", "length")}
    assert types == {"strategy": "string", "threads": "int64", "gain": "double", "length": "int64"}
    assert table["length"].to_pylist() == [16, None, None, 16]
    assert table["gain"].to_pylist() == [1.0, 3.0, None, None]
    assert table["flags"].to_pylist() == [[]] * 4


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match=r"--output .*nowhere.*cannot be written"):
        sheets.write(sheet(), "csv", tmp_path / "nowhere" / "out.csv")


@pytest.mark.parametrize(
    ("given", "output", "short", "expected"),
    [
        (None, None, {}, "table"),
        (None, "a.parquet", {}, "parquet"),
        (None, "a.md", {}, "markdown"),
        ("json", "a.csv", {}, "json"),
        (None, "a.txt", {"as_csv": True}, "csv"),
        ("csv", None, {"as_csv": True}, "csv"),
    ],
)
def test_the_format_is_what_is_asked_for(
    given: str | None, output: str | None, short: dict[str, bool], expected: str
) -> None:
    assert sheets.format_of(given, Path(output) if output else None, **short) == expected


def test_formats_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(errors.QueryError, match="--json and --format csv exclude one another"):
        sheets.format_of("csv", None, as_json=True)
    with pytest.raises(errors.QueryError, match="did you mean 'parquet'"):
        sheets.format_of("parket", None)


def test_an_empty_list_has_its_columns(tmp_path: Path) -> None:
    nothing: list[ResultView] = []
    assert text(listing.sheet(nothing, ("gain",), (), "csv"), "csv", tmp_path).split() == ["gain"]
    assert json.loads(text(listing.sheet(nothing, None, (), "json"), "json", tmp_path))["results"] == []
    assert text(listing.sheet(nothing, ("gain",), (), "ndjson"), "ndjson", tmp_path) == ""
