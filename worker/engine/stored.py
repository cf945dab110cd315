"""What a prepared artifact stores of each layer of its model: read from its files, whatever the strategy intended."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage import errors, strategies
from worker.engine import checkpoints, models

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
           "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip
"""safetensors' names of types."""

_OPENVINO = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8", "i4": "int4",
             "u4": "uint4"}  # fmt: skip
"""OpenVINO's names of types; others hold no weights."""

QUANTIZED = frozenset({"int8", "uint8", "int4", "uint4"})
"""Types that a value is quantized to."""

_MODEL = "self.model."
"""What OpenVINO's converter puts before the names of a model's parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One tensor of an artifact."""

    name: str  # the parameter's, with more behind it for what belongs to it: scales, zero points
    dtype: str  # float32, int8, …
    values: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What an artifact stores of one layer."""

    dtype: str  # of most of its bytes
    size_bytes: int  # with scales, zero points and bias
    scales: int  # how many scales there are; 0 where nothing is quantized

    @property
    def quantized(self) -> bool:
        """Whether most of it is quantized."""
        return self.dtype in QUANTIZED


def require_named(strategy: strategies.Strategy) -> None:
    """StrategyError for a runtime in whose artifacts weights do not have the names of their layers."""
    if strategy.runtime not in _READERS:
        known = " and ".join(f"{name}/…" for name in _READERS)
        raise errors.StrategyError(
            f"{strategy.name}: in the artifacts of {strategy.runtime} weights do not have the names of their layers, "
            f"so that layers cannot be told apart; the table can be had for {known}"
        )


def read(folder: Path, strategy: strategies.Strategy, layers: Iterable[str]) -> tuple[dict[str, Part], int]:
    """What is stored of each layer that is found, and the bytes of tensors that belong to none of them.

    A tensor belongs to the layer whose name its own begins with. Of tied weights the first layer has the bytes.
    Raises StrategyError as `require_named`.
    """
    require_named(strategy)
    names, parts, elsewhere = set(layers), defaultdict[str, list[Tensor]](list), 0
    for tensor in _READERS[strategy.runtime](folder):
        owner = _owner(tensor.name, names)
        if owner is None:
            elsewhere += tensor.size_bytes
        else:
            parts[owner].append(tensor)
    return {name: _part(found) for name, found in parts.items()}, elsewhere


def _owner(tensor: str, layers: set[str]) -> str | None:
    name = tensor
    while name:
        name = name.rpartition(".")[0]
        if name in layers:
            return name
    return None


def _part(tensors: list[Tensor]) -> Part:
    sizes: dict[str, int] = defaultdict(int)
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.size_bytes
    most = max(sizes, key=lambda dtype: sizes[dtype])
    scales = sum(tensor.values for tensor in tensors if tensor.name.endswith(("scale", "scale_and_zero")))
    return Part(dtype=most, size_bytes=sum(sizes.values()), scales=scales)


def _torch(folder: Path) -> Iterator[Tensor]:
    """From the header of the safetensors file; tensors that are tied to others are in the recipe, without bytes."""
    for name, entry in models.safetensors_header(folder).items():
        first, last = entry["data_offsets"]
        low = name.endswith(".int4")  # two codes a byte
        dtype = "int4" if low else _DTYPES.get(entry["dtype"], entry["dtype"])
        values = math.prod(entry["shape"])
        if name.endswith("scale_and_zero"):
            values //= 2
        yield Tensor(name=name, dtype=dtype, values=values, size_bytes=last - first)
    recipe = json.loads((folder / checkpoints.RECIPE).read_text())
    for name, other in recipe["aliases"].items():
        kind = models.safetensors_header(folder)[other]["dtype"]
        yield Tensor(name=name, dtype=_DTYPES.get(kind, kind), values=0, size_bytes=0)


def _openvino(folder: Path) -> Iterator[Tensor]:
    """The constants of the graph that have a parameter's name."""
    import openvino as ov

    from worker.engine.strategies import openvino

    for operation in ov.Core().read_model(folder / openvino.GRAPH).get_ops():
        if operation.get_type_name() != "Constant":
            continue
        kind = operation.get_element_type()
        values = math.prod(operation.get_output_shape(0))
        dtype = _OPENVINO.get(kind.to_string(), kind.to_string())
        name = operation.get_friendly_name().removeprefix(_MODEL).replace("/", ".")
        yield Tensor(name=name, dtype=dtype, values=values, size_bytes=-(-values * kind.bitwidth // 8))


_READERS: Mapping[str, Callable[[Path], Iterator[Tensor]]] = {"torch": _torch, "openvino": _openvino}
