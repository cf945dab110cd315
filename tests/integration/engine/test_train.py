from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from scheduler import worker_process
from storage import errors
from worker.engine import train

MUSIC = [("play some music", "music"), ("play a loud song", "music")]
TRUTH = [*MUSIC, ("rain today", "weather"), ("is it hot", "weather")]


def write(path: Path, rows: Sequence[tuple[str, str]], columns: tuple[str, str] = ("text", "intent")) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


@pytest.fixture
def options(tmp_path: Path) -> train.TrainOptions:
    return train.TrainOptions(
        train=write(tmp_path / "train.csv", TRUTH * 12),
        validation=write(tmp_path / "validation.csv", TRUTH[::-1]),
        test=write(tmp_path / "test.csv", TRUTH),
        output=tmp_path / "made" / "model",
        label="intent",
        layers=1,
        hidden=16,
        heads=2,
        vocab=60,
        epochs=4,
        batch=4,
        learning_rate=5e-3,
        max_length=16,
        threads=1,
    )


def nothing(event: Mapping[str, Any]) -> None:
    pass


def refuse(event: Mapping[str, Any]) -> None:
    raise AssertionError("nothing is trained again")


def test_training_gives_a_classifier_that_the_auto_classes_load_and_that_has_learnt(
    options: train.TrainOptions,
) -> None:
    transformers = pytest.importorskip("transformers")
    heard: list[Mapping[str, Any]] = []

    report = train.train(options, heard.append)

    tokenizer = transformers.AutoTokenizer.from_pretrained(options.output)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(options.output)
    call = tokenizer(["rain today", "PLAY some music", "unheard-of"], padding=True, return_tensors="pt")
    chosen = [model.config.id2label[index] for index in model(**call).logits.argmax(-1).tolist()]
    assert chosen[:2] == ["weather", "music"]
    assert call["input_ids"][0, 0] == tokenizer.cls_token_id and tokenizer.model_max_length == 16
    assert report.test_accuracy == 1.0 and report.rows == {"train": 48, "validation": 4, "test": 4}
    assert sum(parameter.numel() for parameter in model.parameters()) == report.parameters
    steps = [event["step"] for event in heard if event["phase"] == "train"]
    assert steps == sorted(steps) and steps[-1] == report.steps <= 48
    assert json.dumps(heard)
    assert [path.name for path in options.output.parent.iterdir()] == ["model"]


def test_the_same_training_is_found_finished_and_anything_else_is_trained_anew(options: train.TrainOptions) -> None:
    first = train.train(options, nothing)
    again = train.train(dataclasses.replace(options, threads=2), refuse)
    assert again == dataclasses.replace(first, cached=True)

    other = train.train(dataclasses.replace(options, seed=1), nothing)
    assert not other.cached and other.model_digest != first.model_digest

    back = train.train(options, nothing)
    assert not back.cached and back.model_digest == first.model_digest  # the same seed, the same weights

    (options.output / "model.safetensors").write_bytes(b"damaged")
    assert train.train(options, nothing).model_digest == first.model_digest


def test_a_folder_that_no_training_made_is_left_alone(options: train.TrainOptions) -> None:
    options.output.mkdir(parents=True)
    (options.output / "thesis.txt").write_text("precious")

    with pytest.raises(errors.SettingsError, match=r"thesis\.txt"):
        train.train(options, nothing)

    (options.output / "thesis.txt").unlink()
    train.train(options, nothing)
    (options.output / "thesis.txt").write_text("precious")
    with pytest.raises(errors.SettingsError, match=r"thesis\.txt"):
        train.train(dataclasses.replace(options, seed=1), nothing)
    assert (options.output / "thesis.txt").read_text() == "precious"


def test_a_training_that_breaks_off_leaves_nothing_behind(options: train.TrainOptions) -> None:
    def stop(event: Mapping[str, Any]) -> None:
        if event["phase"] == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(options, stop)

    assert list(options.output.parent.iterdir()) == []


def test_bad_data_is_refused_with_a_message_that_helps(options: train.TrainOptions, tmp_path: Path) -> None:
    strange = write(tmp_path / "strange.csv", [("snow tomorrow", "wether")])
    single = write(tmp_path / "single.csv", MUSIC)
    empty = write(tmp_path / "empty.csv", [])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"train": tmp_path / "none.csv"}, r"none\.csv does not exist"),
        ({"train": empty}, "empty"),
        ({"label": "intnet"}, "did you mean 'intent'"),
        ({"validation": strange}, "wether; did you mean 'weather'"),
        ({"train": single}, "one class"),
    ]
    for change, words in cases:
        with pytest.raises(errors.DatasetError, match=words):
            train.train(dataclasses.replace(options, **change), nothing)
    assert not options.output.exists()


@pytest.mark.parametrize("change", [{"heads": 3}, {"epochs": 0}, {"learning_rate": 2.0}, {"layers": True}])
def test_options_that_cannot_be_are_refused_at_once(options: train.TrainOptions, change: dict[str, Any]) -> None:
    with pytest.raises(errors.SettingsError, match=next(iter(change))):
        dataclasses.replace(options, **change)


def test_the_command_line_reaches_the_training_through_the_workers_tool(options: train.TrainOptions) -> None:
    given = {**options.recipe(), **{part: str(path) for part, path in options.files().items()}, "threads": 1}
    phases: list[str] = []

    answer = worker_process.ask(
        "train", {**given, "output": str(options.output)}, lambda event: phases.append(event["phase"])
    )

    assert answer["test_accuracy"] == 1.0 and {"tokenizer", "train"} <= set(phases)
    with pytest.raises(errors.UserError, match="did you mean 'intent'"):
        worker_process.ask("train", {**given, "output": str(options.output), "label": "intnet"})
