from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scheduler.across import Across, across
from scheduler.cli import across_table, export, results, tables
from scheduler.compare import MARKS, Comparison, case_order, compare
from storage.views import ResultView
from tests.factories import answers
from tests.fleets import CAPS, EPYC, OLD_TORCH, XEON, accuracy, failed, latency, platform

BASELINE, BF16, INT8 = "torch/fp32", "torch/bf16", "torch/int8-dynamic"
LONG = "torch/int8-dynamic:engine=onednn,per_channel=true"
CAPPED = platform(caps=CAPS, isa=("avx2",))
FLEET = (EPYC, XEON, OLD_TORCH, CAPPED)

GAINS = {BASELINE: (1.0, 1.0, 1.0), BF16: (1.41, 2.96, 0.51), INT8: (2.41, 3.35, 1.52), LONG: (1.82, 2.9, 1.1)}


def views() -> Iterator[ResultView]:
    """Three platforms: shared and own thread counts, a flip, a loss of accuracy, and everything that can go wrong."""
    for number, where in enumerate(FLEET[:3]):
        for threads in (1, 4 * (number + 1)):
            for strategy, gain in GAINS.items():
                yield latency(where, gain[number], strategy=strategy, threads=threads, host=f"host-{number}")
        for strategy, correct in ((BASELINE, 95), (INT8, (95, 94, 80)[number])):
            yield accuracy(where, correct, strategy=strategy, host=f"host-{number}")
    yield failed(
        OLD_TORCH, strategy="onnxruntime/fp32", host="host-2", message="onnxruntime is not installed; pip install it"
    )
    yield latency(EPYC, 1.9, strategy="onnxruntime/fp32", flags=("disturbed",))
    yield latency(XEON, 1.7, strategy="onnxruntime/fp32", flags=("threads", "wide"), withheld={0.95: "9 samples"})
    yield accuracy(OLD_TORCH, strategy=BF16, host="host-2", state="dead", message="killed by signal 9", accuracy=None)
    yield latency(XEON, 2.2, model="second", model_digest="model-b", input="b8×dataset/max:128", host="[/]\x1b[2J")
    yield latency(EPYC, 2.3, model="second", model_digest="model-c", input="b8×dataset/max:128")


def rows() -> list[Comparison]:
    found = list(views())
    kept = {view.job_id: answers([n < (view.correct or 0) for n in range(100)]) for view in found}
    return compare(found, kept.get)


def beside(compared: list[Comparison] | None = None) -> Across:
    return across(sorted(rows() if compared is None else compared, key=case_order), FLEET)


