"""One layer of a model, found by its name: its weight in float32, and nothing else read where that is possible."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import errors, keys, records
from worker.engine import models

if TYPE_CHECKING:
    import torch

_SUFFIX = ".weight"
_OFFERED = 3
"""Names that are offered for one that could mean several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A module with a weight of two dimensions."""

    name: str  # the module's, without `.weight`
    kind: str  # the module's class: Linear, Embedding, …
    weight: torch.Tensor  # float32, contiguous, [out, in]; of an embedding [rows, width]
    digest: str  # of shape and values, see `digest`


def find(model: records.ModelRef, layer: str) -> Layer:
    """The layer of a name: the module's (`bert.encoder.layer.0.output.dense`) or its weight's (`….weight`).

    Of a model with safetensors files that one tensor is read; of others (random weights, pickled ones, names that
    transformers changes on loading) the whole model. The model's content is not compared with `model.digest`: who
    wants that calls `models.identify`. Raises ModelError for a model that cannot be used, a name that is none of its
    layers (with what comes nearest), a layer without such a weight, and values that are not finite.
    """
    skeleton = models.empty(model)
    name = _named(model, skeleton, layer)
    shape = tuple(skeleton.get_parameter(name + _SUFFIX).shape)
    weight = _stored(model, name + _SUFFIX, shape)
    if weight is None:
        weight = models.load(model).get_parameter(name + _SUFFIX)
    weight = weight.detach().float().contiguous()
    if not bool(weight.isfinite().all()):
        raise errors.ModelError(f"layer {name!r} of model {model.name!r} holds values that are not finite")
    return Layer(name=name, kind=type(skeleton.get_submodule(name)).__name__, weight=weight, digest=digest(weight))


def names(model: torch.nn.Module) -> list[str]:
    """Names of the modules that have a weight of two dimensions, in the order of the model."""
    return [name for name, module in model.named_modules() if _is_matrix(module)]


def digest(weight: torch.Tensor) -> str:
    """The content key of a float32 weight: SHA-256 over its values (little-endian, row by row), with its shape."""
    values = weight.numpy().astype("<f4", copy=False).tobytes()
    return keys.digest({"shape": list(weight.shape), "sha256": hashlib.sha256(values).hexdigest()})


def _named(model: records.ModelRef, skeleton: torch.nn.Module, layer: str) -> str:
    """The module's name that a person means; ModelError when it has no weight of two dimensions."""
    known = names(skeleton)
    name = layer.removesuffix(_SUFFIX)
    if name in known:
        return name
    modules = dict(skeleton.named_modules())
    if name not in modules or not name:
        raise errors.ModelError(f"model {model.name!r} has no layer {layer!r}{_offer(name, known)}")
    own: Any = getattr(modules[name], "weight", None)
    kind = type(modules[name]).__name__
    if own is None:
        within = [other for other in known if other.startswith(name + ".")]
        offer = _listed("layers in it", within) if within else ""
        raise errors.ModelError(f"{name!r} of model {model.name!r} is a {kind} without a weight of its own{offer}")
    shape = "×".join(map(str, own.shape))
    raise errors.ModelError(
        f"layer {name!r} of model {model.name!r} is a {kind} whose weight has the shape {shape}: what is quantized are "
        "weights of two dimensions, as a Linear or an Embedding has"
    )


def _is_matrix(module: torch.nn.Module) -> bool:
    own: Any = module._parameters.get("weight")
    return own is not None and own.dim() == 2


def _offer(name: str, known: Iterable[str]) -> str:
    """The first layers that hold the name (`query` is far from what it ends, letter by letter), or the nearest."""
    names_ = list(known)
    holding = [other for other in names_ if name and name in other]
    return _listed("layers with that in their names", holding) if holding else errors.nearest(name, names_)


def _listed(what: str, found: list[str]) -> str:
    more = f", … ({len(found)})" if len(found) > _OFFERED else ""
    return f"; {what}: {', '.join(found[:_OFFERED])}{more}"


def _stored(model: records.ModelRef, name: str, shape: tuple[int, ...]) -> torch.Tensor | None:
    """The tensor of a name from the model's safetensors files; None where it is not there, or in another shape.

    Loading the model then says what is wrong, or finds it under the name that transformers gives it.
    """
    if model.source == "random":
        return None
    folder = models.locate(model)
    entry = models.safetensors_header(folder).get(name)
    if entry is None or tuple(entry["shape"]) != shape:
        return None
    found = (_read(path, name) for path in sorted(folder.glob("*.safetensors")))
    return next((tensor for tensor in found if tensor is not None), None)


def _read(path: Path, name: str) -> torch.Tensor | None:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensor: torch.Tensor | None = file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
            return tensor
    except (safetensors.SafetensorError, OSError) as exc:
        raise errors.ModelError(f"{path} is damaged: {exc}") from exc
