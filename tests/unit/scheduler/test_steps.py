from __future__ import annotations

from pathlib import Path

import pytest

from scheduler import steps
from scheduler.steps import Point, Step
from storage import errors
from tests import chains


def point(**changes: object) -> Point:
    return Point(kind="throughput", strategy=chains.BASELINE, shape=chains.shape())


def test_a_step_changes_what_it_names_and_keeps_the_rest() -> None:
    step = steps.parse("int8=distil:layers=3+torch/int8-dynamic padding=longest")
    assert step.name == "int8"
    assert step.changes == {"strategy": chains.INT8, "padding": "longest"}
    found = steps.applied(step, point(), chains.DUAL.hardware)
    assert found == Point(kind="throughput", strategy=chains.INT8, shape=chains.shape("longest"))


def test_a_strategy_in_any_spelling_becomes_its_one_spelling() -> None:
    assert steps.parse("a=torch/int8-dynamic:per_channel").changes["strategy"] == "torch/int8-dynamic:per_channel=true"
    assert steps.parse("a=strategy=torch/bf16").changes == {"strategy": "torch/bf16"}


def test_a_plus_keeps_the_transforms_so_far() -> None:
    before = Point(kind="throughput", strategy=chains.STUDENT, shape=chains.shape())
    found = steps.applied(steps.parse("int8=+onnxruntime/int8-dynamic"), before, chains.DUAL.hardware)
    assert found.strategy == chains.ONNX


def test_words_take_the_numbers_of_the_machine() -> None:
    step = steps.parse("processes=threads=1 instances=auto")
    found = [steps.applied(step, point(), where.hardware).shape.layout for where in (chains.QUAD, chains.SINGLE)]
    assert found == [(4, 1), (1, 1)]


def test_several_processes_lead_from_latency_to_throughput() -> None:
    before = Point(kind="latency", strategy=chains.BASELINE, shape=chains.shape())
    assert steps.applied(steps.parse("p=threads=1 instances=auto"), before, chains.QUAD.hardware).kind == "throughput"
    assert steps.applied(steps.parse("p=threads=1"), before, chains.QUAD.hardware).kind == "latency"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8", "a step is NAME=WHAT"),
        ("=torch/bf16", "a step is NAME=WHAT"),
        ("a=paddin=longest", "no step changes 'paddin'; did you mean 'padding'?"),
        ("a=padding=longes", "padding is longest, max:N"),
        ("a=threads=0", "threads is a number, physical or logical"),
        ("a=torch/int9", "step 'a': torch has no precision 'int9'; did you mean 'int8-dynamic'?"),
        ("a=torch/bf16 torch/fp16", "strategy is given twice"),
        ("distil:layers=3+torch/fp32", "step 'distil:layers': "),
    ],
)
def test_what_is_no_step_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(errors.QueryError) as raised:
        steps.parse(text)
    assert message in str(raised.value)


def test_steps_are_read_from_a_file_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text("waterfall:\n  smaller: distil:layers=3+torch/fp32\n  no padding: padding=longest\n")
    assert steps.read(file) == [
        Step(name="smaller", changes={"strategy": chains.STUDENT}),
        Step(name="no padding", changes={"padding": "longest"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: {}\n", "expected `waterfall:`"),
        ("waterfall: [a, b]\n", "expected `waterfall:`"),
        ("waterfall:\n  good: torch/bf16\n  bad: padding=wide\n", "chain.yaml:3: step 'bad': padding is"),
    ],
)
def test_a_file_without_steps_says_where_and_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(text)
    with pytest.raises(errors.QueryError) as raised:
        steps.read(file)
    assert message in str(raised.value)


def test_each_step_has_a_name_of_its_own() -> None:
    with pytest.raises(errors.QueryError, match="two steps are called 'a'"):
        steps.check([Step(name="a"), Step(name="a")])