def printed(found: Across, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    console.print(across_table.render(found, width))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def squeezed(text: str) -> str:
    """Without blanks: lines are broken where the terminal ends."""
    return "".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 100, 140, 250])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    text = printed(beside(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for gains in GAINS.values():
        assert all(f"×{gain:.2f}" in text for gain in gains)
    for part in ("[0.48, 0.54]", "[2.81, 3.11]", "80.0 %", "unsupported", "dead", "left out", "×0.51–", "×2.96 ±"):
        assert part in text
    assert "points, p < 0.001" in " ".join(text.split()) or width < 250


@pytest.mark.parametrize("width", [80, 100, 140])
def test_three_platforms_stay_side_by_side(width: int) -> None:
    text = printed(beside(), width)
    heads = [line.split("  ") for line in text.splitlines() if line.startswith("strategy")]
    gain, accuracies = ([word.strip() for word in line if word] for line in heads[:2])
    assert gain[1] == accuracies[1] == "EPYC 9B14"
    assert (len(gain), len(accuracies)) == (5, 5)


def small() -> list[Comparison]:
    found = [latency(EPYC, 1.41, strategy=BF16), latency(OLD_TORCH, 0.51, strategy=BF16), failed(OLD_TORCH)]
    return compare([*found, latency(EPYC, 2.41, flags=("wide",))], lambda _: None)


def test_a_table_in_full() -> None:
    text = printed(beside(small()), 100)
    assert text == (Path(__file__).parent / "across_100.txt").read_text().rstrip("\n")


def test_the_narrow_table_stacks_intervals_below_gains() -> None:
    text = printed(beside(small()), 60)
    assert "torch/bf16          ×1.41*        ×0.51*        ×0.51–\n" in text
    assert "                    [1.34, 1.48]  [0.48, 0.54]  ×1.41 ±\n" in text


def test_what_differs_is_said_below() -> None:
    text = squeezed(printed(beside(), 100))
    for sentence in (
        f"{BF16}: faster than {BASELINE} on EPYC 9B14, Xeon 8581C; slower on Xeon E5-2686 v4; their software differs",
        "the model differs: model-c on EPYC 9B14 [one]; model-b on Xeon 8581C [[/]\ufffd[2J]",
        "torch: 2.13.0 on EPYC 9B14, Xeon 8581C; 2.12.1 on Xeon E5-2686 v4",
        "onnxruntime/fp32 on Xeon E5-2686 v4: onnxruntime is not installed; pip install it",
        f"{BF16} on Xeon E5-2686 v4: dead: killed by signal 9",
        "Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz; 1 core, 2 logical; 64 GiB; bare metal",
        f"hardware {OLD_TORCH.hardware_key[:8]}, software {OLD_TORCH.environment_key[:8]}, host host-2",
    ):
        assert squeezed(sentence) in text


def test_thread_counts_of_one_platform_each_share_a_section_that_shows_them() -> None:
    lines = printed(beside(), 140).splitlines()
    start = lines.index("b1×l16, threads differ")
    assert lines[start + 1].split() == ["threads", "4", "8", "12", "–"]


def test_a_capped_column_shows_what_hides_its_instruction_sets() -> None:
    text = printed(beside(compare([latency(EPYC), latency(CAPPED, 1.5)], lambda _: None)), 100)
    assert "capped to AVX2" in text.splitlines()[3]
    assert "hidden by ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2" in text


def test_every_mark_in_use_is_explained_and_no_other() -> None:
    text = squeezed(printed(beside(), 100))
    for mark, meaning in MARKS.items():
        explained = squeezed(f"{tables.SYMBOLS[mark]} {mark}: {meaning}") in text
        assert explained == (mark in {"A/A", "disturbed", "threads", "wide", "left out", "digest"}), mark
    assert "×1.70*t~[" in squeezed(printed(beside(), 140))  # withheld percentiles are not shown here
    assert "§software:" in text
    plain = squeezed(printed(beside(compare([latency(EPYC), latency(XEON)], lambda _: None)), 100))
    assert not any(word in plain for word in ("§", "±", "differs", "#digest"))


def test_a_column_without_any_gain_stays_for_that_is_news_too() -> None:
    found = compare([latency(EPYC), accuracy(EPYC), accuracy(XEON)], lambda _: None)
    lines = printed(beside(found), 100).splitlines()
    assert lines[2].split() == ["strategy", "EPYC", "9B14", "Xeon", "8581C"]
    assert lines[5].split()[-1] == "–"


def test_an_unlike_baseline_heads_its_own_section() -> None:
    found = compare([latency(EPYC), latency(XEON, 1.2, baseline="onnxruntime/fp32")], lambda _: None)
    text = printed(beside(found), 100)
    assert "b1×l16, 1 thread, over torch/fp32\n" in text
    assert "b1×l16, 1 thread, over onnxruntime/fp32\n" in text


def test_jobs_that_no_platform_took_are_listed_with_their_reason() -> None:
    lost: dict[str, Any] = dict.fromkeys(("hardware_key", "environment_key", "cpu", "host"))
    found = compare(
        [latency(EPYC), latency(XEON), failed(EPYC, state="cancelled", message="by hand", **lost)], lambda _: None
    )
    assert f"on no platform\n  minilm, {INT8}, b1×l16, 1 thread: cancelled, by hand\n" in printed(beside(found), 100)


def flat(found: Any) -> set[str]:
    """Names of all fields of a JSON document, except where names are content."""
    if isinstance(found, dict):
        deeper = {"hardware", "environment"} & set(found)
        return set(found).union(*(flat(value) for name, value in found.items() if name not in deeper))
    return set().union(*map(flat, found)) if isinstance(found, list) else set()


def test_json_sets_platforms_side_by_side_and_its_fields_are_described() -> None:
    document = json.loads(export.comparison_json(rows(), beside()))
    assert (document["schema"], len(document["platforms"])) == (1, 3)
    (first, *_) = (one for one in document["across"] if one["kind"] == "gain")
    assert (first["model"], first["baseline"], first["input"], first["threads"]) == ("minilm", BASELINE, "b1×l16", 1)
    assert [column["label"] for column in first["columns"]] == ["EPYC 9B14", "Xeon 8581C", "Xeon E5-2686 v4"]
    (flipped,) = (row for row in first["rows"] if row["flips"])
    assert (flipped["strategy"], flipped["low"], flipped["high"]) == (BF16, 0.51, 2.96)
    assert [cell["gain"] for cell in flipped["cells"]] == [1.41, 2.96, 0.51]
    text = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
    assert sorted(name for name in flat([document["across"], document["platforms"]]) if f"`{name}`" not in text) == []


def test_json_of_one_platform_has_nothing_side_by_side() -> None:
    document = json.loads(export.comparison_json(compare([latency(EPYC)], lambda _: None), None))
    assert (len(document["comparisons"]), document["across"], document["platforms"]) == (1, [], [])


def test_the_best_gain_of_any_platform_comes_first_when_sorted_so() -> None:
    compared = [row for row in rows() if row.model == "minilm" and row.threads == 1]
    ordered = results.sort_rows(sorted(compared, key=case_order), "gain", group=lambda row: (row.model, row.input))
    (model,) = across(ordered, FLEET).models
    assert [row.strategy for row in model.gains[0].rows][:3] == [INT8, BF16, LONG]


def test_an_unknown_cpu_has_a_column_too() -> None:
    where = platform("unknown")
    found = across(compare([latency(where), latency(XEON)], lambda _: None), [where, XEON])
    assert "unknown CPU" in printed(found, 80)
