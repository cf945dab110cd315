from __future__ import annotations

import io

import pytest
from rich.console import Console

from scheduler.axes import AXES
from scheduler.cli import over
from scheduler.compare import compare
from scheduler.pivot import Pivot, Row, Table, pivot
from storage import records
from storage.views import ResultView
from tests import fleets
from tests.factories import latency_view
from tests.fleets import EPYC, OLD, OLD_TORCH, XEON, failed, latency

PLATFORMS = (EPYC, XEON, OLD, OLD_TORCH)


def pivoted(axis: str, *views: ResultView, more: tuple[records.Platform, ...] = ()) -> Pivot:
    return pivot(compare(views, lambda job_id: None), axis, (*PLATFORMS, *more))


def only(found: Pivot) -> Table:
    (table,) = found.tables
    return table


def gains(row: Row) -> list[float | None]:
    return [None if cell is None else cell.found.gain for cell in row.cells]


def layout(table: Table) -> dict[str, dict[str, list[float | None]]]:
    return {heading: {row.label: gains(row) for row in rows} for heading, rows in table.sections}


def text(found: Pivot, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(over.render(found, width))
    return out.getvalue()


def test_threads_on_the_columns_show_how_a_gain_scales() -> None:
    views = [latency_view(threads=n, gain=1 + 1 / n, gain_low=1.0 + 0.9 / n, gain_high=1 + 1.1 / n) for n in (16, 1, 2)]
    table = only(pivoted("threads", *views))
    assert table.columns == ("1 thread", "2 threads", "16 threads")
    assert layout(table) == {"b1×l16": {"torch/int8-dynamic": [2.0, 1.5, 1 + 1 / 16]}}
    assert table.title == "minilm on EPYC 9R14 (hardware hardware, software software): gain over torch/fp32"


def test_inputs_on_the_columns_keep_threads_apart() -> None:
    table = only(
        pivoted(
            "input", *(latency_view(threads=n, input=i, gain=2.0 * n) for n in (1, 2) for i in ("b1×l16", "b8×l16"))
        )
    )
    assert table.columns == ("b1×l16", "b8×l16")
    assert layout(table) == {
        "1 thread": {"torch/int8-dynamic": [2.0, 2.0]},
        "2 threads": {"torch/int8-dynamic": [4.0, 4.0]},
    }


@pytest.mark.parametrize(
    ("axis", "labels", "columns", "heading"),
    [
        (
            "padding",
            ("b8×dataset", "b8×dataset/sorted vs max:128"),
            ("longest", "sorted vs max:128"),
            "b8×dataset, 1 thread",
        ),
        ("batch", ("b8×l16", "b16×l16"), ("b8", "b16"), "l16, 1 thread"),
        ("length", ("b1×l128", "b1×dataset"), ("l128", "dataset"), "b1, 1 thread"),
        ("instances", ("b1×l16, 1 instance", "b1×l16, 4 instances"), ("1 instance", "4 instances"), "b1×l16, 1 thread"),
    ],
)
def test_a_part_of_the_input_can_be_an_axis(
    axis: str, labels: tuple[str, str], columns: tuple[str, ...], heading: str
) -> None:
    views = [latency_view(kind="throughput", input=label, input_digest=label) for label in labels]
    table = only(pivoted(axis, *reversed(views)))
    assert set(table.columns) == set(columns)
    assert list(layout(table)) == [heading]
    ((_, (row,)),) = table.sections
    assert all(cell is not None and (cell.counted or axis == "instances") for cell in row.cells)


def test_what_else_a_server_is_asked_stays_with_the_rows() -> None:
    views = [latency_view(kind="server", input=f"b1×l16, {n} instances, 50/s, cache 8") for n in (2, 4)]
    assert list(layout(only(pivoted("instances", *views)))) == ["b1×l16, 50/s, cache 8, 1 thread"]


def test_strategies_on_the_columns_have_inputs_and_threads_as_rows() -> None:
    table = only(
        pivoted("strategy", latency_view(), latency_view(threads=2), latency_view(strategy="torch/bf16", gain=1.2))
    )
    assert table.columns == ("torch/bf16", "torch/int8-dynamic")
    assert layout(table) == {"": {"b1×l16, 1 thread": [1.2, 2.0], "b1×l16, 2 threads": [None, 2.0]}}


def test_models_on_the_columns_may_have_their_own_contents() -> None:
    table = only(
        pivoted("model", latency_view(), latency_view(model="other", model_digest="o", input_digest="p", gain=3.0))
    )
    assert table.columns == ("minilm", "other")
    ((_, (row,)),) = table.sections
    assert (row.low, row.high) == (2.0, 3.0)


def test_machines_on_the_columns_carry_names_that_tell_them_apart() -> None:
    found = pivoted("hardware", latency(EPYC, 1.4), latency(OLD, 0.5), latency(OLD_TORCH, 0.6))
    table = only(found)
    assert [title.split("\n")[0] for title in table.columns] == ["EPYC 9B14", "Xeon E5-2686 v4", "Xeon E5-2686 v4"]
    ((_, (row,)),) = table.sections
    assert (row.low, row.high, row.flips) == (0.5, 1.4, True)


def test_software_on_the_columns_is_compared_on_one_machine_at_a_time() -> None:
    found = pivoted("environment", latency(EPYC, 1.4), latency(OLD, 2.0), latency(OLD_TORCH, 1.5))
    assert [table.columns for table in found.tables if "Xeon" in table.title] == [("torch 2.12.1", "torch 2.13.0")]
    assert len(found.tables) == 2


def test_a_cell_on_another_content_is_marked_and_left_out_of_the_range() -> None:
    views = [latency_view(threads=n, model_digest="b" if n == 4 else "a", gain=float(n)) for n in (1, 2, 4)]
    found = pivoted("threads", *views)
    ((_, (row,)),) = only(found).sections
    assert [cell.counted for cell in row.cells if cell] == [True, True, False]
    assert (row.low, row.high) == (1.0, 2.0)
    assert "×4.00*#" in text(found)
    assert "# digest: the same name stands for different content" in text(found)


def test_what_a_column_has_twice_gets_a_row_of_its_own() -> None:
    table = only(pivoted("threads", latency_view(), latency_view(model_digest="b"), latency_view(threads=2)))
    assert [len(rows) for _, rows in table.sections] == [2]


def test_results_without_the_axis_are_counted_and_other_kinds_have_tables_of_their_own() -> None:
    one = latency_view(kind="throughput", input="b1×l16, 2 instances")
    found = pivoted("instances", latency_view(), one)
    assert (len(found.tables), found.without) == (1, 1)
    assert "1 comparison left out: nothing on the axis instances there" in text(found)
    operation = latency_view(kind="tensor", input="768×768, 16 rows", strategy="linear/int8", baseline="linear/fp32")
    both = pivoted("threads", latency_view(), operation)
    assert sorted(list(layout(table)) for table in both.tables) == [["768×768, 16 rows"], ["b1×l16"]]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("width", [80, 100])
def test_every_axis_fits_the_terminal(axis: str, width: int) -> None:
    views = [
        latency(where, 2.0 + n, threads=n, strategy=strategy, kind="throughput", input=f"b1×l16, {n} instances")
        for where in PLATFORMS
        for n in (1, 2, 4, 8)
        for strategy in ("torch/fp32", "onnxruntime/int8-static:data=train,rows=200")
    ]
    shown = text(pivoted(axis, *views), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "×3.00* [2.85, 3.15]" in shown


def test_a_case_without_a_number_shows_its_state_and_reason() -> None:
    shown = text(pivoted("hardware", latency(EPYC), failed(OLD)))
    assert "unsupported" in shown
    assert "torch/int8-dynamic: unsupported, this CPU lacks avx2" in shown


def test_names_from_outside_cannot_move_the_cursor() -> None:
    where = fleets.platform("AMD\x1b[2J")
    assert "\x1b" not in text(pivoted("threads", latency(where, input="b1×l16\x1b[H"), more=(where,)))


def test_a_reason_that_many_have_is_told_once() -> None:
    shown = text(pivoted("hardware", *(failed(where, strategy=f"s{n}") for n in range(6) for where in (EPYC, OLD))))
    assert shown.count("this CPU lacks avx2") == 1
    assert "s0, s1, s2 and 3 more: unsupported, this CPU lacks avx2" in shown
