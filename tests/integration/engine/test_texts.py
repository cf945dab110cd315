from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from storage import errors, records, strategies
from tests.integration.engine.conftest import NAMES, POSITIONS, SPECIAL, TEXTS
from worker.engine import inputs, operations

RIGHT = [NAMES.index(label) for _, label in TEXTS]


def spec(length: int | str, *, batch: int = 1, padding: str = "longest", calls: int = 1) -> records.InputSpec:
    return records.InputSpec(batch=batch, length=length, padding=padding, calls=calls)  # type: ignore[arg-type]


def local(path: Path, **changes: object) -> records.DatasetRef:
    return dataclasses.replace(records.DatasetRef(source="local", location=str(path), label="intent"), **changes)  # type: ignore[arg-type]


def test_labels_meet_the_models_classes_by_name_and_not_by_index(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    path, _ = operations.prepare_rows(tiny_bert, dataset, cache)
    rows = inputs.load_rows(path)
    assert rows.labels.tolist() == RIGHT
    assert [len(ids) for ids in rows.tokens.ids] == [len(text.split()) + 2 for text, _ in TEXTS]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_kind_of_file_gives_the_same_rows(
    suffix: str, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path, tmp_path: Path
) -> None:
    lines = {
        "csv": ["text,intent", *(f"{text},{label}" for text, label in TEXTS)],
        "jsonl": [json.dumps({"text": text, "intent": label}) for text, label in TEXTS],
    }
    path = tmp_path / f"rows.{suffix}"
    path.write_text("\n".join(lines[suffix]) + "\n")
    rows, digest = operations.prepare_rows(tiny_bert, local(path), cache)
    assert inputs.load_rows(rows).labels.tolist() == RIGHT
    assert digest == operations.prepare_rows(tiny_bert, dataset, cache)[1]


def test_class_indices_count_where_the_dataset_has_no_names(
    tiny_bert: records.ModelRef, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,intent\nhello,3\nbye,0\n")
    rows, _ = operations.prepare_rows(tiny_bert, local(path), cache)
    assert inputs.load_rows(rows).labels.tolist() == [3, 0]


def test_a_row_limit_takes_the_first_rows(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    path, digest = operations.prepare_rows(tiny_bert, dataclasses.replace(dataset, rows=3), cache)
    assert inputs.load_rows(path).labels.tolist() == RIGHT[:3]
    assert digest != operations.prepare_rows(tiny_bert, dataset, cache)[1]


BAD_DATASETS = {
    "strange labels": ("rows.csv", "text,intent\nhello,greeet\nbye,leave\n", "not classes of model.*greeet"),
    "index beyond the classes": ("rows.csv", "text,intent\nhello,4\n", "not classes of model.*4"),
    "empty file": ("rows.csv", "", "is empty"),
    "header only": ("rows.csv", "text,intent\n", "is empty"),
    "missing column": ("rows.csv", "text,intnt\nhello,greet\n", "no column 'intent'; did you mean 'intnt'"),
    "missing text": ("rows.jsonl", '{"text": null, "intent": "pay"}\n{"text": "a", "intent": "pay"}\n', "row 0"),
    "no parquet": ("rows.parquet", "hello", "cannot be read as parquet"),
    "unknown kind": ("rows.xlsx", "hello", "unknown kind of file.*parquet"),
}


@pytest.mark.parametrize("case", BAD_DATASETS)
def test_a_bad_dataset_is_refused_with_what_is_wrong(case: str, tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    name, content, message = BAD_DATASETS[case]
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(errors.DatasetError, match=message):
        operations.prepare_rows(tiny_bert, local(path), tmp_path / "cache")


def test_a_dataset_that_is_gone_or_changed_since_planning_is_refused(
    tiny_bert: records.ModelRef, tmp_path: Path
) -> None:
    with pytest.raises(errors.DatasetError, match="does not exist"):
        operations.prepare_rows(tiny_bert, local(tmp_path / "gone.csv"), tmp_path / "cache")
    path = tmp_path / "rows.csv"
    path.write_text("text,intent\nhello,greet\n")
    with pytest.raises(errors.DatasetError, match="another than when the study was planned"):
        operations.prepare_rows(tiny_bert, local(path, digest="0" * 16), tmp_path / "cache")


def test_a_fixed_length_is_one_call_of_ordinary_tokens_the_same_everywhere(
    tiny_bert: records.ModelRef, tmp_path: Path
) -> None:
    first = operations.prepare_inputs(tiny_bert, None, spec(20, batch=3), tmp_path / "a")
    second = operations.prepare_inputs(tiny_bert, None, spec(20, batch=3), tmp_path / "b")
    assert first[1] == second[1]
    (call,) = operations.load_calls(first[0])
    assert call["input_ids"].shape == (3, 20)
    assert call["input_ids"].min() >= len(SPECIAL)
    assert call["attention_mask"].all()
    assert set(call) == {"input_ids", "attention_mask", "token_type_ids"}


def test_a_fixed_length_can_be_padded(tiny_bert: records.ModelRef, cache: Path) -> None:
    path, _ = operations.prepare_inputs(tiny_bert, None, spec(4, padding="max:10"), cache)
    (call,) = operations.load_calls(path)
    assert call["attention_mask"].tolist() == [[1] * 4 + [0] * 6]


def test_a_model_without_token_types_gets_none(tiny_distilbert: records.ModelRef, cache: Path) -> None:
    path, _ = operations.prepare_inputs(tiny_distilbert, None, spec(4), cache)
    assert set(operations.load_calls(path)[0]) == {"input_ids", "attention_mask"}


def test_dataset_inputs_stand_for_the_whole_distribution_of_lengths(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    everything = sorted(len(text.split()) + 2 for text, _ in TEXTS)
    path, _ = operations.prepare_inputs(tiny_bert, dataset, spec("dataset", calls=len(TEXTS)), cache)
    assert sorted(call["input_ids"].shape[1] for call in operations.load_calls(path)) == everything
    path, _ = operations.prepare_inputs(tiny_bert, dataset, spec("dataset", calls=4), cache)
    assert sorted(call["input_ids"].shape[1] for call in operations.load_calls(path)) == everything[1::2]


def test_dataset_inputs_are_padded_and_cut_to_what_is_asked(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    wanted = spec("dataset", batch=2, calls=4, padding="max:6")
    path, _ = operations.prepare_inputs(tiny_bert, dataset, wanted, cache)
    calls = operations.load_calls(path)
    assert [call["input_ids"].shape for call in calls] == [(2, 6)] * 4
    assert max(int(call["attention_mask"].sum(axis=1).max()) for call in calls) == 6
    assert min(int(call["attention_mask"].sum(axis=1).min()) for call in calls) == 3


@pytest.mark.parametrize("wanted", [spec(POSITIONS + 1), spec("dataset", padding=f"max:{POSITIONS + 1}")])
def test_lengths_beyond_the_models_positions_are_unsupported(
    wanted: records.InputSpec, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    with pytest.raises(errors.Unsupported, match="takes 32 tokens at most, the input asks for 33"):
        operations.prepare_inputs(tiny_bert, dataset, wanted, cache)


def test_random_weights_cannot_read_texts(dataset: records.DatasetRef, cache: Path) -> None:
    model = records.ModelRef(name="shape", source="random", location="distilbert")
    with pytest.raises(errors.Unsupported, match="no tokenizer"):
        operations.prepare_inputs(model, dataset, spec("dataset"), cache)


@pytest.mark.parametrize("batch", [1, 3])
def test_predictions_come_row_by_row_in_the_datasets_order(
    batch: int, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    strategy = strategies.parse("torch/fp32")
    folder, _ = operations.prepare(tiny_bert, strategy, cache)
    path, _ = operations.prepare_rows(tiny_bert, dataset, cache)
    session, told = operations.open_session(folder, strategy, 1), []
    predictions, labels = operations.predict(session, path, batch, lambda done, total: told.append((done, total)))
    tokens = inputs.load_rows(path).tokens
    one_by_one = [int(np.argmax(session.logits(tokens.call([row])))) for row in range(len(tokens))]
    assert (predictions, labels) == (one_by_one, RIGHT)
    assert len(set(predictions)) > 1
    assert told[-1] == (len(TEXTS), len(TEXTS))
