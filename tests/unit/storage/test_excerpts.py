"""What comparisons read of a document is stored beside it: nothing that they say may depend on which one they read."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import pytest

from scheduler import compare, limits
from storage import excerpts, views
from tests import builders, factories

WORK = {"arithmetic": "int8", "ops": 1e9, "bytes": 1e7, "ops_mean": 1e9, "bytes_mean": 1e7}
SIDE = {
    "threads_set": 2,
    "percentiles": factories.percentiles({0.95: "41 samples, 130 needed"}),
    "artifact": {"key": "a", "facts": {"nodes": {"Add": 8}, "transforms": [{"name": "prune"}, {"model_digest": "m2"}]}},
    "facts": {"work": WORK, "kernels": ["brgemm"] * 50},
}
DOCUMENTS: dict[str, Mapping[str, Any]] = {
    "latency": {"strategy": SIDE, "baseline": {**SIDE, "artifact": {}}, "pairs": 5},
    "throughput": {
        **dict.fromkeys(excerpts.SIDES, SIDE),
        **{f"{side}_load": {"each_per_s": [10.0, 11.0], "efficiency": {"value": 0.9}} for side in excerpts.SIDES},
    },
    "tensor": {"same_operation": False, "strategy": SIDE, "baseline": {}},
    "accuracy": {"strategy": {"percentiles": []}},
    "foreign": {"origin": {"tool": "pyperf"}, "strategy": {"percentiles": []}, "baseline": None},
    "nothing": {},
}


def rows(document: Mapping[str, Any], kind: str) -> list[compare.Comparison]:
    view = factories.latency_view(kind=kind, document=document, hardware_key="h", instances=2, job_id="j")
    measured = views.CeilingsView(
        job_id="c", hardware_key="h", platform_key="p", host="here", finished_at=0.0,
        measurement=builders.measured_ceilings(),
    )  # fmt: skip
    return limits.comparisons(compare.compare([view], lambda job_id: None), [view], {"h": measured})


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_comparison_says_the_same_of_an_excerpt_as_of_the_document(kind: str) -> None:
    document, excerpt = DOCUMENTS[kind], excerpts.excerpt(DOCUMENTS[kind])
    as_kind = kind if kind in ("latency", "throughput", "tensor") else "latency"
    assert rows(excerpt, as_kind) == rows(document, as_kind)
    assert len(str(excerpt)) <= len(str(document))


def test_an_excerpt_has_what_the_row_needs_and_not_the_rest() -> None:
    found = excerpts.excerpt(DOCUMENTS["latency"])
    (row,) = rows(found, "latency")
    assert (row.withheld, row.made_digest) == (("p95: 41 samples, 130 needed",), "m2")
    assert row.floor_s is not None
    assert "kernels" not in str(found) and "nodes" not in str(found)
    assert dataclasses.asdict(row)["limit_share"] is not None


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_the_revision_that_made_excerpts_of_earlier_results_makes_the_same(kind: str) -> None:
    revision = importlib.import_module("storage.migrations.versions.r0007_store")
    assert revision._excerpt(DOCUMENTS[kind]) == excerpts.excerpt(DOCUMENTS[kind])
