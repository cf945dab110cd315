"""What one call takes, by the formula."""

from __future__ import annotations

from storage import strategies, work
from storage.catalogue import registry

DEMAND = work.Demand(per_token=1000, per_row=100, per_call=10, attention_width=8, weights=1100, embedded=16, classes=4)


def test_operations_are_two_for_each_value_that_is_met_and_four_for_attention() -> None:
    found = work.of_call(DEMAND, batch=2, length=3, weight_bits=32)

    assert found.ops == 2 * (1000 * 6 + 100 * 2 + 10) + 4 * 2 * 9 * 8


def test_bytes_are_weights_at_their_width_named_rows_ids_and_logits() -> None:
    found = work.of_call(DEMAND, batch=2, length=3, weight_bits=4)

    assert found.bytes == (1100 + 16 * 6) // 2 + 8 * 6 + 4 * 4 * 2


def test_of_several_calls_the_middle_one_and_the_mean_are_kept() -> None:
    shapes = [(1, 3), (1, 100), (1, 5)]
    each = [work.of_call(DEMAND, *shape, 32) for shape in shapes]

    found = work.facts(DEMAND, shapes, 32)

    assert (found["ops"], found["bytes"]) == (each[2].ops, each[2].bytes)
    assert found["ops_mean"] == sum(one.ops for one in each) / 3
    assert (found["weight_bytes"], found["calls"]) == (4400, 3)


def test_every_strategy_says_what_its_products_are_computed_in() -> None:
    assert not [name for name in registry.descriptions() if strategies.parse(name).arithmetic is None]


def test_an_option_may_decide_what_is_computed_in() -> None:
    def computed(text: str) -> tuple[str, int]:
        found = strategies.parse(text).arithmetic
        assert found is not None
        return found.products, found.weight_bits

    assert computed("onnxruntime/int4-weight-only") == ("fp32", 4)
    assert computed("onnxruntime/int4-weight-only:compute=int8") == ("int8", 4)
    assert computed("inductor/int8-weight-only") == ("bf16", 8)
    assert computed("inductor/int8-weight-only:activations=fp32") == ("fp32", 8)
    assert computed("torch/int8-weight-only") == ("fp32", 8)


def test_values_of_an_option_that_decides_are_all_known() -> None:
    for description in registry.descriptions().values():
        found = description.arithmetic
        if found is not None and found.by_option:
            (option,) = [one for one in description.options if one.name == found.by_option]
            assert set(option.choices) == set(found.by_value), description.name
