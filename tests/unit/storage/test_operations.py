from __future__ import annotations

import pytest

from storage import errors, operations
from tests.unit.scheduler.study_files import hardware


def test_every_operation_has_a_reference_in_fp32_that_computes_the_same() -> None:
    for name, operation in operations.OPERATIONS.items():
        assert operation.reference in operations.OPERATIONS
        assert operations.same(name, operation.reference)
        assert operation.mathematics in operations.MATHEMATICS


def test_the_articles_pair_does_not_compute_the_same() -> None:
    assert not operations.same(*operations.ARTICLE)


def test_a_mathematics_stands_for_all_its_precisions_and_repeats_merge() -> None:
    assert operations.expand(["mul", "matmul/int8", "mul/fp32"]) == (
        "mul/fp32",
        "mul/bf16",
        "mul/int8-qfunctional",
        "matmul/int8",
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mul/int8-dynamic", "mul has no precision 'int8-dynamic'; it has fp32, bf16, int8-qfunctional"),
        ("matmull", "there is no operation 'matmull'; did you mean 'matmul'"),
        ("conv/fp32", "there is no operation 'conv/fp32'"),
    ],
)
def test_an_operation_that_does_not_exist_is_told_with_what_does(name: str, said: str) -> None:
    with pytest.raises(errors.StrategyError, match=said):
        operations.expand([name])


def test_bf16_without_its_instructions_is_cautioned_of() -> None:
    operation = operations.parse("mul/bf16")
    assert "expect a loss" in (operations.caution(operation, hardware(isa=("avx2",))) or "")
    assert operations.caution(operation, hardware(isa=("avx512_bf16",))) is None
