"""What a run tells its worker as it starts it, and how it waits for it."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

from scheduler import local


def job(strategy: str, *, baseline: str = "torch/fp32", kind: str = "latency", state: str = "queued") -> Any:
    return SimpleNamespace(strategy=strategy, baseline=baseline, kind=kind, state=state)


def test_a_worker_imports_ahead_what_waiting_jobs_need_and_nothing_else() -> None:
    jobs = [
        job("onnxruntime/int8-dynamic", baseline="onnxruntime/fp32"),
        job("openvino/fp32", state="done"),
        job("int8/matmul", baseline="fp32/matmul", kind="tensor"),
    ]
    assert local._runtimes(jobs) == ["torch", "onnxruntime"]


def test_whoever_waits_wakes_up_when_the_worker_has_done_something_and_sleeps_when_it_is_dead() -> None:
    news = local._News()
    with news.opened() as writer:
        worker = os.dup(writer)
    os.write(worker, b"..")
    assert _waited(news, 5.0) < 1.0
    assert _waited(news, 0.1) >= 0.1, "old news"
    os.close(worker)
    assert _waited(news, 5.0) < 1.0
    assert _waited(news, 0.1) >= 0.1, "spins over a dead worker's pipe"
    news.close()


def _waited(news: local._News, seconds: float) -> float:
    began = time.monotonic()
    news.wait(seconds)
    return time.monotonic() - began
