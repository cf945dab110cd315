from __future__ import annotations

import pytest

from scheduler import points
from storage import records
from tests.unit.scheduler.decisions import BF16, INT8, OLD, label, row, served, served_case, throughput


def test_strategy_threads_and_padding_are_the_answer_model_length_and_rows_the_question() -> None:
    spec = records.InputSpec(batch=8, length="dataset", padding="sorted", baseline_padding="max:128")
    workload, configuration = points.read(row(input=label(input=spec), batch=8, length="dataset", threads=2))
    assert workload.name == "minilm, b8×dataset"
    assert configuration.name == f"{INT8}, 2 threads, sorted"


def test_a_baselines_own_padding_is_no_part_of_the_answer() -> None:
    spec = records.InputSpec(batch=8, length="dataset", baseline_padding="max:128")
    assert points.read(row(input=label(input=spec)))[1].details == ()


def test_rows_in_a_call_are_the_answer_where_all_is_about_rows_per_second() -> None:
    text = label(instances=2, baseline_layout=(1, 2), input=records.InputSpec(batch=8, length=16))
    workload, configuration = points.read(throughput(input=text, batch=8))
    assert workload.name == "minilm, l16, throughput"
    assert configuration.layout == "2 instances × 1 thread, batch 8"


@pytest.mark.parametrize(
    ("serving", "arrivals", "details"),
    [
        ({"rate_per_s": 50.0}, "50/s", ()),
        ({"bound_s": 0.02, "quantile": 0.95}, "p95 ≤ 20 ms", ()),
        (
            {"bound_s": 0.02, "quantile": 0.99, "max_batch": 8, "max_wait_s": 0.005, "cache": 8, "zipf": 1.0},
            "p99 ≤ 20 ms, zipf 1",
            ("batch 8/5 ms", "cache 8"),
        ),
    ],
)
def test_arrivals_are_asked_batching_and_cache_answer(
    serving: dict[str, float], arrivals: str, details: tuple[str, ...]
) -> None:
    workload, configuration = points.read(served(input=served_case(**serving)))
    assert (workload.arrivals, configuration.details) == (arrivals, details)


def test_only_rows_with_a_number_on_clear_content_become_points() -> None:
    found = points.plot(
        [
            row(),
            row(BF16, state="unsupported"),
            row(BF16, threads=2, marks=("digest",)),
            row(kind="tensor"),
            row(kind="accuracy", input=None),
        ]
    )
    assert [point.configuration.strategy for point in found.points] == [INT8]
    assert [one.state for one in found.without] == ["unsupported"]
    assert found.ambiguous == 1


def test_of_one_configuration_measured_against_two_baselines_the_more_precise_one_counts() -> None:
    found = points.plot([row(gain=2.0, within=0.1), row(gain=1.0, within=0.01, baseline="onnxruntime/fp32")])
    assert [point.row.gain for point in found.points] == [1.0]


def test_other_content_of_a_model_is_another_question() -> None:
    found = points.plot([row(), row(model_digest="m2", where=OLD)])
    assert len(points.workloads(found.points)) == 2
