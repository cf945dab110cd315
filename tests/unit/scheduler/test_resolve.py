from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scheduler import local_files, resolve
from scheduler.resolve import Resolved
from storage import digests, errors
from tests.unit.scheduler.study_files import PROJECT, load, model_folder

STUDY = "name: s\nmodels:\n  m: {path: ./m}\nstrategies: [torch/fp32]\ndataset: {path: ./rows.csv, label: intent}\n"


def found(folder: Path, text: str = STUDY, **given: Any) -> Resolved:
    return resolve.resolve(load(folder, text), **given)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model and a dataset that `STUDY` names."""
    model_folder(tmp_path / "m")
    (tmp_path / "rows.csv").write_text("text,intent\nhello,greet\n")
    return tmp_path


def test_local_things_are_found_beside_the_study_and_known_by_their_content(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    model = found(place).models[0]
    assert model.ref.location == str(place / "m")
    assert model.ref.digest == digests.model_digest(place / "m")
    assert model.positions == 512
    assert model.dataset is not None
    assert model.dataset.location == str(place / "rows.csv")
    assert model.dataset.digest == digests.file_digest(place / "rows.csv")


def test_the_same_model_elsewhere_is_the_same_model(place: Path) -> None:
    before = found(place).models[0].ref.digest
    shutil.move(place / "m", place / "n")
    assert found(place, STUDY.replace("./m", "./n")).models[0].ref.digest == before
    (place / "n" / "config.json").write_text('{"architectures": ["XForSequenceClassification"]}')
    assert found(place, STUDY.replace("./m", "./n")).models[0].ref.digest != before


def test_a_models_own_dataset_comes_before_the_studys(place: Path) -> None:
    (place / "own.jsonl").write_text('{"text": "hi", "label": 1}\n')
    text = STUDY.replace("{path: ./m}", "{path: ./m, dataset: {path: ./own.jsonl}}") + "kinds: [accuracy]\n"
    dataset = found(place, text).models[0].dataset
    assert dataset is not None
    assert dataset.location.endswith("own.jsonl")


def test_missing_models_and_datasets_are_all_named_with_line_and_field(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelError) as caught:
        found(tmp_path)
    first, second = str(caught.value).splitlines()
    assert first.endswith(
        f"study.yaml:3: models.m.path: the folder {tmp_path}/m does not exist; "
        "expected one with config.json and *.safetensors"
    )
    assert f"study.yaml:5: dataset.path: the file {tmp_path}/rows.csv does not exist" in second


def damage_truncate(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])


def damage_weights_text(model: Path) -> None:
    (model / "model.safetensors").write_text("not found\n")


def damage_pickle(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def damage_no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def damage_no_config(model: Path) -> None:
    (model / "config.json").unlink()


def damage_config(model: Path) -> None:
    (model / "config.json").write_text('{"architectures": ')


def damage_kind(model: Path) -> None:
    (model / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')


def damage_file(model: Path) -> None:
    shutil.rmtree(model)
    model.write_text("a file")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (damage_truncate, r"model.safetensors is truncated: \d+ bytes, its header tells of \d+"),
        (damage_weights_text, "model.safetensors is no safetensors file, or truncated"),
        (damage_pickle, r"only a pickled checkpoint \(pytorch_model.bin\), which can run code"),
        (damage_no_weights, "has no weights; expected"),
        (damage_no_config, "has no config.json"),
        (damage_config, "config.json is damaged"),
        (damage_kind, "is a BertForMaskedLM, not a text classifier"),
        (damage_file, "is a file; expected one with config.json"),
    ],
)
def test_a_damaged_or_unfit_model_is_refused(place: Path, damage: Any, expected: str) -> None:
    damage(place / "m")
    with pytest.raises(errors.ModelError, match=rf"study.yaml:3: models.m.path: .*{expected}"):
        found(place)


def test_a_pickled_checkpoint_of_ones_own_is_taken_when_the_study_says_so(place: Path) -> None:
    damage_pickle(place / "m")
    ref = found(place, STUDY.replace("{path: ./m}", "{path: ./m, allow_pickle: true}")).models[0].ref
    assert ref.allow_pickle


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"text,intnt\nx,y\n", "has no column 'intent'; did you mean 'intnt'"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\xff\xfe\x00text", "is damaged"),
        ("a.jsonl", b'{"txt": 1, "intent": 2}\n', "has no column 'text'; did you mean 'txt'"),
        ("a.jsonl", b"[1, 2]\n", "its first line is no JSON object"),
        ("a.jsonl", b'{"text": \n', "is damaged"),
        ("a.json", b'[\n{"text": 1}]\n', "expected JSON lines"),
        ("a.parquet", b"PAR1 and then cut off", "no parquet file, or truncated"),
        ("a.txt", b"text", "ends in none of .parquet, .csv"),
    ],
)
def test_a_dataset_that_is_surely_wrong_is_refused(place: Path, name: str, content: bytes, expected: str) -> None:
    (place / name).write_bytes(content)
    with pytest.raises(errors.DatasetError, match=rf"study.yaml:5: dataset.path: .*{expected}"):
        found(place, STUDY.replace("rows.csv", name))


def test_things_outside_the_allowed_folders_are_refused_even_behind_a_link(place: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    assert found(place, folders=[tmp_path]).models
    (allowed / "link").symlink_to(place / "m")
    with pytest.raises(errors.ModelError, match="lies outside the allowed folders"):
        found(place, STUDY.replace("./m", "./allowed/link"), folders=[allowed])


def test_an_input_that_no_model_can_take_is_an_error_and_otherwise_impossible_for_some(place: Path) -> None:
    text = STUDY.replace("{path: ./m}", "{path: ./m}\n  r: {random: bert, config: {max_position_embeddings: 1024}}")
    both = found(place, text + "inputs: [{length: 16}, {length: 1000}]\n")
    long = both.study.inputs[1]
    assert resolve.impossible_input(both.models[0], long) == "1000 tokens are more than the 512 positions of m"
    assert resolve.impossible_input(both.models[1], long) is None
    with pytest.raises(errors.StudyError, match=r"study.yaml:7: inputs\[1\]: no model of the study can take b1×l2000"):
        found(place, text + "inputs: [{length: 16}, {length: 2000}]\n")
    with pytest.raises(errors.StudyError, match=r"models.m: can take none of the inputs: 1000 tokens"):
        found(place, text + "inputs: [{length: 1000}]\n")


def test_positions_are_known_only_where_they_are_certain() -> None:
    assert local_files.positions({"max_position_embeddings": 514}, "roberta") == 512
    assert local_files.positions({"max_position_embeddings": 514, "pad_token_id": 0}, "xlm-roberta") == 513
    assert local_files.positions({}, "distilbert") == 512
    assert local_files.positions({"max_position_embeddings": 8192}, "modernbert") is None


@pytest.mark.slow  # imports transformers
def test_architectures_that_studies_may_name_are_those_that_transformers_knows() -> None:
    auto = pytest.importorskip("transformers.models.auto.modeling_auto")
    from scheduler import study_spec

    assert set(study_spec.ARCHITECTURES) <= set(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def test_the_real_model_and_rows_are_taken() -> None:
    shared = PROJECT.parent / "shared"
    if not (shared / "models" / "minilm-clinc150").is_dir():
        pytest.skip("the shared model is not here")
    from scheduler import study

    given = study.load(
        PROJECT / "examples" / "clinc150.yaml",
        models={"minilm": str(shared / "models" / "minilm-clinc150")},
        dataset=str(shared / "data" / "clinc150" / "validation.parquet"),
    )
    model = resolve.resolve(given).models[0]
    assert model.positions == 512
    assert model.dataset is not None
    assert model.dataset.digest is not None


def test_for_other_machines_an_absolute_path_need_not_exist_here_and_is_told(place: Path) -> None:
    text = STUDY.replace("./m", "/surely/nowhere/m").replace("./rows.csv", "/surely/nowhere/rows.csv")

    resolved = found(place, text, elsewhere=True)

    (model,) = resolved.models
    assert (model.ref.location, model.ref.digest, model.positions) == ("/surely/nowhere/m", None, None)
    assert model.dataset is not None
    assert (model.dataset.location, model.dataset.digest) == ("/surely/nowhere/rows.csv", None)
    assert [notice.partition(":")[0] for notice in resolved.notices] == [
        "/surely/nowhere/m is not on this machine",
        "/surely/nowhere/rows.csv is not on this machine",
    ]
    with pytest.raises(errors.ModelError, match="/surely/nowhere/m does not exist"):
        found(place, text)


def test_what_is_here_is_known_by_its_content_for_other_machines_too(place: Path) -> None:
    resolved = found(place, STUDY.replace("./m", str(place / "m")), elsewhere=True)
    assert resolved.models[0].ref.digest == digests.model_digest(place / "m")
    assert resolved.notices == ()


def test_a_relative_path_that_is_missing_here_is_wrong_for_other_machines_too(place: Path) -> None:
    with pytest.raises(errors.ModelError, match="does not exist"):
        found(place, STUDY.replace("./m", "./gone"), elsewhere=True)
    with pytest.raises(errors.DatasetError, match="does not exist"):
        found(place, STUDY.replace("./rows.csv", "./gone.csv"), elsewhere=True)


def test_a_path_of_other_machines_keeps_to_the_allowed_folders(place: Path) -> None:
    with pytest.raises(errors.ModelError, match="outside the allowed folders"):
        found(place, STUDY.replace("./m", "/surely/nowhere/m"), elsewhere=True, folders=[place])
