from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import errors, records, strategies
from tests.integration.engine import conftest
from worker import hardware
from worker.artifacts import ARTIFACTS, ArtifactStore
from worker.engine import libraries, models, preparation, structure, texts
from worker.engine.strategies import base

libraries.silence_transformers()
torch = pytest.importorskip("torch")
from worker.engine.transforms import distil, resuming, students, training, widths  # noqa: E402

SIZES: Mapping[str, Mapping[str, Any]] = {
    "bert": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "type_vocab_size": 2},
    "roberta": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "type_vocab_size": 1},
    "electra": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 24},
    "distilbert": {"dim": 32, "n_heads": 2, "hidden_dim": 64},
    "mpnet": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "albert": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 16},
}


def make_teacher(folder: Path, architecture: str = "bert", layers: int = 4) -> records.ModelRef:
    """A small classifier whose answers differ from row to row."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    common = {"vocab_size": 64, "max_position_embeddings": 40, "pad_token_id": 0, "num_hidden_layers": layers}
    config = AutoConfig.for_model(
        architecture, **common, **SIZES[architecture], id2label=dict(enumerate(conftest.NAMES))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    conftest.make_tokenizer(folder)
    return records.ModelRef(name=f"tiny-{architecture}", source="local", location=str(folder))


def write(path: Path, rows: list[tuple[str, str]]) -> records.DatasetRef:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "intent"), *rows])
    return records.DatasetRef(source="local", location=str(path), label="intent")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> records.ModelRef:
    return make_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> records.DatasetRef:
    return write(tmp_path_factory.mktemp("rows") / "train.csv", list(conftest.TEXTS) * 6)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is told and kept, for trainings here take less than a second; one thread, for the machine is busy."""
    monkeypatch.setattr(training, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr(training, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(training, "usable_threads", lambda: 1)


def apply(
    model: records.ModelRef,
    rows: records.DatasetRef | None,
    text: str,
    folder: Path,
    *,
    scratch: Path | None = None,
    tell: base.Tell = base.silent,
) -> tuple[records.ModelRef, Mapping[str, Any]]:
    folder.mkdir()
    source = base.Source(model=model, dataset=rows, scratch=scratch, tell=tell)
    facts = distil.Distil().apply(source, strategies.parse_step(text), folder)
    return records.ModelRef(name="student", source="local", location=str(folder)), facts


def logits(model: records.ModelRef) -> Any:
    loaded = models.load(model)
    tokens = texts.tokenize(model, [text for text, _ in conftest.TEXTS], None)
    return training.logits(loaded, tokens, range(len(tokens)))


def weights(model: records.ModelRef) -> dict[str, Any]:
    return dict(models.load(model).state_dict())


class Stop(Exception):
    """A process that is killed."""


def stop_at(step: int) -> base.Tell:
    def tell(progress: Mapping[str, Any]) -> None:
        if progress.get("step") == step:
            raise Stop

    return tell


SHORT = "distil:layers=2,epochs=3,batch=8,learning_rate=0.003"


def test_a_student_learns_what_its_teacher_answers(
    teacher: records.ModelRef, rows: records.DatasetRef, tmp_path: Path
) -> None:
    heard: list[Mapping[str, Any]] = []
    text = "distil:epochs=25,batch=8,learning_rate=0.003,hard_weight=0"

    student, facts = apply(teacher, rows, text, tmp_path / "student", tell=heard.append)

    before = students.make(models.load(teacher), None, None).model
    tokens = texts.tokenize(teacher, [text for text, _ in conftest.TEXTS], None)
    right, said = logits(teacher).softmax(-1), logits(student).softmax(-1)
    untaught = training.logits(before, tokens, range(len(tokens))).softmax(-1)
    assert (said - right).abs().mean() < 0.25 * (untaught - right).abs().mean()
    assert facts["loss"]["last"] < 0.2 * facts["loss"]["first"]
    assert facts["agreement"] == 1.0 and facts["rows"] == {"train": 46, "held_out": 2}
    assert facts["steps"] == 25 * 6 and facts["resumed_at"] is None and facts["threads"] == 1
    assert facts["student"]["layers"] == 2 and facts["student"]["from_layers"] == [1, 3]
    loaded = models.load(student)
    assert sum(weight.numel() for weight in loaded.parameters()) == facts["student"]["parameters"]
    assert facts["student"]["parameters"] < facts["teacher"]["parameters"]
    assert facts["teacher"]["digest"] == models.identify(teacher) and facts["teacher"]["layers"] == 4
    assert json.dumps(facts)
    steps = [told for told in heard if told["phase"] == "distilling"]
    assert [told["step"] for told in steps] == list(range(1, 151)) and steps[-1]["epoch"] == 25
    assert all(told["eta_s"] >= 0 and told["steps"] == 150 for told in steps) and steps[-1]["eta_s"] == 0
    assert {path.suffix for path in (tmp_path / "student").iterdir()} == {".json", ".safetensors"}


def test_the_loss_is_hintons(teacher: records.ModelRef, rows: records.DatasetRef) -> None:
    source, step = (
        base.Source(model=teacher, dataset=rows),
        strategies.parse_step("distil:temperature=3,hard_weight=0.25"),
    )
    lesson = distil._lesson(source, step, models.load(teacher))
    pupil = students.make(models.load(teacher), 1, None).model
    assert set(lesson.train) | set(lesson.held_out) == set(range(48)) and not set(lesson.train) & set(lesson.held_out)

    loss = float(lesson.loss(pupil, [0, 5, 7]))

    chosen = [lesson.train[at] for at in (0, 5, 7)]
    said = training.logits(pupil, lesson.sample.tokens, chosen).double().numpy()
    right = lesson.answers[chosen].double().numpy()

    def softmax(values: Any) -> Any:
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    soft = (softmax(right / 3) * np.log(softmax(right / 3) / softmax(said / 3))).sum(axis=1).mean()
    labels = [conftest.NAMES.index(str(lesson.sample.labels[at])) for at in chosen]  # type: ignore[index]
    hard = -np.log(softmax(said)[[0, 1, 2], labels]).mean()
    assert loss == pytest.approx(0.75 * 9 * soft + 0.25 * hard, rel=1e-4)


@pytest.mark.parametrize("step", [2, 6, 13, 18])  # within an epoch, at its end, in the last one, at the very end
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_student(
    step: int, teacher: records.ModelRef, rows: records.DatasetRef, tmp_path: Path
) -> None:
    whole, undisturbed = apply(teacher, rows, SHORT, tmp_path / "whole")
    scratch = tmp_path / "scratch" / "key"

    with pytest.raises(Stop):
        apply(teacher, rows, SHORT, tmp_path / "killed", scratch=scratch, tell=stop_at(step))
    assert [path.name for path in scratch.iterdir()] == [resuming.FILE]
    heard: list[Mapping[str, Any]] = []
    resumed, facts = apply(teacher, rows, SHORT, tmp_path / "resumed", scratch=scratch, tell=heard.append)

    assert facts["resumed_at"] == step - 1 and facts["steps"] == undisturbed["steps"] == 18
    assert next(told["step"] for told in heard if told["phase"] == "distilling") == step
    assert facts["loss"] == undisturbed["loss"]
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_used(
    teacher: records.ModelRef, rows: records.DatasetRef, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Stop):
        apply(teacher, rows, SHORT, tmp_path / "killed", scratch=tmp_path / "kept", tell=stop_at(9))
    _, other = apply(teacher, rows, f"{SHORT},seed=1", tmp_path / "other", scratch=tmp_path / "kept")
    assert other["resumed_at"] is None

    (tmp_path / "kept" / resuming.FILE).write_bytes(b"\x07damaged")
    _, facts = apply(teacher, rows, SHORT, tmp_path / "again", scratch=tmp_path / "kept")
    assert facts["resumed_at"] is None and "is damaged" in caplog.text


def test_a_folder_that_takes_no_checkpoint_does_not_stop_the_training(
    teacher: records.ModelRef, rows: records.DatasetRef, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    _, facts = apply(teacher, rows, SHORT, tmp_path / "student", scratch=tmp_path / "file" / "key")

    assert facts["steps"] == 18 and "no checkpoint in" in caplog.text


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "mpnet"])
def test_each_family_gives_students_with_fewer_layers_and_narrower_ones(
    architecture: str, rows: records.DatasetRef, tmp_path: Path
) -> None:
    model = make_teacher(tmp_path / "teacher", architecture)
    for text, hidden in (("distil:layers=3,epochs=1", 32), ("distil:layers=1,hidden=16,epochs=1", 16)):
        student, facts = apply(model, rows, text, tmp_path / str(hidden))
        config = models.config(student)
        assert config.hidden_size == hidden and config.num_hidden_layers == facts["student"]["layers"]
        assert np.isfinite(facts["loss"]["last"])
        assert logits(student).shape == (len(conftest.TEXTS), len(conftest.NAMES))


def test_a_student_starts_from_its_teachers_layers_embeddings_and_head(teacher: records.ModelRef) -> None:
    loaded: Any = models.load(teacher)
    student = students.make(loaded, 2, None)
    own, original = student.model.state_dict(), loaded.state_dict()
    names = {name: name for name in own} | {
        name: name.replace(f".layer.{at}.", f".layer.{layer}.")
        for at, layer in enumerate(student.layers)
        for name in own
        if f".layer.{at}." in name
    }
    assert student.layers == (1, 3)
    assert all(torch.equal(own[name], original[names[name]]) for name in own)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(own.values(), original.values(), strict=False))
    assert students.spaced(12, 5) == (1, 3, 6, 8, 11) and students.spaced(6, 6) == tuple(range(6))


