"""Olive's evaluator on the bare model: prints one line of JSON with its p50 in ms.

Olive counts calls and not seconds, so the case says how many (`repeats`).
"""

from __future__ import annotations

import json

from olive.evaluator.metric import Metric
from olive.evaluator.olive_evaluator import OliveEvaluatorConfig
from olive.hardware import Device
from olive.model import PyTorchModelHandler

from benchmarks.peers.scripts import call as calls

case = calls.asked()
shapes = {name: list(value.shape) for name, value in calls.inputs(case["length"]).items()}
model = PyTorchModelHandler(
    model_loader=lambda _: calls.load(case),
    io_config={
        "input_names": list(shapes),
        "input_shapes": list(shapes.values()),
        "input_types": ["int64"] * len(shapes),
        "output_names": ["logits"],
    },
)
metric = Metric(
    name="latency",
    type="latency",
    sub_types=[
        {
            "name": "p50",
            "priority": 1,
            "metric_config": {"warmup_num": calls.WARMUPS, "repeat_test_num": case["repeats"]},
        }
    ],
)
evaluator = OliveEvaluatorConfig(metrics=[metric]).create_evaluator(model)
found = evaluator.evaluate(model, [metric], device=Device.CPU)
print("\n" + json.dumps({"p50_ms": found.get_value("latency", "p50")}))
