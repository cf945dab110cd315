"""MLPerf LoadGen around the bare call, single stream: `run_loadgen.py FOLDER` leaves its logs there."""

from __future__ import annotations

import array
import sys
from typing import Any

import mlperf_loadgen as lg

from benchmarks.peers.scripts import call as calls

QUERIES = 64
"""The fewest that LoadGen's early stopping accepts for its percentile, p90."""

case = calls.asked()
call = calls.bind(case)
for _ in range(calls.WARMUPS):
    call()
answer = array.array("B", [1])
where, length = answer.buffer_info()


def issue(samples: Any) -> None:
    """Answer a query at once: a single stream waits for it anyway."""
    for sample in samples:
        call()
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, where, length)])


settings = lg.TestSettings()
settings.scenario = lg.TestScenario.SingleStream
settings.mode = lg.TestMode.PerformanceOnly
settings.min_duration_ms = round(1000 * case["seconds"])
settings.min_query_count = QUERIES
outputs = lg.LogOutputSettings()
outputs.outdir, outputs.copy_summary_to_stdout = sys.argv[1], False
logs = lg.LogSettings()
logs.log_output, logs.enable_trace = outputs, False
system = lg.ConstructSUT(issue, lambda: None)
library = lg.ConstructQSL(QUERIES, QUERIES, lambda _: None, lambda _: None)
lg.StartTestWithLogSettings(system, library, settings, logs)
lg.DestroyQSL(library)
lg.DestroySUT(system)