def test_a_narrower_student_has_the_places_with_the_largest_weights(teacher: records.ModelRef) -> None:
    model: Any = models.load(teacher)
    small = 1e-3
    layer = model.bert.encoder.layer[2]
    with torch.no_grad():
        layer.intermediate.dense.weight[::2] *= small  # neurons 1, 3, 5, … matter
        layer.attention.self.query.weight[:8] *= small  # channels 8 to 15 of the first head, 0 to 7 of the second
        layer.attention.self.key.weight[24:] *= small
        for other in model.bert.encoder.layer:
            for reads in (
                other.intermediate.dense,
                *(getattr(other.attention.self, n) for n in ("query", "key", "value")),
            ):
                reads.weight[:, 5:21] *= small  # dimensions 0 to 4 and 21 to 31 matter

    narrow: Any
    narrow, width = widths.narrower(model, 16)

    kept, made = [*range(5), *range(21, 32)], narrow.bert.encoder.layer[2]
    assert width.tolist() == kept
    assert torch.equal(
        narrow.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight[:, kept]
    )
    assert torch.equal(made.intermediate.dense.weight, layer.intermediate.dense.weight[1::2][:, kept])
    assert torch.equal(made.output.dense.weight, layer.output.dense.weight[kept][:, 1::2])
    assert torch.equal(made.attention.self.query.bias, layer.attention.self.query.bias[8:24])
    assert torch.equal(narrow.classifier.weight, model.classifier.weight[:, kept])


