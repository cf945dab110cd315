"""Tensor operations that a `tensor` job times: `mathematics/precision`, each described without torch.

The mathematics says what is computed, so that a gain between two operations is like for like only where it is the
same. Their implementations are in `worker.engine.tensor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage import errors, records


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation in one precision."""

    name: str  # mathematics/precision
    means: str  # how it is computed
    slow_without: tuple[str, ...] = ()  # instruction sets of which one is needed for it to be fast

    @property
    def mathematics(self) -> str:
        """What is computed: `matmul`, `mul` or `linear`."""
        return self.name.partition("/")[0]

    @property
    def precision(self) -> str:
        """What it is computed in."""
        return self.name.partition("/")[2]

    @property
    def reference(self) -> str:
        """The same mathematics in fp32: what it is compared with like for like."""
        return f"{self.mathematics}/fp32"


MATHEMATICS: Mapping[str, str] = {
    "matmul": "matrix product of the weight with itself (with its transpose where it is not square)",
    "mul": "elementwise product of the weight with itself",
    "linear": "rows of activations times the transposed weight, as a layer does it",
}

_VNNI = ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm")
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")

OPERATIONS: Mapping[str, Operation] = {
    one.name: one
    for one in (
        Operation(name="matmul/fp32", means="torch.mm of float32"),
        Operation(name="matmul/bf16", means="torch.mm of bfloat16", slow_without=_BF16),
        Operation(
            name="matmul/int8-qfunctional",
            means="QFunctional.matmul of quantize_per_tensor: it dequantizes, multiplies floats and quantizes again",
        ),
        Operation(
            name="matmul/int8",
            means="torch._int_mm: int8 in, int32 out; without VNNI it has no kernel of its own",
            slow_without=_VNNI,
        ),
        Operation(
            name="matmul/int8-packed",
            means="quantized::linear of the engine: int8 in and out, one operand packed ahead for its kernel",
        ),
        Operation(name="mul/fp32", means="torch.mul of float32"),
        Operation(name="mul/bf16", means="torch.mul of bfloat16", slow_without=_BF16),
        Operation(
            name="mul/int8-qfunctional", means="QFunctional.mul of quantize_per_tensor, as the book's chapter times it"
        ),
        Operation(name="linear/fp32", means="torch.nn.functional.linear of float32"),
        Operation(name="linear/bf16", means="torch.nn.functional.linear of bfloat16", slow_without=_BF16),
        Operation(
            name="linear/int8-dynamic",
            means="a dynamically quantized linear layer: packed int8 weights, activations quantized in each call",
        ),
    )
}
"""Every operation by its name."""

ARTICLE = ("matmul/fp32", "mul/int8-qfunctional")
"""The pair that the article times: baseline and strategy, which do not compute the same."""


def parse(name: str) -> Operation:
    """An operation by its exact name; StrategyError says what the nearest one is, or which precisions there are."""
    found = OPERATIONS.get(name)
    if found is not None:
        return found
    mathematics, _, precision = name.partition("/")
    if mathematics in MATHEMATICS and precision:
        there = ", ".join(one.precision for one in OPERATIONS.values() if one.mathematics == mathematics)
        raise errors.StrategyError(f"{mathematics} has no precision {precision!r}; it has {there}")
    near = errors.nearest(name, (*OPERATIONS, *MATHEMATICS))
    raise errors.StrategyError(f"there is no operation {name!r}{near} (there are {', '.join(OPERATIONS)})")


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Names of operations, where a mathematics alone stands for all its precisions; StrategyError as `parse`."""
    found: dict[str, None] = {}
    for name in names:
        alike = [one.name for one in OPERATIONS.values() if one.mathematics == name]
        found.update(dict.fromkeys(alike or [parse(name).name]))
    return tuple(found)


def same(one: str, other: str) -> bool:
    """Whether two operations compute the same, up to rounding."""
    return parse(one).mathematics == parse(other).mathematics


def unsupported(operation: Operation, hardware: records.Hardware, environment: records.Environment) -> str | None:
    """Why a platform cannot run an operation, with what would help; None where it can."""
    if "torch" not in environment.packages:
        return f"{operation.name} needs torch, not installed here; pip install 'quantfleet[worker]'"
    return None


def caution(operation: Operation, hardware: records.Hardware) -> str | None:
    """What a person should know before running it there; None for nothing."""
    wanted = operation.slow_without
    if wanted and not set(wanted) & set(hardware.isa):
        return (
            f"this CPU has none of {', '.join(wanted)}: {operation.name} runs without its instructions, expect a loss"
        )
    return None
