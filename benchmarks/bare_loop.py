"""A bare timing loop in a fresh process, written without anything of quantfleet: what others are compared with.

    python benchmarks/bare_loop.py MODEL THREADS SECONDS CPU,CPU,… [int8-dynamic] < token ids as JSON

MODEL is a folder, or `random:ARCHITECTURE`. Half of the seconds are warm-up. Prints two lines of JSON, in ns: when each
call began, and how long it took.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.sched_setaffinity(0, {int(cpu) for cpu in sys.argv[4].split(",")})

import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForSequenceClassification  # noqa: E402

torch.set_num_threads(int(sys.argv[2]))
where, seconds = sys.argv[1], float(sys.argv[3])
if where.startswith("random:"):
    config = AutoConfig.for_model(where.removeprefix("random:"))
    model = AutoModelForSequenceClassification.from_config(config)
else:
    model = AutoModelForSequenceClassification.from_pretrained(where, dtype=torch.float32)
model = model.eval()
if sys.argv[5:] == ["int8-dynamic"]:
    quantize = torch.ao.quantization.quantize_dynamic
    model = quantize(model, {torch.nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
call = {name: torch.tensor(rows) for name, rows in json.load(sys.stdin).items()}

starts, samples = [], []
with torch.inference_mode():
    end = time.perf_counter() + seconds / 2
    while time.perf_counter() < end:
        model(**call)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter_ns()
        model(**call)
        samples.append(time.perf_counter_ns() - start)
        starts.append(start)
print(json.dumps(starts))
print(json.dumps(samples))
