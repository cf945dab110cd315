"""What OpenVINO's CPU plugin really executes, read from the execution graph of a compiled model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

PRODUCTS = ("FullyConnected", "MatMul")
"""Layer types that are one matrix product each; attention in floating point hides its two in a `Subgraph`."""

_ARITHMETIC = (*PRODUCTS, "Subgraph", "ScaledDotProductAttention")
_NOT_EXECUTED = frozenset({"Const", "Input", "Output"})
_INT8 = frozenset({"i8", "u8"})
_COMPRESSED = frozenset({"i8", "u8", "i4", "u4"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One node of an execution graph."""

    kind: str  # the plugin's layer type
    result: str  # element type of what it puts out
    primitive: str  # kernel and instruction set; begins with "undef" until the first inference has chosen one
    operands: tuple[str, ...]  # element types of its inputs: activations, weights, …

    @property
    def label(self) -> str:
        """Its kind with the types that it works on, such as `FullyConnected[f32×u8]` and `MVN[f32]`."""
        return f"{self.kind}[{'×'.join(self.operands[:2]) if self.is_product else self.result}]"

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product."""
        return self.kind in PRODUCTS

    @property
    def in_int8(self) -> bool:
        """Whether it multiplies int8 by int8, as the types of both operands say."""
        return self.is_product and set(self.operands[:2]) <= _INT8

    @property
    def compressed(self) -> bool:
        """Whether it multiplies float activations by weights of 8 or 4 bits."""
        return self.is_product and self.operands[0] not in _INT8 and self.operands[1] in _COMPRESSED


def nodes(compiled: Any) -> list[Node]:
    """The executed nodes; constants, inputs and outputs left out."""
    found = [_node(one) for one in compiled.get_runtime_model().get_ops()]
    return [node for node in found if node.kind not in _NOT_EXECUTED]


def is_settled(found: Sequence[Node]) -> bool:
    """Whether the kernels of all matrix products are chosen: the first inference does it for a dynamic shape."""
    return not any(node.is_product and node.primitive.startswith("undef") for node in found)


def facts(found: Sequence[Node], *, dynamic: bool) -> dict[str, Any]:
    """Counts of executed nodes and of the kernels that do arithmetic, as plain JSON data.

    `dynamic`: activations are known to be quantized inside the products with compressed weights. The graph does not
    tell that: it calls such activations float.
    """
    compressed = sum(node.compressed for node in found)
    return {
        "nodes": _counts(node.label for node in found),
        "kernels": _counts(f"{node.label} {node.primitive}" for node in found if node.kind in _ARITHMETIC),
        "quantized_layers": sum(node.in_int8 for node in found) + (compressed if dynamic else 0),
        "compressed_layers": compressed,
    }


def _node(operation: Any) -> Node:
    told = operation.get_rt_info()
    return Node(
        kind=told["layerType"].astype(str),
        result=told["outputPrecisions"].astype(str),
        primitive=told["primitiveType"].astype(str),
        operands=tuple(port.get_element_type().to_string() for port in operation.inputs()),
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
