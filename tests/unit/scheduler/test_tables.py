from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, Group, RenderableType

from scheduler.cli import export, results, tables
from scheduler.compare import MARKS, Comparison, compare
from storage.views import ResultView
from tests.factories import accuracy_view, answers, failed_view, latency_view

STRATEGIES = (
    "torch/fp32",
    "torch/bf16",
    "torch/int8-dynamic",
    "torch/int8-dynamic:engine=onednn,per_channel=true",
    "onnxruntime/int8-dynamic",
)


def views() -> list[ResultView]:
    measured = [
        latency_view(strategy=strategy, threads=threads, input=label, length=length)
        for strategy in STRATEGIES
        for threads in (1, 2)
        for label, length in (("b1×l16", 16), ("b8×dataset/max:128", "dataset"))
    ]
    marked = [
        latency_view(strategy="torch/bf16", model="second", flags=("threads", "wide"), withheld={0.95: "9 samples"}),
        latency_view(strategy="torch/fp32", model="second", flags=("disturbed",)),
        failed_view("unsupported", "onnxruntime/fp32 needs onnxruntime; pip install it", strategy="onnxruntime/fp32"),
    ]
    return [*measured, *(accuracy_view(strategy=strategy) for strategy in STRATEGIES), *marked]


def rows() -> list[Comparison]:
    right = answers([True] * 90 + [False] * 10)
    return compare(views(), lambda _: right)


