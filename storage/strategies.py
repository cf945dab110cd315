"""What strategies exist, what each needs and means; strings parsed into one normal form.

A strategy is `runtime/precision[:option=value,…]`. Descriptions are torch-free, so that the scheduler can
plan and explain; the implementation is a dotted target that only `worker.engine` loads. Other packages add
theirs through the entry point group `quantfleet.strategies`, each entry naming a `Description`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from storage import errors, records

ENTRY_POINTS = "quantfleet.strategies"

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "onnxruntime",
    "onnx",
    "onnxscript",
    "safetensors",
    "openvino",
    "nncf",
    "torchao",
)
"""Distributions that strategies stand on: their versions belong to each result, and hosts can be selected by them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """A setting of a strategy, written `name=value`; a flag may be written as its bare name."""

    name: str
    type: Literal["choice", "flag"]
    default: str  # flags: "false"
    choices: tuple[str, ...] = ()  # choice only
    help: str
    needs_isa: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # value → instruction sets, one suffices
    needs_arch: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # value → architectures, one suffices


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """One registered pair of runtime and precision."""

    runtime: str
    precision: str
    summary: str
    implementation: str  # "module:Class" inside worker.engine, loaded late
    packages: tuple[str, ...]  # distributions that it imports
    extra: str  # quantfleet's extra that installs them
    options: tuple[Option, ...] = ()
    needs_isa: tuple[str, ...] = ()  # instruction sets, one suffices; empty: none needed
    slow_without: tuple[str, ...] = ()  # runs without, but emulated: instruction sets, one suffices

    @property
    def name(self) -> str:
        """`runtime/precision`."""
        return f"{self.runtime}/{self.precision}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """A parsed strategy; `str()` is its normal form: options sorted, defaults left out."""

    runtime: str
    precision: str
    options: tuple[tuple[str, str], ...] = ()  # only those that differ from the default, sorted by name

    @property
    def name(self) -> str:
        """`runtime/precision`, without options."""
        return f"{self.runtime}/{self.precision}"

    def option(self, name: str) -> str:
        """The value in force: the one given, or the default."""
        given = dict(self.options)
        return given[name] if name in given else _option(describe(self.name), name).default

    def flag(self, name: str) -> bool:
        """A flag option's value."""
        return self.option(name) == "true"

    def __str__(self) -> str:
        """The one spelling of this strategy."""
        if not self.options:
            return self.name
        return f"{self.name}:{','.join(f'{k}={v}' for k, v in self.options)}"


_PER_CHANNEL = Option(
    name="per_channel",
    type="flag",
    default="false",
    help="one scale for each output row of a weight instead of one for the whole weight",
)

BUILT_IN: tuple[Description, ...] = (
    Description(
        runtime="torch",
        precision="fp32",
        summary="PyTorch eager in float32, whatever dtype the checkpoint is stored in; the usual baseline",
        implementation="worker.engine.strategies.torch_float:Float32",
        packages=("torch", "transformers"),
        extra="worker",
    ),
    Description(
        runtime="torch",
        precision="bf16",
        summary="PyTorch eager with weights and activations in bfloat16; half the size",
        implementation="worker.engine.strategies.torch_float:BFloat16",
        packages=("torch", "transformers"),
        extra="worker",
        slow_without=("avx512_bf16", "amx_bf16", "bf16"),
    ),
    Description(
        runtime="torch",
        precision="int8-dynamic",
        summary="PyTorch eager, linear layers with int8 weights, activations quantized call by call",
        implementation="worker.engine.strategies.torch_dynamic:Int8Dynamic",
        packages=("torch", "transformers"),
        extra="worker",
        options=(
            Option(
                name="engine",
                type="choice",
                default="auto",
                choices=("auto", "x86", "fbgemm", "onednn", "qnnpack"),
                help="library of int8 kernels; auto takes x86 on Intel and AMD, qnnpack on Arm",
                needs_isa={"x86": ("avx2",), "fbgemm": ("avx2",)},
                needs_arch={
                    "x86": ("x86_64",),
                    "fbgemm": ("x86_64",),
                    "onednn": ("x86_64", "aarch64"),
                    "qnnpack": ("x86_64", "aarch64"),
                },
            ),
            _PER_CHANNEL,
        ),
    ),
    Description(
        runtime="onnxruntime",
        precision="fp32",
        summary="ONNX Runtime in float32 on the graph that PyTorch exports",
        implementation="worker.engine.strategies.onnx:Float32",
        packages=("onnxruntime", "onnx", "onnxscript", "torch", "transformers"),
        extra="onnxruntime",
    ),
    Description(
        runtime="onnxruntime",
        precision="int8-dynamic",
        summary="ONNX Runtime, int8 weights (embeddings too), activations quantized call by call",
        implementation="worker.engine.strategies.onnx:Int8Dynamic",
        packages=("onnxruntime", "onnx", "onnxscript", "torch", "transformers"),
        extra="onnxruntime",
        options=(_PER_CHANNEL,),
    ),
)


