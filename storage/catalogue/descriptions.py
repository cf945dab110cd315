"""What describes a part of a strategy: torch-free, so that the scheduler can plan and explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from storage.options import Option

Products = Literal["fp32", "bf16", "fp16", "int8"]
"""What the products of linear layers are computed in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """What decides how fast a strategy could be at most."""

    products: Products
    weight_bits: int  # of one weight value of a linear layer, as it is stored
    by_option: str = ""  # an option whose value decides `products`; empty: none does
    by_value: Mapping[str, Products] = field(default_factory=dict)  # its values


ARITHMETIC: Mapping[str, Arithmetic] = {
    "fp32": Arithmetic(products="fp32", weight_bits=32),
    "bf16": Arithmetic(products="bf16", weight_bits=16),
    "fp16": Arithmetic(products="fp16", weight_bits=16),
    "int8-dynamic": Arithmetic(products="int8", weight_bits=8),
    "int8-static": Arithmetic(products="int8", weight_bits=8),
    "int8-weight-only": Arithmetic(products="fp32", weight_bits=8),
    "int4-weight-only": Arithmetic(products="fp32", weight_bits=4),
}
"""By precision, for descriptions that say nothing else: weights alone in int8 are multiplied in float."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a pair of runtime and precision and a transform have in common."""

    summary: str
    implementation: str  # "module:Class", loaded late by worker.engine
    packages: tuple[str, ...]  # distributions that it imports to prepare or to run
    extra: str = ""  # quantfleet's extra that installs them; empty: they are installed by their names
    options: tuple[Option, ...] = ()
    needs_arch: tuple[str, ...] = ()  # architectures, one suffices; empty: any
    needs_isa: tuple[str, ...] = ()  # instruction sets, one suffices; empty: none needed
    slow_without: tuple[str, ...] = ()  # runs without, but emulated: instruction sets, one suffices
    needs: str = ""  # what else it needs, for people
    cost: str = "seconds"  # what preparing costs, for people
    means: str = ""  # what a person should know of its results; stored with each of them
    data_unless: Mapping[str, str] | None = None  # reads the dataset of its option `data`, unless its options are these

    @property
    def install(self) -> str:
        """The command that installs its packages."""
        what = f"'quantfleet[{self.extra}]'" if self.extra else " ".join(self.packages)
        return f"pip install {what}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Description(Part):
    """One registered pair of runtime and precision."""

    runtime: str
    precision: str
    arithmetic: Arithmetic | None = None  # None: `ARITHMETIC`'s of its precision, nothing where that has none

    @property
    def name(self) -> str:
        """`runtime/precision`."""
        return f"{self.runtime}/{self.precision}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transform(Part):
    """Something that makes another model of a model before a runtime executes it."""

    name: str
    training: str = ""  # the option that says how much is trained, "0": nothing; empty: it never trains


DATA = Option(
    name="data",
    type="name",
    default="train",
    help="which of the study's `datasets` the sample is drawn from; evaluation: the rows that accuracy is taken on",
)

SEED = Option(name="seed", type="int", default="0", low=0, high=2**32 - 1, help="seed of whatever is drawn")

SAMPLE = (
    DATA,
    Option(
        name="draw",
        type="choice",
        default="representative",
        choices=("representative", "one-class", "short", "random-tokens"),
        help="how calibration rows are drawn: at random over all rows; rows of the most frequent class only; the "
        "shortest rows only; made-up tokens, no rows at all. Another domain: name its dataset with data=",
    ),
    Option(name="rows", type="int", default="200", low=1, high=100_000, help="calibration rows"),
    SEED,
)
"""Options of what is calibrated on a sample."""

SAMPLED: Mapping[str, str] = {"draw": "random-tokens"}
"""`Part.data_unless` of what is calibrated on a sample."""

PER_CHANNEL = Option(
    name="per_channel",
    type="flag",
    default="false",
    help="one scale for each output row of a weight instead of one for the whole weight",
)

BF16 = ("avx512_bf16", "amx_bf16", "bf16", "svebf16")
"""Instruction sets that multiply bfloat16."""
