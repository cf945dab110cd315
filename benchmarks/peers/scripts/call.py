"""The model call that peers time: knows nothing of quantfleet, runs in the peers' environments.

What is asked comes as JSON in the environment variable PEERS_CASE: model (a folder), strategy (fp32 or int8-dynamic),
threads, length, seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

WARMUPS = 10
"""Calls before anything is timed, as optimum-benchmark and Olive make by default."""


def asked() -> dict[str, Any]:
    """The case that this process is for."""
    case: dict[str, Any] = json.loads(os.environ["PEERS_CASE"])
    return case


def load(case: dict[str, Any]) -> torch.nn.Module:
    """The model in the case's precision, with its threads set."""
    torch.set_num_threads(case["threads"])
    model = AutoModelForSequenceClassification.from_pretrained(case["model"], dtype=torch.float32).eval()
    return quantized(model) if case["strategy"] == "int8-dynamic" else model


def quantized(model: torch.nn.Module) -> torch.nn.Module:
    """Linear layers in int8, activations quantized call by call."""
    found: torch.nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
        model, {torch.nn.Linear}, dtype=torch.qint8
    )
    return found


def inputs(length: int) -> dict[str, torch.Tensor]:
    """One row of token ids without padding; the same ones in every process."""
    ids = torch.randint(5, 500, (1, length), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def bind(case: dict[str, Any]) -> Callable[[], object]:
    """The call, ready to be timed."""
    model, given = load(case), inputs(case["length"])

    @torch.inference_mode()
    def call() -> object:
        return model(**given)

    return call