def cut_teacher(folder: Path, teacher: records.ModelRef, neurons: int, heads: int) -> records.ModelRef:
    """The teacher with fewer neurons in one of its layers and a head fewer in another."""
    model: Any = models.load(teacher)
    last, second = model.bert.encoder.layer[neurons], model.bert.encoder.layer[heads]
    for owner, name, out, into in (
        (last.intermediate, "dense", 24, 32),
        (last.output, "dense", 32, 24),
        *((second.attention.self, name, 16, 32) for name in ("query", "key", "value")),
        (second.attention.output, "dense", 32, 16),
    ):
        old = getattr(owner, name)
        new = torch.nn.Linear(into, out)
        new.weight.data, new.bias.data = old.weight.data[:out, :into].clone(), old.bias.data[:out].clone()
        setattr(owner, name, new)
    folder.mkdir()
    models.save(model, teacher, folder)
    return records.ModelRef(name="cut", source="local", location=str(folder))


def test_a_student_of_a_cut_teacher_keeps_the_shapes_of_its_layers(
    teacher: records.ModelRef, rows: records.DatasetRef, tmp_path: Path
) -> None:
    cut = cut_teacher(tmp_path / "cut", teacher, neurons=3, heads=1)

    student, _ = apply(cut, rows, SHORT, tmp_path / "student")

    layers: Any = students.layers_of(models.load(student))
    assert layers[1].intermediate.dense.weight.shape == (24, 32)
    assert layers[0].attention.self.query.weight.shape == (16, 32)
    assert layers[0].intermediate.dense.weight.shape == (64, 32)
    with pytest.raises(errors.Unsupported, match="the teacher's were cut; distil first"):
        apply(cut, rows, "distil:hidden=16", tmp_path / "narrow")

    other = cut_teacher(tmp_path / "other", teacher, neurons=0, heads=2)  # a student of two has neither of the two
    usual, _ = apply(other, rows, SHORT, tmp_path / "usual")
    assert not structure.is_cut(models.config(usual)) and len(weights(usual)) == len(weights(student))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ("layers=5", errors.StrategyError, "layers=5 is more than the teacher has: it has 4 layers"),
        ("hidden=64", errors.StrategyError, "hidden=64 is wider than the teacher: it has 32"),
        ("hidden=15", errors.StrategyError, "hidden=15 cannot be shared by the teacher's 2 heads; hidden=16 can"),
    ],
)
def test_a_student_that_cannot_be_is_refused_before_any_row_is_read(
    options: str, kind: type[Exception], words: str, teacher: records.ModelRef, tmp_path: Path
) -> None:
    missing = records.DatasetRef(source="local", location=str(tmp_path / "none.csv"), label="intent")
    with pytest.raises(kind, match=words):
        apply(teacher, missing, f"distil:{options}", tmp_path / "student")


