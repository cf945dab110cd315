"""pyperf around the bare call: its runner starts a fresh process for every few values."""

from __future__ import annotations

import pyperf

runner = pyperf.Runner()
options = runner.parse_args()
call = None
if options.worker:  # the parent only starts processes
    from benchmarks.peers.scripts import call as calls

    call = calls.bind(calls.asked())
runner.bench_func("call", call)
