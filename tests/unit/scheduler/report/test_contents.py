from __future__ import annotations

from scheduler.report import contents
from tests import fleets, reports
from tests.factories import answers

INT8 = "torch/int8-dynamic"


def test_lines_stand_together_by_case_and_know_their_slice() -> None:
    found = reports.two_machines()
    shapes = [(line.found.threads, line.place.name, line.found.strategy) for line in found.lines]
    assert shapes == [
        (1, "EPYC 9B14", "torch/fp32"),
        (1, "EPYC 9B14", INT8),
        (1, "Xeon 8581C", "openvino/fp32"),
        (1, "Xeon 8581C", INT8),
        (2, "EPYC 9B14", INT8),
        (2, "Xeon 8581C", INT8),
    ]
    for line in found.lines:
        at = found.slices[line.slice]
        assert (at.model, at.input, at.threads) == ("minilm", "b1×l16", line.found.threads)
        assert found.places[at.place] is line.place
    assert found.states == {"done": 5, "unsupported": 1}
    assert found.marks["A/A"] == 1


def test_a_gain_that_changes_its_sign_is_said() -> None:
    assert any(
        "torch/int8-dynamic: faster than torch/fp32 on EPYC 9B14" in one for one in reports.two_machines().sentences
    )


def test_the_largest_gain_and_the_largest_without_a_shown_loss() -> None:
    right = [True] * 100
    quick = fleets.latency(fleets.EPYC, 3.0, strategy="torch/bf16")
    views = [
        quick,
        fleets.latency(fleets.EPYC, 2.0),
        bad := fleets.accuracy(fleets.EPYC, 50, strategy="torch/bf16"),
        good := fleets.accuracy(fleets.EPYC, 100),
        base := fleets.accuracy(fleets.EPYC, 100, strategy="torch/fp32"),
    ]
    known = {
        bad.job_id: answers([True] * 50 + [False] * 50),
        good.job_id: answers(right),
        base.job_id: answers(right),
    }
    (top,) = reports.report(views, predictions=known).tops
    assert top.fastest is not None
    assert top.fastest.found.strategy == "torch/bf16"
    assert top.lossless is not None
    assert top.lossless.found.strategy == INT8


def test_a_gain_whose_interval_holds_one_is_no_top() -> None:
    (top,) = reports.report([fleets.latency(fleets.EPYC, 1.02)]).tops
    assert (top.fastest, top.lossless) == (None, None)


def test_thread_counts_make_one_scaling_for_all_of_them() -> None:
    found = reports.report(
        [fleets.latency(fleets.EPYC, threads=1, latency_p50_s=0.02), fleets.latency(fleets.EPYC, threads=2)]
    )
    (one,) = found.scalings
    assert (one.threads, one.speedups, one.efficiency) == ((1, 2), (1.0, 2.0), 1.0)
    assert found.slices[one.slice].threads is None


def test_noise_tells_how_often_a_baseline_is_covered_by_its_own_interval() -> None:
    quiet, other = reports.two_machines().noises
    assert (quiet.place.name, len(quiet.against_itself), quiet.covered) == ("EPYC 9B14", 1, 1)
    assert quiet.half_width is not None
    assert abs(quiet.half_width - 0.05) < 1e-9
    assert len(other.against_itself) == 0


def test_nothing_measured_makes_an_empty_report() -> None:
    found = contents.report([], [], reports.about())
    assert (found.lines, found.places, found.tops, found.states) == ((), (), (), {})


def test_gains_over_several_baselines_in_one_case_name_theirs() -> None:
    operations = [
        fleets.latency(fleets.EPYC, kind="tensor", input="768×768", strategy="mul/int8", baseline=baseline)
        for baseline in ("mul/fp32", "matmul/fp32")
    ]
    found = reports.report([*operations, fleets.latency(fleets.EPYC)])
    assert {line.name for line in found.lines} == {"mul/int8 over mul/fp32", "mul/int8 over matmul/fp32", INT8}


def test_another_tool_s_gain_is_no_top() -> None:
    (top,) = reports.report([fleets.latency(fleets.EPYC, 9.0, flags=("foreign",)), fleets.latency(fleets.EPYC)]).tops
    assert top.fastest is not None
    assert top.fastest.found.gain == 2.0
