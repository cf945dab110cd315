"""What comes first: trainings once for all hosts, everything where the study says `prepare: once`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler import plan, resolve, saved, study, targets
from scheduler.plan import Entry
from scheduler.resolve import Resolved
from scheduler.targets import Target
from storage import errors, records
from tests.unit.scheduler.study_files import model_folder, platform, write

STUDY = """
name: s
models:
  m: {{path: m}}
strategies: {strategies}
threads: [1]
inputs: [{{length: 16}}]
dataset: {{path: rows.csv, label: label}}
datasets:
  train: {{path: train.csv, label: label}}
"""


def resolved(folder: Path, strategies: str, more: str = "") -> Resolved:
    if not (folder / "m").exists():
        model_folder(folder / "m")
        for name in ("rows", "train"):
            (folder / f"{name}.csv").write_text(f"text,label\n{name},a\n")
    return resolve.resolve(study.load(write(folder, STUDY.format(strategies=strategies) + more)))


def on(*cpus: str) -> list[Target]:
    return [targets.of_platform(platform(cpu=cpu), cpu) for cpu in cpus]


def first(entries: tuple[Entry, ...]) -> list[Entry]:
    return [entry for entry in entries if entry.case.kind == "prepare"]


def test_a_training_is_one_job_that_everything_made_from_it_waits_for(tmp_path: Path) -> None:
    asked = "['distil:layers=2+torch/fp32', 'distil:layers=2+torch/bf16', torch/bf16]"
    entries = plan.plan(resolved(tmp_path, asked), on("here")).entries

    (training,) = first(entries)
    assert training.case.strategy == "distil:layers=2+torch/fp32"
    assert list(training.case.data) == ["train"]
    assert entries[0] is training
    waiting = {entry.case.strategy for entry in entries if entry.after == (training.key,)}
    assert waiting == {"distil:layers=2+torch/fp32", "distil:layers=2+torch/bf16"}


def test_trainings_on_one_another_run_in_their_order(tmp_path: Path) -> None:
    asked = "['distil:layers=2+prune-ffn:0.3,recover=10+torch/bf16']"
    found = plan.plan(resolved(tmp_path, asked), on("here"))

    student, cut = first(found.entries)
    assert (student.after, cut.after) == ((), (student.key,))
    assert cut.case.strategy == "distil:layers=2+prune-ffn:0.3,recover=10+torch/fp32"
    assert all(entry.after in ((cut.key,), ()) for entry in found.entries if entry.case.kind != "prepare")
    assert {job.after for job in found.all_jobs} == {(), (student.key,), (cut.key,)}


def test_a_fleet_trains_once_wherever_a_host_comes_first(tmp_path: Path) -> None:
    entries = plan.plan(resolved(tmp_path, "['distil:layers=2+torch/bf16']"), on("one", "two")).entries

    (training,) = first(entries)
    assert training.platform_key == records.ANY_PLATFORM
    assert training.target.hosts == ("one", "two")
    assert {entry.after for entry in entries if entry.case.strategy.startswith("distil")} == {(training.key,), ()}


def test_prepare_once_makes_a_job_of_every_artifact_the_baselines_too(tmp_path: Path) -> None:
    here = on("here")
    once = plan.plan(resolved(tmp_path, "['prune-ffn:0.3,recover=10+torch/bf16']", "prepare: once\n"), here).entries
    host = plan.plan(resolved(tmp_path, "['prune-ffn:0.3,recover=10+torch/bf16']"), here).entries

    names = [entry.case.strategy for entry in first(once)]
    cut = "prune-ffn:0.3,recover=10"
    assert names == ["torch/fp32", f"{cut}+torch/fp32", f"{cut}+torch/bf16"]
    (latency,) = (entry for entry in once if entry.case.kind == "latency")
    base, _, full = first(once)
    assert set(latency.after) == {base.key, full.key}
    assert not {entry.key for entry in once} & {entry.key for entry in host}, "other bytes, other jobs"


def test_what_cannot_run_is_not_prepared(tmp_path: Path) -> None:
    lacking = targets.of_platform(platform(without=("onnxruntime",)), "here")
    entries = plan.plan(resolved(tmp_path, "['distil+onnxruntime/fp32']"), [lacking]).entries

    assert first(entries) == []


def test_replicas_and_fresh_measurements_share_what_was_prepared(tmp_path: Path) -> None:
    study_ = resolved(tmp_path, "['distil+torch/fp32']", "replicas: 2\n")
    once = plan.plan(study_, on("here"))
    known = dict.fromkeys(once.keys, "done")
    again = plan.fresh(study_, on("here"), lambda asked: {key: known[key] for key in asked if key in known})

    assert [entry.key for entry in first(once.entries)] == [entry.key for entry in first(again.entries)]
    assert len(first(once.entries)) == 1


def test_the_content_of_the_data_makes_another_job_and_its_name_alone_does_not_hide_it(tmp_path: Path) -> None:
    asked = "['onnxruntime/int8-static']"
    before = plan.plan(resolved(tmp_path, asked), on("here"))
    (tmp_path / "train.csv").write_text("text,label\nother,a\n")
    after = plan.plan(resolved(tmp_path, asked), on("here"))

    changed = [
        entry.case.strategy
        for entry, other in zip(before.entries, after.entries, strict=True)
        if entry.key != other.key
    ]
    assert changed == ["onnxruntime/int8-static"] * 2  # latency and accuracy; the baseline stays


def test_a_study_without_datasets_keeps_the_keys_that_it_always_had(tmp_path: Path) -> None:
    (job, *_) = plan.plan(resolved(tmp_path, "[torch/bf16]"), on("here")).jobs

    assert "data" not in records.to_document(job.case) or records.to_document(job.case)["data"] == {}


def test_a_dataset_that_no_one_names_is_refused_with_its_place_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(errors.StudyError) as caught:
        resolved(tmp_path, "['onnxruntime/int8-static:data=trian']")

    assert "study.yaml:5: strategies" in str(caught.value)
    assert "did you mean 'train'?" in str(caught.value)


def test_the_rows_of_the_evaluation_may_be_named_and_are_no_name_for_another_dataset(tmp_path: Path) -> None:
    entries = plan.plan(resolved(tmp_path, "['onnxruntime/int8-static:data=evaluation']"), on("here")).entries
    (case,) = (
        entry.case for entry in entries if entry.case.strategy.startswith("onnx") and entry.case.kind == "latency"
    )
    assert case.data["evaluation"].location.endswith("rows.csv")

    with pytest.raises(errors.StudyError, match="choose another name"):
        resolved(tmp_path, "[torch/fp32]", "  evaluation: {path: rows.csv, label: label}\n")


@pytest.mark.parametrize("step", ["distil:data=evaluation", "prune-ffn:0.3,recover=10,data=evaluation"])
def test_nothing_is_trained_on_the_rows_that_accuracy_is_taken_on(tmp_path: Path, step: str) -> None:
    with pytest.raises(errors.StudyError, match="the very rows that accuracy is taken on"):
        resolved(tmp_path, f"['{step}+torch/fp32']")
    assert resolved(tmp_path, "['prune-ffn:0.3,data=evaluation+torch/fp32']").study.spec.strategies


def test_random_weights_cannot_read_texts(tmp_path: Path) -> None:
    text = STUDY.format(strategies="['onnxruntime/int8-static', 'onnxruntime/int8-static:draw=random-tokens']")
    (tmp_path / "train.csv").write_text("text,label\nx,a\n")
    (tmp_path / "rows.csv").write_text("text,label\nx,a\n")
    loaded = study.load(write(tmp_path, text.replace("{path: m}", "{random: bert}")))
    entries = plan.plan(resolve.resolve(loaded), on("here")).entries

    reasons = {entry.case.strategy: entry.reason for entry in entries}
    assert "no tokenizer" in str(reasons["onnxruntime/int8-static"])
    assert reasons["onnxruntime/int8-static:draw=random-tokens"] is None


def test_data_options_move_datasets_and_refuse_names_that_nothing_reads(tmp_path: Path) -> None:
    resolved(tmp_path, "[torch/fp32]")
    path = write(tmp_path, STUDY.format(strategies="['distil+torch/fp32']"))
    moved = study.load(path, datasets={"train": str(tmp_path / "rows.csv")})
    assert str(moved.spec.datasets["train"].path).endswith("rows.csv")

    with pytest.raises(errors.StudyError, match="no strategy reads data=tran; did you mean 'train'"):
        study.load(path, datasets={"tran": "x.csv"})


def test_a_stored_study_is_planned_again_with_its_datasets(tmp_path: Path) -> None:
    asked = resolved(tmp_path, "['distil:layers=2+torch/bf16']", "prepare: once\n")
    document = saved.document(asked, targets.of_study(asked.study))
    restored, _ = saved.restore("s", asked.study.text, document)

    again = plan.plan(restored, on("here"))
    assert again.keys == plan.plan(asked, on("here")).keys


def test_an_older_documents_study_has_no_datasets(tmp_path: Path) -> None:
    asked = resolved(tmp_path, "[torch/bf16]")
    document = saved.document(asked, targets.of_study(asked.study))
    del document["datasets"]
    for field in ("datasets", "prepare"):
        document["spec"].pop(field)

    restored, _ = saved.restore("s", asked.study.text, document)

    assert restored.datasets == {}
