from __future__ import annotations

import pytest

from scheduler import shapes
from scheduler.shapes import Shape
from storage import records
from tests import builders

INPUTS = (
    records.InputSpec(batch=1, length=16),
    records.InputSpec(batch=8, length="dataset", padding="max:128"),
    records.InputSpec(batch=1, length="dataset", padding="longest", baseline_padding="max:128"),
    records.InputSpec(batch=4, length="dataset", padding="buckets:16", baseline_padding="sorted"),
)

LAYOUTS = ((None, None), (1, None), (4, None), (2, (1, 2)), (1, (3, 1)))

SERVED = (
    None,
    records.ServingSpec(rate_per_s=50.0),
    records.ServingSpec(bound_s=0.02, quantile=0.99, max_batch=8, max_wait_s=0.005, cache=8, zipf=1.0),
)


@pytest.mark.parametrize("spec", INPUTS)
@pytest.mark.parametrize(("instances", "layout"), LAYOUTS)
@pytest.mark.parametrize("serving", SERVED)
def test_a_label_tells_the_shapes_of_both_sides(
    spec: records.InputSpec,
    instances: int | None,
    layout: tuple[int, int] | None,
    serving: records.ServingSpec | None,
) -> None:
    case = builders.case(input=spec, threads=2, instances=instances, baseline_layout=layout, serving=serving)
    found = shapes.read(case.label, 2)
    assert found is not None
    for side, shape in zip(("strategy", "baseline"), found, strict=True):
        asked = spec.of_side(side)  # type: ignore[arg-type]
        assert (shape.batch, shape.length, shape.padding) == (asked.batch, asked.length, asked.padding)
        assert shape.layout == case.layout(side)  # type: ignore[arg-type]
        assert shape.serving == ("" if serving is None else serving.label())
    if instances is not None:
        assert shapes.label("throughput", *found) == case.label
    elif serving is None:
        assert shapes.label("latency", *found) == case.label


@pytest.mark.parametrize("label", [None, "768×768, 16 rows", "bert.encoder.layer.0", ""])
def test_what_is_no_call_of_a_model_has_no_shape(label: str | None) -> None:
    assert shapes.read(label, 1) is None


def test_a_shape_in_words() -> None:
    shape = Shape(batch=1, length=16, padding="longest", instances=2, threads=1)
    assert shape.text("throughput") == "b1×l16, 2 instances of 1 thread"
    assert shape.text("latency") == "b1×l16, 1 thread"
