"""What a model has to do for one call, in operations and bytes: lower bounds, whatever computes it (standard library).

A model's `Demand` is found once, where its layers can be seen; what a call takes follows from the call's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a classifier asks of a machine, apart from the shape of a call.

    Linear layers count by their weights' values: each is multiplied and added once for every token, every row or every
    call that passes the layer.
    """

    per_token: int  # values of the weights that every token meets, as often as it does
    per_row: int  # of those that a row meets once: pooler, classifier
    per_call: int  # of those that a call meets, however many rows it has
    attention_width: int  # heads × size of a head, summed over the layers
    weights: int  # values of all weights of linear layers, each once
    embedded: int  # values of the embedding tables that one token reads
    classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one call takes at least."""

    ops: int  # a multiplication and its addition are two operations
    bytes: int  # read and written: weights, rows of the embedding tables, token ids, logits


def of_call(demand: Demand, batch: int, length: int, weight_bits: int) -> Work:
    """The least work of one call of `batch` rows of `length` tokens each, padding included.

    Operations: 2 for each weight value and token (or row), and 4 · batch · length² · width for attention, two
    products of [length × size] by [size × length] and back for each head (Kaplan et al., "Scaling Laws for Neural
    Language Models", 2020, table 1, there for one token of a causal model: 2 · context · width each). Softmax, norms,
    activation functions and biases are left out: they are no products, and a percent together.

    Bytes: every weight of the linear layers once, as wide as the precision stores it (a layer that stays in float is
    counted narrow too), the rows of the embedding tables that the tokens name, the ids and the logits. Activations
    between layers are left out, since they may stay in a cache; so are scales and zero points.
    """
    tokens = batch * length
    products = demand.per_token * tokens + demand.per_row * batch + demand.per_call
    attention = 4 * batch * length**2 * demand.attention_width
    stored = demand.weights + demand.embedded * tokens
    return Work(
        ops=2 * products + attention,
        bytes=stored * weight_bits // 8 + 8 * tokens + FLOAT_BYTES * demand.classes * batch,
    )


def facts(demand: Demand, shapes: Sequence[tuple[int, int]], weight_bits: int) -> dict[str, Any]:
    """The work of a side's calls as its result keeps it: the middle call's, which the median latency is of, and the
    mean, which the throughput is of.

    `shapes`: batch and length of each distinct call, as the file of inputs has them.
    """
    calls = sorted((of_call(demand, *shape, weight_bits) for shape in shapes), key=lambda one: (one.ops, one.bytes))
    middle = calls[len(calls) // 2]
    return {
        "ops": middle.ops,
        "bytes": middle.bytes,
        "ops_mean": sum(one.ops for one in calls) / len(calls),
        "bytes_mean": sum(one.bytes for one in calls) / len(calls),
        "weight_bytes": demand.weights * weight_bits // 8,
        "weight_bits": weight_bits,
        "calls": len(calls),
    }


def demand(document: Mapping[str, Any] | None) -> Demand | None:
    """A demand from an artifact's facts; None where it has none."""
    return None if document is None else Demand(**document)
