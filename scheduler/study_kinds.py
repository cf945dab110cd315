"""Sections of a study file that belong to one kind of job: tensors, serving, the baseline's layout."""

from __future__ import annotations

from typing import Literal, Self

import pydantic
from pydantic import Field

from scheduler.study_section import Section, one_of, only_with
from scheduler.study_values import (
    Batches,
    Duration,
    Instances,
    Layers,
    Operations,
    Shape,
    Threads,
)
from storage import operations, records


class Tensor(Section):
    """Tensor operations on the weight of a layer, or on random numbers of a shape."""

    layer: Layers | None = Field(
        None,
        description="Name of a layer of each model, or a list: bert.encoder.layer.0.output.dense; "
        "`quantfleet model inspect MODEL` lists them.",
    )
    shape: Shape | None = Field(None, description="[out, in] of a weight of random numbers, instead of a layer.")
    operations: Operations = Field(
        default_factory=lambda: tuple(operations.OPERATIONS),
        description="matmul, mul, linear (each in all its precisions) or one such as matmul/int8; all by default. "
        "Each is compared with the same operation in fp32.",
    )
    rows: Batches = Field(
        default_factory=lambda: (1, 16, 128),
        description="Rows of a linear operation's input; 1, 16 and 128 by default.",
    )

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        one_of(self, "layer", "shape")
        if "rows" in self.model_fields_set and not any(name.startswith("linear/") for name in self.operations):
            raise ValueError("rows goes with linear operations only")
        return self

    def specs(self) -> tuple[tuple[records.TensorSpec, str], ...]:
        """Every operand with the name of an operation on it."""
        return tuple(
            (records.TensorSpec(layer=layer, shape=self.shape, rows=rows), name)
            for layer in self.layer or (None,)
            for name in self.operations
            for rows in (self.rows if name.startswith("linear/") else (None,))
        )


class Batching(Section):
    """Several requests in one call of a server."""

    max_batch: int = Field(ge=2, le=1024, description="Requests in one call, at most.")
    max_wait: Duration | None = Field(
        None,
        description="How long a request waits at most for its batch to fill while an instance is free, e.g. 5ms; "
        "without it a free instance takes at once what waits.",
    )


class Serving(Section):
    """How requests come to a server, and how it serves them."""

    rate: float | None = Field(
        None, gt=0, le=1e6, description="Requests per second, at random (Poisson arrivals), e.g. 50."
    )
    bound: Duration | None = Field(
        None,
        description="Instead of a rate: search for the highest whose latency, counted from arrival, stays within it, "
        "e.g. 20ms.",
    )
    percentile: Literal["p90", "p95", "p99"] = Field(
        "p99", description="Which percentile of the latency the bound is for: p90, p95 or p99 (the default)."
    )
    batching: Batching | None = Field(None, description="Several requests in one call; without it each has its own.")
    cache: int | None = Field(
        None, ge=1, le=1_000_000, description="Results kept; a request whose call is among them is answered at once."
    )
    zipf: float | None = Field(
        None,
        ge=0,
        le=10,
        description="Exponent of the request mix over the distinct calls of the input (its calls): the k-th is asked "
        "for k^-zipf as often as the first. By default every call is asked for alike.",
    )

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        one_of(self, "rate", "bound")
        only_with(self, "bound", "percentile")
        return self

    def spec(self) -> records.ServingSpec:
        """As jobs carry it."""
        batching = self.batching
        return records.ServingSpec(
            rate_per_s=self.rate,
            bound_s=self.bound,
            quantile=None if self.bound is None else float(self.percentile[1:]) / 100,
            max_batch=1 if batching is None else batching.max_batch,
            max_wait_s=0.0 if batching is None else batching.max_wait or 0.0,
            cache=self.cache or 0,
            zipf=self.zipf,
        )


class Layout(Section):
    """So many processes side by side, each with so many threads."""

    instances: Instances = Field(description="A number, or auto: as many as fill the physical cores of each machine.")
    threads: Threads = Field(description="A number, physical or logical.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        if self.threads == "all":
            raise ValueError("threads: all is every count; expected a number, physical or logical")
        return self
