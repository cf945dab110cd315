"""What the tests of torch strategies share: one call, sessions over tiny models, sizes that a precision implies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage import records, strategies
from worker.engine import models, operations

CALL = {
    "input_ids": np.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "token_type_ids": np.zeros((2, 5), dtype=np.int64),
}
ENGINES = [
    name for name in torch.backends.quantized.supported_engines if name in ("x86", "fbgemm", "onednn", "qnnpack")
]


def reference(model: records.ModelRef) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(model.location, dtype=torch.float32).eval()


def answer(model: Any) -> np.ndarray[Any, Any]:
    names = ("input_ids", "attention_mask") if model.config.model_type == "distilbert" else tuple(CALL)
    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(CALL[name]) for name in names}).logits.float()
    logits: np.ndarray[Any, Any] = found.numpy()
    return logits


def opened(
    model: records.ModelRef, text: str, cache: Path, threads: int = 1, data: records.DatasetRef | None = None
) -> tuple[Any, records.Artifact, Path]:
    """A session of a strategy, with its artifact; `data` is what the strategies' option `data=train` names."""
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache, data={"train": data} if data else {})
    return operations.open_session(folder, strategy, threads), artifact, folder


def error(session: Any, model: records.ModelRef) -> float:
    """The largest difference of a logit from float32."""
    return float(np.abs(session.logits(CALL) - answer(reference(model))).max())


def stored_bytes(folder: Path) -> int:
    """Bytes of the values in an artifact's safetensors file, without its header."""
    header = models.safetensors_header(folder)
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values())


def parameters(model: records.ModelRef, kind: type[Any]) -> dict[str, torch.Tensor]:
    """The weights of a model's modules of a kind, by module name."""
    found = reference(model).named_modules()
    return {name: module.weight for name, module in found if type(module) is kind}


def total(model: records.ModelRef) -> int:
    """How many parameters a model has."""
    return sum(parameter.numel() for parameter in reference(model).parameters())
