"""The fields of a study file, each with the description that the schema and the docs show.

Values are checked by `scheduler.study_values`; what concerns several sections at once by `scheduler.study`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, Field, WrapValidator

from scheduler.study_kinds import Layout, Serving, Tensor
from scheduler.study_section import Section, one_of, only_with
from scheduler.study_values import (
    AUTO,
    LABEL,
    SOFTWARE,
    TARGET_WORDS,
    Batches,
    Globs,
    Instances,
    Keys,
    Length,
    Lengths,
    Name,
    Padding,
    Paddings,
    Precision,
    Revision,
    StrategyText,
    Threads,
    shown,
)
from storage import errors, records

ARCHITECTURES = (
    "albert", "bert", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra",
    "ernie", "eurobert", "fnet", "funnel", "ibert", "megatron-bert", "mobilebert", "modernbert", "mpnet",
    "nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roformer", "squeezebert", "xlm-roberta",
    "xlm-roberta-xl",
)  # fmt: skip
"""Encoders (transformers' model types) that classify text from token ids alone."""

Measured = Literal["latency", "throughput", "server", "tensor", "accuracy"]
"""Kinds of jobs that a study asks for; preparations follow from its strategies."""

MAX_REPLICAS = 1000
"""Most replicas of a case."""


class Dataset(Section):
    """Labelled texts, for accuracy and for inputs at real lengths: a file or a dataset of the hub."""

    path: str | None = Field(
        None,
        min_length=1,
        description="Parquet, CSV or JSON-lines file; a relative path starts at the study file's folder, "
        "${NAME} and ${NAME:-default} stand for environment variables.",
    )
    hub: str | None = Field(None, min_length=1, description="Dataset id on the hub, e.g. clinc_oos.")
    config: str | None = Field(None, description="Configuration of the hub dataset, e.g. plus; hub only.")
    split: str | None = Field(None, description="Split of the hub dataset, e.g. validation; required with hub.")
    revision: Revision = Field(None, description="Branch, tag or commit of the hub dataset; hub only.")
    text: str = Field("text", min_length=1, description="Column of the input text.")
    label: str = Field("label", min_length=1, description="Column of the label: class names or class indices.")
    rows: int | None = Field(None, ge=1, description="At most so many rows, the first ones; default: all of them.")
    batch: int = Field(1, ge=1, description="Rows in one call of an accuracy run.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        one_of(self, "path", "hub")
        only_with(self, "hub", "config", "split", "revision")
        if self.hub is not None and self.split is None:
            raise ValueError("a hub dataset needs its split, e.g. split: validation")
        return self


class Model(Section):
    """A model: a local folder, one of the hub, or an architecture with random weights (for latency only)."""

    path: str | None = Field(
        None,
        min_length=1,
        description="Folder with config.json, *.safetensors and the tokenizer's files; a relative path starts at the "
        "study file's folder, ${NAME} and ${NAME:-default} stand for environment variables.",
    )
    hub: str | None = Field(None, min_length=1, description="Model id on the hub, e.g. organization/name.")
    random: str | None = Field(
        None,
        min_length=1,
        description="Architecture (transformers' model type) to fill with random weights, e.g. distilbert.",
    )
    revision: Revision = Field(None, description="Branch, tag or commit of the hub model; hub only. Pin a commit.")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to the architecture's default configuration, e.g. {num_labels: 20}; random only.",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the random weights; random only.")
    allow_pickle: bool = Field(
        False,
        description="Load a checkpoint that is only there as a pickle, which can run code: only for one of your own.",
    )
    dataset: Dataset | None = Field(None, description="This model's own dataset, instead of the study's.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        one_of(self, "path", "hub", "random")
        only_with(self, "hub", "revision")
        only_with(self, "random", "config", "seed")
        if self.random is not None:
            if self.random not in ARCHITECTURES:
                near = errors.nearest(self.random, ARCHITECTURES)
                raise ValueError(f"random: there is no architecture {self.random!r}{near}")
            for name in ("allow_pickle", "dataset"):
                if name in self.model_fields_set:
                    raise ValueError(f"{name} does not go with random weights")
        return self


class Input(Section):
    """What one call gets. Lists stand for all their combinations."""

    batch: Batches = Field(
        default_factory=lambda: (1,), description="Rows in one call; a number or a list of numbers; 1 by default."
    )
    length: Lengths = Field(
        description="Tokens in a row (made up), or dataset: real rows at their own lengths; one or a list."
    )
    padding: Paddings = Field(
        ("longest",),
        description="longest: pad to the longest row of the batch; max:N: pad to N tokens, and cut real rows there; "
        "for real rows also sorted: by length into batches, and buckets:N: sorted, and padded to a multiple of N "
        "tokens; one or a list.",
    )
    baseline_padding: Padding | None = Field(
        None,
        description="How the baseline's calls are padded, where that differs: with max:128 the gain of not padding is "
        "a gain like any other. The rows are the same, cut alike.",
    )
    calls: int = Field(16, ge=1, le=1000, description="For length: dataset. Distinct calls drawn from the dataset.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        numbers = [int(length) for length in self.length if length != records.DATASET_LENGTH]
        if numbers and "calls" in self.model_fields_set:
            raise ValueError("calls goes with length: dataset only; a fixed length is one call")
        for way in (*self.padding, *([self.baseline_padding] if self.baseline_padding else [])):
            kind, _, tokens = way.partition(":")
            if numbers and kind in ("sorted", "buckets"):
                raise ValueError(f"{way} goes with length: dataset only; rows of one length need no sorting")
            if kind == "max" and max(numbers, default=0) > int(tokens):
                raise ValueError(
                    f"{max(numbers)} tokens cannot be padded with {way}; expected at least max:{max(numbers)}"
                )
        return self

    def specs(self) -> tuple[records.InputSpec, ...]:
        """Every combination of batch, length and padding."""
        return tuple(
            dict.fromkeys(
                self._spec(batch, length, way) for batch in self.batch for length in self.length for way in self.padding
            )
        )

    def _spec(self, batch: int, length: int | Literal["dataset"], way: str) -> records.InputSpec:
        """`max:16` of rows of 16 tokens pads nothing: one input, one spelling."""
        plain = f"max:{length}"
        way, other = ("longest" if one == plain else one for one in (way, self.baseline_padding or way))
        return records.InputSpec(
            batch=batch,
            length=length,
            padding=way,
            calls=self.calls if length == records.DATASET_LENGTH else 1,
            baseline_padding=None if other == way else other,
        )


class Exclude(Section):
    """Cases to leave out: those that match every field named here. Texts may be globs, such as onnxruntime/*."""

    kind: Measured | None = Field(None, description="latency, throughput, server, tensor or accuracy.")
    model: str | None = Field(None, min_length=1, description="Name of a model of this study, or a glob.")
    strategy: str | None = Field(
        None, min_length=1, description="A strategy or a tensor operation, or a glob over normal forms."
    )
    threads: Threads | None = Field(None, description="A thread count: number, physical or logical.")
    batch: int | None = Field(None, ge=1, description="Rows in one call.")
    length: Length | None = Field(None, description="Tokens in a row, or dataset.")
    padding: Padding | None = Field(None, description="longest, max:N, sorted or buckets:N.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"names nothing to exclude; it may name {', '.join(type(self).model_fields)}")
        return self


def _open_field(name: str) -> str:
    """The name of a label or of a piece of software; ValueError with the nearest name."""
    if name in SOFTWARE or (name.startswith(LABEL) and name != LABEL):
        return name
    known = (*Selector.model_fields, *SOFTWARE)
    few = ", ".join((*Selector.model_fields, "label.NAME"))
    near = errors.nearest(name, known)
    raise ValueError(f"there is no such field{near} (there are {few}, and packages such as torch)")


_OPEN_FIELDS: dict[str, Any] = {
    "additionalProperties": False,
    "patternProperties": {
        f"^(label\\..+|{'|'.join(SOFTWARE)})$": {
            "anyOf": [{"type": ["string", "integer"]}, {"type": "array", "items": {"type": ["string", "integer"]}}],
            "description": "A host's label, or the version of its software.",
        }
    },
}


class Selector(Section):
    """Which hosts a study is for: those that fit every field. Beside these fields: label.NAME, and software by the
    name of its package. Texts are globs, compared without case; of several values one must fit."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True, json_schema_extra=_OPEN_FIELDS)
    __pydantic_extra__: dict[Annotated[str, AfterValidator(_open_field)], Globs] = pydantic.Field(init=False)

    isa: Globs | None = Field(None, description="Instruction sets that must all be there, e.g. [avx512_vnni].")
    cpu: Globs | None = Field(None, description='Name of the CPU, e.g. "*EPYC*".')
    architecture: Globs | None = Field(None, description="x86_64, aarch64, …")
    virtualization: Globs | None = Field(None, description="kvm, docker, …; none for bare metal.")
    min_cores: int | None = Field(None, ge=1, description="Physical cores, at least.")
    max_cores: int | None = Field(None, ge=1, description="Physical cores, at most.")
    min_memory: float | None = Field(None, gt=0, description="Memory in GiB, at least.")
    hardware: Keys | None = Field(None, description="Hardware key or its beginning.")
    platform: Keys | None = Field(None, description="Platform key or its beginning.")
    host: Globs | None = Field(None, description="Name of the host; makes jobs for each host by its name.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.conditions:
            raise ValueError("names nothing to select hosts by")
        if self.min_cores is not None and self.max_cores is not None and self.min_cores > self.max_cores:
            raise ValueError(f"min_cores {self.min_cores} is more than max_cores {self.max_cores}")
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """What is asked for, by field, in the order of the fields; labels and software behind them."""
        fixed = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return {name: value for name, value in (fixed | (self.model_extra or {})).items() if value is not None}

    @property
    def names_hosts(self) -> bool:
        """Whether hosts of one platform may differ in whether they fit."""
        return any(name == "host" or name.startswith(LABEL) for name in self.conditions)


def _targets(value: Any, _: pydantic.ValidatorFunctionWrapHandler) -> str | Selector:
    # a union of its own would name both of its sides in each error
    if isinstance(value, dict):
        return Selector.model_validate_json(json.dumps(value))
    if isinstance(value, str) and value in TARGET_WORDS:
        return value
    near = errors.nearest(value, TARGET_WORDS) if isinstance(value, str) else ""
    words = ", ".join(TARGET_WORDS)
    raise ValueError(f"expected {words}, or a mapping such as {{isa: [avx512_vnni]}}, not {shown(value)}{near}")


Targets = Annotated[Literal["every-platform", "every-host", "any"] | Selector, WrapValidator(_targets)]


class StudyFile(Section):
    """A study: the matrix of models, strategies, thread counts and inputs to measure."""

    name: Name = Field(description="Name of the study; letters, digits, dot, dash and underscore.")
    models: dict[Name, Model] = Field(min_length=1, description="The models, each under a name of your choice.")
    strategies: Annotated[tuple[StrategyText, ...], Field(max_length=1000)] = Field(
        (),
        description="runtime/precision[:option=value,…]; `quantfleet strategies` lists them. "
        "Needed by every kind but tensor.",
    )
    threads: Annotated[tuple[Threads, ...], Field(max_length=1000)] = Field(
        ("physical",),
        min_length=1,
        description="Threads of one call: numbers, physical or logical (the cores of each machine), "
        "all (every count from 1 to its logical cores).",
    )
    instances: Annotated[tuple[Instances, ...], Field(max_length=1000)] = Field(
        (AUTO,),
        min_length=1,
        description="For kinds throughput and server. Processes side by side, each with its threads on cores of its "
        "own: numbers, or auto: as many as fill the physical cores of each machine.",
    )
    baseline_layout: Layout | None = Field(
        None,
        description="For kind throughput. Instances and threads of the baseline where they differ: with {instances: 1, "
        "threads: physical} the gain of many processes over one with many threads is a gain like any other.",
    )
    inputs: Annotated[tuple[Input, ...], Field(max_length=1000)] = Field(
        default_factory=lambda: (Input.model_validate({"length": 128}),),
        min_length=1,
        description="What one call gets; one row of 128 tokens by default.",
    )
    dataset: Dataset | None = Field(None, description="Labelled texts for accuracy and for inputs of length: dataset.")
    datasets: dict[Name, Dataset] = Field(
        default_factory=dict,
        description="More datasets, each under a name that strategies use: what data=train calibrates or trains on. "
        "evaluation stands for the rows that accuracy is taken on, and is no name here.",
    )
    prepare: records.Prepare = Field(
        "host",
        description="host: each host prepares its own artifacts; once: one host does, and the same bytes run "
        "everywhere, through the store that QUANTFLEET_STORE names.",
    )
    tensors: Annotated[tuple[Tensor, ...], Field(max_length=1000)] = Field(
        (), description="For kind tensor. Single operations on a layer's weight, or on random numbers."
    )
    serving: Annotated[tuple[Serving, ...], Field(max_length=1000)] = Field(
        (), description="For kind server. At which rate requests come, or which bound they are to keep, and how."
    )
    baseline: StrategyText = Field("torch/fp32", description="The strategy that gains are taken against.")
    precision: Precision = Field(
        0.03, description="Wanted half width of a gain's 95 % interval, e.g. 3% or 0.03; more than 0, at most 50%."
    )
    max_seconds: float = Field(
        60.0, gt=0, le=86400, description="Longest measuring time of one job in seconds, preparation apart."
    )
    min_pairs: int = Field(
        6,
        ge=2,
        le=1000,
        multiple_of=2,
        description="Pairs of fresh processes behind a gain, at least; even, 6 by default. 2 to look through many "
        "cases in a third of the time, with intervals some times as wide.",
    )
    kinds: Annotated[tuple[Measured, ...], Field(max_length=10)] = Field(
        ("latency", "accuracy"),
        min_length=1,
        description="What to measure: latency (one call), throughput (several processes side by side), server "
        "(requests that come by themselves), tensor (single operations), accuracy (only of models with a dataset, "
        "never of random weights). latency and accuracy by default.",
    )
    exclude: Annotated[tuple[Exclude, ...], Field(max_length=1000)] = Field(
        (), description="Cases to leave out; a case goes when it matches every field of an entry."
    )
    replicas: int = Field(1, ge=1, le=MAX_REPLICAS, description="How many times each case is measured.")
    targets: Targets = Field(
        "every-platform",
        description="What a fleet measures each case on: every-platform (once on each distinct hardware and software), "
        "every-host, any (once, on whichever host comes first), or the hosts that fit a mapping.",
    )

    @pydantic.field_validator("strategies", "threads", "instances", "kinds", mode="after")
    @classmethod
    def _merged(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(value))

    @property
    def calls_models(self) -> bool:
        """Whether whole models are timed on inputs."""
        return not {"latency", "throughput", "server"}.isdisjoint(self.kinds)

    @property
    def has_instances(self) -> bool:
        """Whether any kind runs several processes side by side."""
        return not {"throughput", "server"}.isdisjoint(self.kinds)


SECTIONS: Mapping[str, type[Section]] = {
    "": StudyFile,
    "models": Model,
    "inputs": Input,
    "dataset": Dataset,
    "datasets": Dataset,
    "tensors": Tensor,
    "baseline_layout": Layout,
    "serving": Serving,
    "exclude": Exclude,
    "targets": Selector,
}
"""The sections by the field that holds them."""