def test_a_width_at_which_an_electra_would_lose_a_layer_is_refused(rows: records.DatasetRef, tmp_path: Path) -> None:
    electra = make_teacher(tmp_path / "electra", "electra")
    with pytest.raises(errors.StrategyError, match="hidden=24 is the width of the teacher's embeddings"):
        apply(electra, rows, "distil:hidden=24", tmp_path / "student")


def test_a_training_whose_loss_is_no_number_is_ended(teacher: records.ModelRef) -> None:
    model = models.load(teacher).requires_grad_(True)
    course = training.Training(
        model,
        lambda pupil, _rows: pupil.classifier.weight.sum() * float("nan"),
        [3, 3],
        training.Plan(steps=2, batch=1, learning_rate=0.5, seed=0),
        kept=resuming.Checkpoints(None),
        tell=base.silent,
        phase="distilling",
    )
    with pytest.raises(errors.StrategyError, match=r"loss is nan at step 1 of 2; lower learning_rate=0\.5"):
        course.run()


def test_a_teacher_of_one_class_is_unsupported(rows: records.DatasetRef) -> None:
    config = {"num_labels": 1, "hidden_size": 32, "num_attention_heads": 2, "vocab_size": 64}
    single = records.ModelRef(name="single", source="random", location="bert", config=config)
    with pytest.raises(errors.Unsupported, match="'single' has 1"):
        distil.Distil().apply(base.Source(model=single, dataset=rows), strategies.parse_step("distil"), Path("none"))


def test_an_architecture_without_layers_of_its_own_is_unsupported(rows: records.DatasetRef, tmp_path: Path) -> None:
    shares = make_teacher(tmp_path / "albert", "albert")
    with pytest.raises(errors.Unsupported, match="no student of architecture 'albert'; it can of bert"):
        apply(shares, rows, "distil", tmp_path / "student")


def test_labels_that_are_not_the_models_classes_matter_only_where_labels_count(
    teacher: records.ModelRef, tmp_path: Path
) -> None:
    strange = write(tmp_path / "strange.csv", [(text, f"other-{label}") for text, label in conftest.TEXTS])
    with pytest.raises(errors.DatasetError, match="are not classes of model"):
        apply(teacher, strange, "distil:epochs=1", tmp_path / "refused")

    _, facts = apply(teacher, strange, "distil:epochs=1,hard_weight=0", tmp_path / "student")
    assert facts["rows"] == {"train": 7, "held_out": 1}


def test_bad_rows_are_a_dataset_error(teacher: records.ModelRef, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.csv", [])
    full = write(tmp_path / "full.csv", list(conftest.TEXTS))
    other = records.DatasetRef(source="local", location=full.location, label="intnet")
    for dataset, words in ((empty, "is empty"), (other, "did you mean 'intent'"), (None, "needs a dataset")):
        with pytest.raises(errors.DatasetError, match=words):
            apply(teacher, dataset, "distil", tmp_path / words.split()[-1])


def test_a_chain_trains_once_and_clears_up_behind_it(
    teacher: records.ModelRef, rows: records.DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(text: str, tell: base.Tell) -> preparation.Order:
        return preparation.Order(
            model=teacher, strategy=strategies.parse(text), cache=tmp_path, data={"train": rows}, tell=tell
        )

    text = f"{SHORT}+torch/fp32"
    with pytest.raises(Stop):
        preparation.prepare(order(text, stop_at(9)))
    _, first = preparation.prepare(order(text, base.silent))
    (step,) = first.facts["transforms"]
    assert step["facts"]["resumed_at"] == 8 and step["step"] == str(strategies.parse_step(SHORT))
    assert list((tmp_path / preparation.TRAINING).iterdir()) == []
    student = ArtifactStore(tmp_path / ARTIFACTS).folder(step["key"])
    made = models.load(records.ModelRef(name="student", source="local", location=str(student)))
    assert len(students.layers_of(made)) == 2

    monkeypatch.setattr(libraries, "isa", lambda: ["other"])  # a host of another kind takes the same student
    _, second = preparation.prepare(order(text, stop_at(1)))
    assert second.cached and second.key == first.key and second.facts["transforms"] == first.facts["transforms"]


def test_a_training_takes_the_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for cores, quota, threads in ((4, None, 4), (4, 2.5, 2), (2, 0.5, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        monkeypatch.setattr(hardware, "quota", lambda quota=quota: quota)
        assert training.usable_threads() == threads


def test_another_seed_or_option_is_another_recipe() -> None:
    recipes = [
        distil.Distil().recipe(strategies.parse_step(text))
        for text in ("distil", "distil:seed=1", "distil:layers=2", "distil:temperature=4", "distil:data=more")
    ]
    assert recipes[0] == recipes[4]  # preparation puts the rows' digest in, whatever the dataset is called
    assert len({json.dumps(recipe, sort_keys=True) for recipe in recipes}) == 4