def printed(what: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(what)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def squeezed(text: str) -> str:
    """Without blanks: a narrow table breaks lines inside words."""
    return "".join(text.split())


def assert_fits(text: str, width: int) -> None:
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_comparison_fits_the_terminal_and_shows_every_number(width: int) -> None:
    text = printed(tables.comparison(rows(), width), width)
    assert_fits(text, width)
    for strategy in STRATEGIES:
        assert all(part in text for part in strategy.replace(":", ",").split(","))
    for number in ("×2.00 [1.90, 2.10]*", "10.0 (20.0) ms", "11.0 (22.0) ms", "11.5 (23.0) ms", "100 (50.0)"):
        assert number in text
    for number in ("400 (450) MB", "58.7 MB (×0.64)", "90.0 %", "no loss shown", "100.0 %"):
        assert number in text


@pytest.mark.parametrize("width", [30, 48])
def test_a_narrow_terminal_folds_and_loses_nothing(width: int) -> None:
    text = printed(tables.comparison(rows(), width), width)
    assert_fits(text, width)
    wide = printed(tables.comparison(rows(), 200), 200)
    assert text.count("×2.00") == wide.count("×2.00")
    assert "per_channel=true" in squeezed(text)


def test_every_mark_in_use_is_explained_and_no_other() -> None:
    text = printed(tables.comparison(rows(), 100), 100)
    for mark, meaning in MARKS.items():
        explained = squeezed(f"{tables.SYMBOLS[mark]} {mark}: {meaning}") in squeezed(text)
        assert explained == (mark in {"A/A", "disturbed", "threads", "wide", "withheld", "left out"})


def test_reasons_are_said_once_for_all_their_cases() -> None:
    reasons = [failed_view("unsupported", "no avx2 here", threads=threads) for threads in (1, 2, 4)]
    text = printed(tables.comparison(compare(reasons, lambda _: None), 80), 80)
    assert "torch/int8-dynamic (3 cases): no avx2 here" in text
    assert text.count("no avx2 here") == 1


def test_a_reason_that_many_strategies_have_is_said_once_and_names_a_few() -> None:
    failed = [failed_view("unsupported", "no avx2 here", strategy=f"torch/int8-{name}") for name in "abcde"]
    text = printed(tables.comparison(compare(failed, lambda _: None), 80), 80)
    assert squeezed("torch/int8-a, torch/int8-b, torch/int8-c and 2 more (5 cases): no avx2 here") in squeezed(text)


def test_a_strategys_transforms_and_options_stand_on_lines_of_their_own() -> None:
    assert tables.strategy_lines("distil:layers=3+prune-ffn:0.5+onnxruntime/int8-static:rows=9,operators=matmul") == (
        "distil:layers=3+\nprune-ffn:0.5+\nonnxruntime/int8-static\n  rows=9\n  operators=matmul"
    )


def test_control_characters_and_markup_in_names_stay_text() -> None:
    row = compare([latency_view(model="[red]evil\x1b[2J", host="[/]h")], lambda _: None)
    text = printed(tables.comparison(row, 80), 80)
    assert "[red]evil\ufffd[2J on AMD" in text
    assert "[/]h" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_list_of_results_fits_and_shows_jobs_without_a_number(width: int) -> None:
    text = printed(tables.results(results._in_groups(views()), width), width)
    assert_fits(text, width)
    assert "onnxruntime/fp32: onnxruntime/fp32 needs onnxruntime; pip install it" in squeeze_lines(text)
    assert text.count("done") >= len(STRATEGIES) * 5


def squeeze_lines(text: str) -> str:
    return " ".join(text.split())


def test_json_and_csv_carry_the_documented_fields() -> None:
    flat = [export.flat_comparison(row) for row in rows()]
    document = json.loads(export.as_json(comparisons=flat))
    assert document["schema"] == 1
    assert all(set(row) == set(export.COMPARISON_FIELDS) for row in document["comparisons"])
    table = list(csv.DictReader(io.StringIO(export.as_csv(export.COMPARISON_FIELDS, flat))))
    assert [row["strategy"] for row in table] == [row["strategy"] for row in document["comparisons"]]
    assert {row["verdict"] for row in table if row["gain"]} == {"baseline", "no loss shown", ""}


_LIKENESS = ("same_operation", "like_for_like")
_ENERGY = ("joules_per_row", "baseline_joules_per_row")
_LIMITS = ("floor_s", "limit_share", "bound", "baseline_limit_share")
_PERCENTILES = tuple(f"latency_p{q}_{end}_s" for q in (50, 90, 95) for end in ("low", "high"))
_COSTS = ("cost_per_million", "baseline_cost_per_million")
_EFFICIENCY = ("efficiency", "efficiency_low", "efficiency_high")


def test_a_field_that_came_later_stands_behind_the_others() -> None:
    first, later = export.COMPARISON_FIELDS[:-23], export.COMPARISON_FIELDS[-23:]
    assert (first[-1], later[:2]) == ("accuracy_note", ("input_digest", "made_digest"))
    assert later[2:] == (
        *("kind", "instances"),
        *_EFFICIENCY,
        *_COSTS,
        "same_operation",
        "like_for_like",
        *_LIMITS,
        *_ENERGY,
        *_PERCENTILES,
    )
    assert {export.flat_comparison(row)["input_digest"] for row in rows() if row.gain} == {"input-a"}


def test_every_field_of_json_and_csv_is_described_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
    missing = [name for name in {*export.COMPARISON_FIELDS, *export.RESULT_FIELDS} if f"`{name}`" not in text]
    assert missing == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_csv_cells_that_a_spreadsheet_would_run_are_made_text(start: str) -> None:
    row = {"text": f"{start}cmd|' /C calc'!A0", "number": -1.5}
    cells = list(csv.reader(io.StringIO(export.as_csv(("text", "number"), [row]))))
    assert cells[1] == [f"'{start}cmd|' /C calc'!A0", "-1.5"]


def gains(rows: Sequence[Comparison]) -> list[float | None]:
    return [row.gain for row in rows]


def test_sorting_puts_the_best_first_inside_an_input_and_the_absent_last() -> None:
    (one,) = compare([latency_view()], lambda _: None)
    here = [replace(one, gain=gain) for gain in (1.0, None, 3.0)]
    there = [replace(one, gain=gain, threads=2) for gain in (2.0, 9.0)]
    assert gains(results.sort_rows([*here, *there], "gain")) == [3.0, 1.0, None, 9.0, 2.0]
    assert gains(results.sort_rows([*here, *there], None)) == [1.0, None, 3.0, 2.0, 9.0]


def test_a_column_in_which_no_row_has_anything_is_left_out() -> None:
    def column(title: str, cell: Callable[[int], str]) -> tables.Column[int]:
        return tables.Column(title=title, cell=cell)

    columns = [column("full", str), column("empty", lambda _: "–")]
    keys = [column("key", lambda row: f"row {row}")]

    text = printed(Group(*tables.folded(keys, columns, [("", [1, 2])], 80)), 80)

    assert "full" in text
    assert "empty" not in text


def test_a_servers_story_is_in_json_and_no_column_of_csv() -> None:
    view = latency_view(kind="server")
    view = replace(view, document={"strategy_service": {"rate_per_s": 50.0}})

    flat = export.flat_result(view)

    assert flat["strategy_service"] == {"rate_per_s": 50.0}
    assert "strategy_service" not in export.as_csv(export.RESULT_FIELDS, [flat])
