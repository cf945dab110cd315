from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scheduler import worker_process
from scheduler.cli import model
from storage import errors

REPORT = {
    "output": "/models/[small]", "cached": False, "model_digest": "d" * 16, "rows": {"train": 1200, "test": 90},
    "classes": 21, "parameters": 1_785_045, "vocabulary": 2000, "epochs": 5, "best_epoch": 4, "steps": 375,
    "stopped": "epochs", "loss": 0.1, "validation_accuracy": None, "test_accuracy": 0.9643, "seconds": 61.0,
    "cpu_seconds": 101.0,
}  # fmt: skip
FOUND = {
    "name": "small", "source": "local", "location": "/models/small", "digest": "d" * 16, "model_type": "bert",
    "architecture": "BertForSequenceClassification", "parameters": 1000, "classes": 2, "source_dtype": "float16",
    "labels": ["music", "weather"], "max_tokens": 128, "inputs": ["input_ids"], "vocabulary": 60, "bytes_fp32": 4000,
    "int8_dynamic": {"layers": 1, "bytes_fp32": 2000, "share": 0.5},
    "layers": [
        {"name": "bert.encoder.layer.0.attention.output.dense", "type": "Linear", "shape": [192, 192],
         "parameters": 500, "bytes": 2000, "quantized": True},
    ],
}  # fmt: skip

Asked = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the worker was asked; it answers with a report or a model as above."""
    questions: Asked = []

    def ask(command: str, options: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], None] = print) -> Any:
        questions.append((command, options))
        if command == "train":
            on_event({"event": "progress", "phase": "tokenizer"})
            step = {"epoch": 1, "epochs": 5, "step": 10, "steps": 375, "loss": 2.5, "validation_accuracy": None}
            on_event({"event": "progress", "phase": "train", **step})
        return REPORT if command == "train" else FOUND

    monkeypatch.setattr(worker_process, "ask", ask)
    monkeypatch.setenv("COLUMNS", "100")
    return questions


def test_training_sends_only_what_was_given_with_absolute_paths_and_shows_the_report(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--dataset", "a.csv", "--output", "out", "--layers", "2"]

    shown = CliRunner().invoke(model.app, words)

    files = {"train": str(tmp_path / "a.csv"), "output": str(tmp_path / "out")}
    assert asked == [("train", {**files, "text": "text", "label": "label", "layers": 2})]
    assert "96.43%" in shown.stdout and "/models/[small]" in shown.stdout and "no rows given" in shown.stdout
    assert json.loads(CliRunner().invoke(model.app, [*words, "--json"]).stdout) == REPORT


@pytest.mark.parametrize(
    ("words", "source", "location"),
    [
        (["there"], "local", "{here}/there"),
        (["./missing"], "local", "{here}/missing"),
        (["owner/name", "--revision", "v1"], "hub", "owner/name"),
        (["distilbert", "--random", "--set", "n_layers=3"], "random", "distilbert"),
    ],
)
def test_a_model_is_a_folder_where_there_is_one_a_hub_id_or_an_architecture(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], source: str, location: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()

    shown = CliRunner().invoke(model.app, ["inspect", *words])

    reference = asked[0][1]["model"]
    assert (reference["source"], reference["location"]) == (source, location.format(here=tmp_path))
    assert reference["config"] == ({"n_layers": 3} if source == "random" else {})
    assert "192×192" in shown.stdout and "50% of the bytes" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


def test_a_field_without_random_weights_or_without_a_value_is_refused(asked: Asked) -> None:
    for words in (["there", "--set", "n_layers=3"], ["bert", "--random", "--set", "n_layers"]):
        refused = CliRunner().invoke(model.app, ["inspect", *words])
        assert isinstance(refused.exception, errors.SettingsError)
    assert asked == []
