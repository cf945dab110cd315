"""Eager torch strategies on the real checkpoint where it is at hand, against what the project has measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import records, strategies
from storage.catalogue import registry
from tests.integration.engine import conftest
from worker.engine import operations

SHARED = Path(__file__).parents[4] / "shared"
FOLDER = SHARED / "models" / "minilm-clinc150"
DATA = SHARED / "data" / "clinc150"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(path.exists() for path in (FOLDER, DATA / "train.parquet", DATA / "validation.parquet")),
        reason="the real checkpoint is not here",
    ),
]

LINEAR = "quantized::linear_dynamic"
MODEL = records.ModelRef(name="minilm", source="local", location=str(FOLDER))
TRAIN = records.DatasetRef(source="local", location=str(DATA / "train.parquet"), label="intent")
ROWS = records.DatasetRef(source="local", location=str(DATA / "validation.parquet"), label="intent", rows=200)


@dataclass(frozen=True)
class Seen:
    """What a strategy gave."""

    predictions: list[int]
    labels: list[int]
    artifact: records.Artifact

    @property
    def right(self) -> int:
        return agreeing(self.predictions, self.labels)


def agreeing(one: list[int], other: list[int]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


def run(text: str, cache: Path) -> Seen:
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(MODEL, strategy, cache, data={"train": TRAIN})
    rows, _ = operations.prepare_rows(MODEL, ROWS, cache)
    session = operations.open_session(folder, strategy, 1)
    predictions, labels = operations.predict(session, rows, 1, lambda _done, _total: None)
    return Seen(predictions, labels, artifact)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conftest.shared(tmp_path_factory, "real")


@pytest.fixture(scope="module")
def full(cache: Path) -> Seen:
    return run("torch/fp32", cache)


@pytest.mark.parametrize(
    ("text", "megabytes", "kernels", "lost", "same"),
    [  # rows of 200 lost at most against float32, rows answered alike at least; int8 kernels differ by CPU
        (
            "torch/int8-dynamic:embeddings",
            23.1,
            {"quantized::linear_dynamic": 38, "quantized::embedding_byte": 3},
            6,
            193,
        ),
        ("torch/int8-static", 58.7, {"quantized::linear": 38}, 6, 193),
        ("torch/int8-weight-only", 58.7, {"aten::mm": 38}, 1, 199),
        ("torch/int4-weight-only", 30.1, {"aten::_weight_int4pack_mm_for_cpu": 37}, 5, 194),
    ],
)
def test_accuracy_size_and_kernels(
    text: str, megabytes: float, kernels: dict[str, int], lost: int, same: int, cache: Path, full: Seen
) -> None:
    if registry.absent(registry.describe(strategies.parse(text).name)):
        pytest.skip("torchao is an extra")
    found = run(text, cache)
    assert found.artifact.size_bytes / 1e6 == pytest.approx(megabytes, abs=0.2)
    assert kernels.items() <= found.artifact.facts["kernels"].items()
    assert found.right >= full.right - lost
    assert agreeing(found.predictions, full.predictions) >= same