@functools.cache
def catalogue() -> Mapping[str, Description]:
    """Every registered description by its name, in the order of registration."""
    found = {description.name: description for description in BUILT_IN}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        description = entry.load()
        found.setdefault(description.name, description)
    return found


def describe(name: str) -> Description:
    """The description of `runtime/precision`, by exact name; StrategyError with the nearest otherwise."""
    known = catalogue()
    if name in known:
        return known[name]
    raise errors.StrategyError(_unknown(name, known))


def parse(text: str) -> Strategy:
    """A strategy string in its normal form; raises StrategyError, which names the nearest valid word."""
    name, _, tail = text.strip().partition(":")
    description = describe(name.strip())
    given: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in tail.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        option = _option(description, key)
        if key in given:
            raise errors.StrategyError(f"option {key!r} is given twice in {text!r}")
        given[key] = _value(description, option, value if equals else None)
    differing = {k: v for k, v in given.items() if v != _option(description, k).default}
    return Strategy(
        runtime=description.runtime,
        precision=description.precision,
        options=tuple(sorted(differing.items())),
    )


def unsupported(strategy: Strategy, hardware: records.Hardware, environment: records.Environment) -> str | None:
    """Why a platform cannot run a strategy, with what would help; None where it can."""
    description = describe(strategy.name)
    missing = [package for package in description.packages if package not in environment.packages]
    if missing:
        return (
            f"{strategy.name} needs {', '.join(missing)}, not installed here; "
            f"pip install 'quantfleet[{description.extra}]'"
        )
    if description.needs_isa and not set(description.needs_isa) & set(hardware.isa):
        return f"{strategy.name} needs {' or '.join(description.needs_isa)}, which this CPU lacks"
    for name, value in strategy.options:
        reason = _value_unsupported(_option(description, name), value, hardware)
        if reason:
            return f"{strategy}: {reason}"
    return None


def caution(strategy: Strategy, hardware: records.Hardware) -> str | None:
    """What a person should know before running it there; None for nothing."""
    wanted = describe(strategy.name).slow_without
    if wanted and not set(wanted) & set(hardware.isa):
        return f"this CPU has none of {', '.join(wanted)}: {strategy.name} runs emulated, expect a loss"
    return None


def installed(description: Description) -> list[str]:
    """Packages of a description that this interpreter cannot import (nothing is imported)."""
    return [package for package in description.packages if importlib.util.find_spec(package) is None]


def _value_unsupported(option: Option, value: str, hardware: records.Hardware) -> str | None:
    architectures = option.needs_arch.get(value, ())
    if architectures and hardware.architecture not in architectures:
        return f"{option.name}={value} exists on {', '.join(architectures)} only, this is {hardware.architecture}"
    isa = option.needs_isa.get(value, ())
    if isa and not set(isa) & set(hardware.isa):
        return f"{option.name}={value} needs {' or '.join(isa)}, which this CPU lacks"
    return None


def _option(description: Description, name: str) -> Option:
    for option in description.options:
        if option.name == name:
            return option
    known = [option.name for option in description.options]
    accepts = f"it accepts {', '.join(known)}" if known else "it accepts none"
    raise errors.StrategyError(f"{description.name} has no option {name!r}{errors.nearest(name, known)} ({accepts})")


def _value(description: Description, option: Option, value: str | None) -> str:
    if option.type == "flag":
        word = "true" if value is None else value.lower()
        if word in ("true", "false"):
            return word
        raise errors.StrategyError(f"{description.name}: {option.name} is true or false, not {value!r}")
    if value in option.choices:
        return str(value)
    near = errors.nearest(value or "", option.choices)
    raise errors.StrategyError(
        f"{description.name}: {option.name} is one of {', '.join(option.choices)}, not {value!r}{near}"
    )


def _unknown(name: str, known: Mapping[str, Description]) -> str:
    runtime, slash, precision = name.partition("/")
    precisions = [d.precision for d in known.values() if d.runtime == runtime]
    if slash and precisions:
        near = errors.nearest(precision, precisions)
        return f"{runtime} has no precision {precision!r}{near} (it has {', '.join(precisions)})"
    near = errors.nearest(name, known)
    return f"there is no strategy {name!r}{near} (`quantfleet strategies` lists them)"
