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
    "architecture": "BertForSequenceClassification", "parameters": 2000, "classes": 2, "source_dtype": "float16",
    "labels": ["music", "weather"], "max_tokens": 128, "inputs": ["input_ids"], "vocabulary": 60, "bytes_fp32": 8000,
    "strategy": {
        "name": "torch/int8-dynamic", "bytes_file": 5100, "bytes_layers": 5000, "bytes_elsewhere": 0,
        "kinds": [
            {"type": "Linear", "stored": "int8", "quantized": True, "layers": 2, "bytes": 4000, "stored_bytes": 1000},
            {"type": "Embedding", "stored": "float32", "quantized": False, "layers": 1, "bytes": 4000,
             "stored_bytes": 4000},
        ],
    },
    "layers": [
        {"name": "bert.embeddings.words", "type": "Embedding", "shape": [60, 192], "parameters": 1000, "bytes": 4000,
         "quantized": False, "stored": "float32", "stored_bytes": 4000, "scales": 0},
        *({"name": f"bert.encoder.layer.{at}.attention.output.dense", "type": "Linear", "shape": [192, 192],
           "parameters": 500, "bytes": 2000, "quantized": True, "stored": "int8", "stored_bytes": 500, "scales": 192}
          for at in (0, 1)),
    ],
}  # fmt: skip
SCHEME = {
    "name": "symmetric", "granularity": "tensor", "percentile": 99.9, "dtype": "int8", "scale": [0.01, 0.01],
    "zero_point": [0.0, 0.0], "max_error": 0.5, "rms_error": 0.001, "sqnr_db": 27.31, "clipped": 0.001, "levels": 200,
}  # fmt: skip
WEIGHED = {
    "name": "small", "layer": "classifier", "type": "Linear", "digest": "e" * 16, "shape": [2, 192], "min": -1.0,
    "max": 1.0, "mean": 0.0, "std": 0.1, "picture": None,
    "schemes": [SCHEME, {**SCHEME, "name": "per row", "scale": [0.0033, 0.04], "sqnr_db": None, "clipped": 0.0}],
}  # fmt: skip
ANSWERS = {"train": REPORT, "inspect": FOUND, "weigh": WEIGHED}

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
        return ANSWERS[command]

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
    assert "192×192" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


def test_a_field_without_random_weights_or_without_a_value_is_refused(asked: Asked) -> None:
    for words in (["there", "--set", "n_layers=3"], ["bert", "--random", "--set", "n_layers"]):
        refused = CliRunner().invoke(model.app, ["inspect", *words])
        assert isinstance(refused.exception, errors.SettingsError)
    assert asked == []


def test_layers_that_are_alike_are_one_line_unless_each_is_asked_for(asked: Asked) -> None:
    folded, every = (CliRunner().invoke(model.app, ["inspect", "m", *more]).stdout for more in ([], ["--all"]))
    assert folded.count("192×192") == 1 and "×2" in folded and "layer.*" in folded and "1,000" in folded
    assert every.count("192×192") == 2 and "layer.1" in every and "layer.*" not in every
    assert "int8 by row" in folded


def test_the_size_of_the_file_is_explained_with_the_models_numbers(asked: Asked) -> None:
    shown = " ".join(CliRunner().invoke(model.app, ["inspect", "m"]).stdout.split())
    assert asked[0][1]["strategy"] == "torch/int8-dynamic"
    assert "0.01 MB of float32 become a file of 0.01 MB (×0.64, not even half)." in shown
    assert "2 Linear 0.00 MB → 0.00 MB (int8)" in shown
    assert "1 Embedding 0.00 MB of 0.01 MB (50.0%) stays float32" in shown


def test_one_layer_is_shown_under_every_scheme(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(model.app, ["inspect", "m", "--layer", "classifier", "--picture", "a.png"])
    command, options = asked[0]
    assert (command, options["layer"], options["picture"]) == ("weigh", "classifier", str(tmp_path / "a.png"))
    assert "27.3" in shown.stdout and "0.1%" in shown.stdout and "exact" in shown.stdout
    assert "0.0033…0.04" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--picture", "a.png"], "name it with --layer"),
        (["--layer", "classifier", "--all"], "--all goes with the table"),
        (["--layer", "classifier", "--strategy", "torch/fp32"], "--strategy goes with the table"),
        (["--strategy", "torch/int8-dynamik"], "did you mean 'int8-dynamic'"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_worker_is_asked(
    asked: Asked, words: list[str], message: str
) -> None:
    refused = CliRunner().invoke(model.app, ["inspect", "m", *words])
    assert isinstance(refused.exception, errors.UserError) and message in str(refused.exception)
    assert asked == []
