"""Torch artifacts on disk: `model.safetensors`, the model's `config.json`, and `recipe.json` with the rest.

Nothing in them is executed on load: no pickle, no code of the model's author.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import errors
from worker.engine import libraries, structure

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
RECIPE = "recipe.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A torch artifact in memory."""

    tensors: dict[str, torch.Tensor]  # by state-dict name; quantized layers have names of their own
    recipe: Mapping[str, Any] = field(default_factory=dict)


def write(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    """Write tensors, recipe and the transformers config; tensors that are one (tied weights) are stored once."""
    from safetensors.torch import save_file

    unique: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    for name, tensor in checkpoint.tensors.items():
        identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        first = seen.setdefault(identity, name) if tensor.numel() else name
        if first == name:
            unique[name] = tensor.detach().contiguous()
        else:
            aliases[name] = first
    save_file(unique, folder / WEIGHTS)
    config.save_pretrained(folder)
    (folder / RECIPE).write_text(json.dumps({**checkpoint.recipe, "aliases": aliases}, indent=1, sort_keys=True))


def read(folder: Path) -> Checkpoint:
    """Read an artifact; every tensor in memory of its own.

    Read, not mapped: a mapping's tensors begin wherever the file's header ends, while kernels want 64-byte
    alignment; and copying out of one would show twice in the process's peak memory.
    """
    recipe = json.loads((folder / RECIPE).read_text())
    tensors = _read_tensors(folder / WEIGHTS)
    tensors |= {name: tensors[first] for name, first in recipe.pop("aliases").items()}
    return Checkpoint(tensors=tensors, recipe=recipe)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file: eight bytes of length, a JSON header, then the values one by one."""
    import torch

    dtypes = {
        **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
        **{"I64": torch.int64, "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool},
    }
    tensors: dict[str, torch.Tensor] = {}
    with path.open("rb") as stream:
        begin = 8 + int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(begin - 8))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            raw = torch.empty(last - first, dtype=torch.uint8)
            stream.seek(begin + first)
            values: Any = raw.numpy()  # the same memory, as a buffer that Python can fill
            if stream.readinto(values) != len(raw):
                raise errors.ModelError(f"artifact {path} is truncated")
            tensors[name] = raw.view(dtypes[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def empty_model(folder: Path) -> torch.nn.Module:
    """The model that an artifact's config describes, as `undefined` builds it."""
    libraries.silence_transformers()
    from transformers import AutoConfig

    return undefined(AutoConfig.from_pretrained(folder, local_files_only=True))


def undefined(config: Any) -> torch.nn.Module:
    """The model of a transformers config, float32, with buffers in place and weights undefined.

    Built on the CPU without initialization instead of on the meta device: memory that nobody writes costs
    nothing, and buffers that are in no state dict (position ids, rotary frequencies) come out right.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = structure.apply(AutoModelForSequenceClassification.from_config(config, dtype=torch.float32), config)
    module: torch.nn.Module = model.eval().requires_grad_(False)
    return module
