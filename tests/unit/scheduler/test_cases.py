"""The matrix of kinds beyond latency and accuracy: instances, tensor operations, padding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from scheduler import cases, compare, plan, resolve, targets
from storage import errors, keys, records
from storage.views import ResultView
from tests.factories import latency_view
from tests.unit.scheduler.study_files import hardware, load, platform

SERVER = "strategies: [torch/fp32]\nkinds: [server]\nserving: "
HEAD = "name: s\nmodels: {r: {random: bert}}\n"


def entries(folder: Path, text: str, **machine: Any) -> list[plan.Entry]:
    found = resolve.resolve(load(folder, HEAD + text))
    where = targets.Target(platform_key="p", platforms=(platform(**machine),), hosts=("h",))
    return list(plan.plan(found, [where]).entries)


def labels(found: list[plan.Entry]) -> list[tuple[str | None, int | None, str]]:
    return [(one.case.label, one.case.threads, one.state) for one in found]


def test_instances_fill_the_physical_cores_and_what_comes_out_the_same_is_one_case(tmp_path: Path) -> None:
    text = "strategies: [torch/bf16]\nkinds: [throughput]\nthreads: [1, 4]\ninstances: [auto, 1, 2]\n"
    found = entries(tmp_path, f"{text}inputs: [{{length: 16}}]\n", physical_cores=4, logical_cores=4)

    assert labels(found) == [
        ("b1×l16, 4 instances", 1, "planned"),
        ("b1×l16, 1 instance", 1, "planned"),
        ("b1×l16, 2 instances", 1, "planned"),
        ("b1×l16, 1 instance", 4, "planned"),
        ("b1×l16, 2 instances", 4, "impossible"),
    ]
    assert found[-1].reason == "2 × 4 threads are more than this machine's 4 logical cores"


def test_the_baseline_may_be_laid_out_otherwise_and_where_it_is_not_the_case_says_nothing_of_it(tmp_path: Path) -> None:
    text = "strategies: [torch/fp32]\nkinds: [throughput]\nthreads: [1, 4]\ninputs: [{length: 16}]\n"
    layout = "baseline_layout: {instances: 1, threads: physical}\n"
    found = entries(tmp_path, text + layout, physical_cores=4, logical_cores=4)

    assert labels(found) == [("b1×l16, 4 instances vs 1 of 4", 1, "planned"), ("b1×l16, 1 instance", 4, "planned")]
    assert [one.case.layout("baseline") for one in found] == [(1, 4), (1, 4)]
    assert found[0].key != entries(tmp_path, text, physical_cores=4, logical_cores=4)[0].key


def test_a_server_is_asked_in_each_way_with_each_number_of_instances(tmp_path: Path) -> None:
    ways = "[{rate: 50}, {bound: 20ms}, {bound: 0.02, percentile: p95, batching: {max_batch: 4, max_wait: 5ms}}]"
    found = entries(tmp_path, f"{SERVER}{ways}\nthreads: [1]\ninstances: [1, 2]\ninputs: [{{length: 16}}]\n")

    assert [one.case.label for one in found] == [
        "b1×l16, 1 instance, 50/s",
        "b1×l16, 1 instance, p99 ≤ 20 ms",
        "b1×l16, 1 instance, p95 ≤ 20 ms, batch 4/5 ms",
        "b1×l16, 2 instances, 50/s",
        "b1×l16, 2 instances, p99 ≤ 20 ms",
        "b1×l16, 2 instances, p95 ≤ 20 ms, batch 4/5 ms",
    ]
    assert len({one.key for one in found}) == 6
    assert {(one.case.kind, one.case.cores) for one in found} == {("server", 1), ("server", 2)}
    case = found[-1].case
    assert records.from_document(records.Case, records.to_document(case)) == case


def test_an_overloaded_server_has_no_gain_and_a_mark_that_says_so() -> None:
    view = latency_view(
        kind="server", strategy="torch/bf16", gain=None, gain_low=None, gain_high=None, flags=("overloaded",)
    )
    withheld = {"percentiles": [{"q": 0.95, "value_s": None, "withheld": "overloaded"}]}
    view = dataclasses.replace(
        view, document={"strategy": withheld}, notes=("strategy: overloaded: of 50 requests/s …",)
    )

    (row,) = compare.compare([view], lambda _job: None)

    assert (row.state, row.gain, row.significant, row.marks, row.withheld) == ("done", None, None, ("overloaded",), ())
    assert row.notes == ("strategy: overloaded: of 50 requests/s …",)


def test_instances_are_part_of_a_jobs_identity_and_latency_keeps_its_key() -> None:
    case = records.Case(
        kind="latency",
        model=records.ModelRef(name="m", source="random", location="bert"),
        strategy="torch/bf16",
        baseline="torch/fp32",
        threads=1,
        input=records.InputSpec(batch=1, length=16, calls=1),
    )
    # as it was before the other kinds came: the results of older databases still count
    assert keys.job_key(case, "p", 0) == "0cb382ca65562862"


def test_each_operation_meets_its_own_in_fp32_and_the_articles_pair_comes_too(tmp_path: Path) -> None:
    text = "kinds: [tensor]\nthreads: [1]\ntensors: [{shape: [768, 768], operations: [matmul/fp32, mul, matmul/int8]}]"
    found = entries(tmp_path, text)

    assert {one.case.model.name for one in found} == {"random-numbers"}
    assert [(one.case.strategy, one.case.baseline) for one in found] == [
        ("matmul/fp32", "matmul/fp32"),
        ("mul/fp32", "mul/fp32"),
        ("mul/bf16", "mul/fp32"),
        ("mul/int8-qfunctional", "mul/fp32"),
        ("matmul/int8", "matmul/fp32"),
        ("mul/int8-qfunctional", "matmul/fp32"),
    ]
    assert len({one.key for one in found}) == 6


def test_a_layer_is_asked_of_each_model_and_linear_for_each_number_of_rows(tmp_path: Path) -> None:
    text = "kinds: [tensor]\nthreads: [2]\ntensors: [{layer: [a, b], operations: [linear/fp32], rows: [1, 16]}]\n"

    assert labels(entries(tmp_path, text)) == [
        ("a, 1 row", 2, "planned"),
        ("a, 16 rows", 2, "planned"),
        ("b, 1 row", 2, "planned"),
        ("b, 16 rows", 2, "planned"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kinds: [tensor]", "kinds: tensor needs tensors, and there is none"),
        ("strategies: [torch/fp32]\ntensors: [{shape: [2, 2]}]", "tensors: no kind asks for them; add tensor to kinds"),
        (
            "strategies: [torch/fp32]\ninstances: [2]",
            "instances: no kind asks for them; add throughput or server to kinds",
        ),
        ("strategies: [torch/fp32]\nkinds: [server]", "kinds: server needs serving, and there is none"),
        ("strategies: [torch/fp32]\nserving: [{rate: 5}]", "serving: no kind asks for it; add server to kinds"),
        (f"{SERVER}[{{rate: 5, bound: 20ms}}]", "expected one of rate, bound; rate and bound are given together"),
        (f"{SERVER}[{{rate: 0}}]", r"serving\[0\]\.rate: expected more than 0, not 0"),
        (f"{SERVER}[{{rate: 5, percentile: p95}}]", "percentile goes with bound only"),
        (f"{SERVER}[{{bound: 20}}, {{bound: 20 minutes}}]", "expected a time above 0 such as 20ms or 0.5s"),
        (f"{SERVER}[{{bound: 20ms, percentile: p98}}]", "expected 'p90', 'p95' or 'p99', not 'p98'"),
        (f"{SERVER}[{{rate: 5, batching: {{max_batch: 1}}}}]", "max_batch: expected at least 2, not 1"),
        (f"{SERVER}[{{rate: 5, cache: 10}}]", r"serving\[0\]\.cache: needs distinct calls: every input of length"),
        (f"{SERVER}[{{rate: 5, zipf: 1}}]", r"serving\[0\]\.zipf: needs distinct calls"),
        (f"{SERVER}[{{rte: 5}}]", "there is no such field; did you mean 'rate'"),
        (
            f"{SERVER}[{{rate: 5}}]\nthreads: [1]\ntargets: any",
            "instances.*auto is another number on each machine",
        ),
        ("strategies: [torch/fp32]\nkinds: [throughput]\ninstances: [many]", "expected a number from 1, or auto"),
        ("kinds: [tensor]\ntensors: [{}]", "expected one of layer, shape; none is given"),
        ("kinds: [tensor]\ntensors: [{shape: [2]}]", r"expected two numbers, \[out, in\]"),
        ("kinds: [tensor]\ntensors: [{shape: [2, 2], operations: mul/int8-dynamic}]", "mul has no precision"),
        ("kinds: [tensor]\ntensors: [{shape: [2, 2], operations: mul, rows: 1}]", "rows goes with linear"),
        (
            "strategies: [torch/fp32]\nkinds: [throughput]\nthreads: [1]\ntargets: any",
            "instances.*auto is another number on each machine",
        ),
        ("strategies: [torch/fp32]\ninputs: [{length: 16, padding: sorted}]", "sorted goes with length: dataset only"),
        (
            "strategies: [torch/fp32]\ninputs: [{length: 16, baseline_padding: 'max:8'}]",
            "16 tokens cannot be padded with max:8",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(errors.StudyError, match=said):
        load(tmp_path, HEAD + text + "\n")


def test_paddings_are_an_axis_and_the_baselines_may_differ(tmp_path: Path) -> None:
    asked = "{length: [16, 128], padding: [longest, 'max:128'], baseline_padding: 'max:128'}"
    text = f"{HEAD}strategies: [torch/fp32]\ninputs: [{asked}]\n"

    assert [spec.label() for spec in load(tmp_path, text).inputs] == [
        "b1×l16 vs max:128",
        "b1×l16/max:128",
        "b1×l128",
    ]


def test_both_sides_get_the_same_rows_cut_alike() -> None:
    spec = records.InputSpec(batch=8, length="dataset", padding="sorted", baseline_padding="max:32")

    assert spec.of_side("strategy") == spec
    assert spec.of_side("baseline").padding == "max:32"
    assert {spec.of_side(side).cut for side in ("baseline", "strategy")} == {32}


def test_a_gain_between_unlike_operations_is_marked_and_told_beside_the_one_like_for_like() -> None:
    def tensor(baseline: str, gain: float, alike: bool) -> ResultView:
        view = latency_view(
            job_id=f"{baseline}{gain}",
            kind="tensor",
            strategy="mul/int8-qfunctional",
            baseline=baseline,
            input="out_lin",
            batch=None,
            length=None,
            gain=gain,
            gain_low=gain * 0.99,
            gain_high=gain * 1.01,
        )
        return dataclasses.replace(view, document={"same_operation": alike})

    rows = compare.compare(
        [tensor("matmul/fp32", 74.0, False), tensor("mul/fp32", 0.4, True)],
        lambda _job: None,
    )

    unlike, alike = rows
    assert (unlike.gain, unlike.like_for_like, unlike.marks) == (74.0, 0.4, ("operation",))
    assert unlike.notes[0] == "×74.00 over matmul/fp32, but not the same operation; like for like: ×0.40"
    assert (alike.like_for_like, alike.marks) == (None, ())


def test_numbers_of_instances_need_a_machine_only_for_auto() -> None:
    assert cases.instance_counts((1, 3, 1), 2, None) == (1, 3)
    assert cases.instance_counts(("auto",), 16, hardware(physical_cores=8)) == (1,)
