"""The real checkpoint where it is at hand: the numbers that the project's measured facts hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage import records, strategies
from tests.integration.engine import conftest
from worker.engine import operations

SHARED = Path(__file__).parents[4] / "shared"
MODEL = SHARED / "models" / "minilm-clinc150"
DATA = SHARED / "data" / "clinc150" / "validation.parquet"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODEL.is_dir() and DATA.is_file()), reason="the real checkpoint is not here"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conftest.shared(tmp_path_factory, "real")


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("torch/fp32", 192, 194),  # 0.965 of 200, one row more or less
        ("torch/bf16", 191, 195),
        ("torch/int8-dynamic", 185, 195),  # int8 kernels differ by instruction set
        ("onnxruntime/int8-dynamic", 185, 195),
    ],
)
def test_accuracy_on_the_first_validation_rows(text: str, least: int, most: int, cache: Path) -> None:
    model = records.ModelRef(name="minilm", source="local", location=str(MODEL))
    data = records.DatasetRef(source="local", location=str(DATA), label="intent", rows=200)
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache)
    rows, _ = operations.prepare_rows(model, data, cache)
    session = operations.open_session(folder, strategy, 1)
    predictions, labels = operations.predict(session, rows, 1, lambda _done, _total: None)
    right = sum(a == b for a, b in zip(predictions, labels, strict=True))
    assert least <= right <= most
    assert artifact.size_bytes < 92e6


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel")
def test_int8_dynamic_is_quantize_dynamic_bit_for_bit_at_true_size(cache: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = records.ModelRef(name="minilm", source="local", location=str(MODEL))
    strategy = strategies.parse("torch/int8-dynamic")
    folder, _ = operations.prepare(model, strategy, cache)
    session = operations.open_session(folder, strategy, 1)  # sets the engine
    whole = AutoModelForSequenceClassification.from_pretrained(MODEL, dtype=torch.float32).eval()
    twin = torch.ao.quantization.quantize_dynamic(whole, {torch.nn.Linear})  # type: ignore[no-untyped-call]
    spec = records.InputSpec(batch=2, length=128, calls=1)
    path, _ = operations.prepare_inputs(model, None, spec, cache)
    (call,) = operations.load_calls(path)
    with torch.inference_mode():
        expected = twin(**{name: torch.from_numpy(array) for name, array in call.items()}).logits.numpy()
    assert np.array_equal(session.logits(call), expected)
