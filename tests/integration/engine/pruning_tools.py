"""Tiny models to prune, and what tests of pruning ask of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage import records, strategies
from tests.integration.engine.conftest import NAMES, make_tokenizer
from worker.engine import libraries, models
from worker.engine.strategies import base
from worker.engine.transforms import families

IDS = torch.tensor([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
HEAD_FAMILIES = [name for name in families.FAMILIES if families.known(name, "heads")]

Answer = np.ndarray[Any, Any]


def wide(folder: Path, architecture: str = "bert", *, layers: int = 2, classes: int = 4, **more: Any) -> Any:
    """A float32 classifier of 4 heads of 8 and 64 neurons, with its tokenizer."""
    libraries.silence_transformers()
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 64}
    if architecture == "distilbert":
        sizes = {"dim": 32, "n_layers": layers, "n_heads": 4, "hidden_dim": 64}
    common = {"vocab_size": 64, "max_position_embeddings": 40, "pad_token_id": 0}
    names = NAMES if classes == len(NAMES) else [f"class {at}" for at in range(classes)]
    config = AutoConfig.for_model(architecture, **common, **sizes, **more, id2label=dict(enumerate(names)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    store(model, folder)
    return model


def store(model: Any, folder: Path) -> records.ModelRef:
    model.save_pretrained(folder)
    make_tokenizer(folder)
    return ref(folder)


def ref(folder: Path) -> records.ModelRef:
    return records.ModelRef(name="tiny", source="local", location=str(folder))


def transformed(
    model: records.ModelRef,
    text: str,
    folder: Path,
    dataset: records.DatasetRef | None = None,
    tell: base.Tell = base.silent,
) -> tuple[Any, dict[str, Any]]:
    """The model that one step makes, loaded from what it wrote, and its facts."""
    step = strategies.parse_step(text)
    folder.mkdir()
    source = base.Source(model=model, dataset=dataset, tell=tell)
    facts = base.load_transform(step).apply(source, step, folder)
    json.dumps(facts, allow_nan=False)
    return models.load(ref(folder)), dict(facts)


def logits(model: Any) -> Answer:
    with torch.inference_mode():
        answer: Answer = model(input_ids=IDS, attention_mask=MASK).logits.numpy()
    return answer


def switched_off(block: families.Block, kept: Sequence[int]) -> torch.Tensor:
    """[features]: 0 for what is not kept."""
    mask = torch.zeros(block.count, block.size)
    mask[list(kept)] = 1
    return mask.flatten()


@contextmanager
def masked(model: Any, kept: Sequence[tuple[families.Block, Sequence[int]]]) -> Iterator[None]:
    """The uncut model, the features of everything else held at zero on their way into the output projections."""
    with ExitStack() as stack:
        for block, those in kept:
            mask = switched_off(block, those)
            hook = model.get_submodule(block.out).register_forward_pre_hook(
                lambda _module, given, mask=mask: (given[0] * mask,)
            )
            stack.callback(hook.remove)
        yield


def header(folder: Path) -> dict[str, list[int]]:
    return {name: entry["shape"] for name, entry in models.safetensors_header(folder).items()}
