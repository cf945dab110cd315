from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from scheduler import study, study_lines
from storage import errors, records
from tests.unit.scheduler import study_files
from tests.unit.scheduler.study_files import MINIMAL, PROJECT, load, write

NATURAL = """
name: matrix
models:
  minilm: {path: ./minilm}
  clinc: {hub: organization/clinc, revision: 0123456}
  distilbert-shape: {random: distilbert, config: {num_labels: 20}}
strategies:
  - torch/fp32
  - torch/bf16
  - torch/int8-dynamic
  - torch/int8-dynamic:engine=onednn,per_channel
  - onnxruntime/int8-dynamic
threads: [1, physical, logical]
inputs:
  - {batch: 1, length: 16}
  - {batch: 8, length: 128}
  - {batch: 1, length: dataset, padding: "max:128"}
dataset: {path: ./rows.csv, text: text, label: intent, rows: 500}
precision: 3%
max_seconds: 30
"""


def problems(folder: Path, text: str) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(errors.StudyError) as caught:
        load(folder, text)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_study_of_3_models_5_strategies_3_thread_counts_and_3_inputs_reads_naturally(tmp_path: Path) -> None:
    found = load(tmp_path, NATURAL)
    assert (len(found.spec.models), len(found.spec.strategies), len(found.spec.threads), len(found.inputs)) == (
        3,
        5,
        3,
        3,
    )
    assert found.spec.models["clinc"].revision == "0123456"  # not an octal number
    assert found.spec.strategies[3] == "torch/int8-dynamic:engine=onednn,per_channel=true"
    assert found.spec.precision == pytest.approx(0.03)
    assert found.inputs[2] == records.InputSpec(batch=1, length="dataset", padding="max:128")
    assert found.inputs[0].calls == 1
    assert found.text == NATURAL


WRONG = [
    ("modells: {}", "5: modells: there is no such field; did you mean 'models'?"),
    ("baseline: torch/fp31", "5: baseline: torch has no precision 'fp31'; did you mean 'fp32'?"),
    ("baseline: torhc/fp32", "5: baseline: there is no strategy 'torhc/fp32'; did you mean 'torch/fp32'?"),
    ("threads: []", "5: threads: is empty"),
    ("threads: 2", "5: threads: expected a list"),
    ("threads:\n- 1\n- 0", "7: threads[1]: expected a number from 1"),
    ("threads: [true]", "5: threads[0]: expected a number from 1"),
    (
        "threads: [1, fysical]",
        "5: threads[1]: expected a number from 1, or physical, logical, all, not 'fysical'; did you",
    ),
    ("inputs: []", "5: inputs: is empty"),
    ("inputs: [{batch: 0, length: 8}]", "5: inputs[0].batch: expected a whole number from 1, not 0"),
    ("inputs: [{length: 0}]", "5: inputs[0].length: expected a whole number from 1, not 0"),
    ("inputs: [{length: datasett}]", "5: inputs[0].length: expected a number of tokens from 1, or dataset"),
    ("inputs:\n- {length: 8}\n- {batch: 1}", "7: inputs[1].length: is missing"),
    ("inputs: [{length: dataset, padding: max}]", "5: inputs[0].padding: expected longest, max:N, sorted or buckets:N"),
    (
        "inputs: [{length: dataset, padding: 'max:0'}]",
        "5: inputs[0].padding: expected longest, max:N, sorted or buckets:N",
    ),
    (
        "inputs: [{length: dataset, padding: {max: 9}}]",
        "5: inputs[0].padding: expected longest, max:N, sorted or buckets:N with N tokens",
    ),
    (
        "inputs: [{length: [16, 64], padding: 'max:32'}]",
        "5: inputs[0]: 64 tokens cannot be padded with max:32; expected at least max:64",
    ),
    ("inputs: [{length: 16, calls: 2}]", "5: inputs[0]: calls goes with length: dataset only"),
    ("inputs: [{length: dataset, calls: 0}]", "5: inputs[0].calls: expected at least 1, not 0"),
    ("precision: 0", "5: precision: expected more than 0 and at most 50%"),
    ("precision: 51%", "5: precision: expected more than 0 and at most 50%"),
    ("precision: lots", "5: precision: expected more than 0 and at most 50%"),
    ("max_seconds: 0", "5: max_seconds: expected more than 0, not 0"),
    ("min_pairs: 3", "5: min_pairs: expected a multiple of 2, not 3"),
    ("min_pairs: 0", "5: min_pairs: expected at least 2, not 0"),
    ("max_seconds: ten", "5: max_seconds: expected a number, not 'ten'"),
    ("kinds: []", "5: kinds: is empty"),
    ("kinds: [noop]", "5: kinds[0]: expected 'latency', 'throughput', 'server', 'tensor' or 'accuracy', not 'noop'"),
    (
        "kinds: [latencies]",
        "5: kinds[0]: expected 'latency', 'throughput', 'server', 'tensor' or 'accuracy', not 'latencies'; did you",
    ),
    ("replicas: 0", "5: replicas: expected at least 1, not 0"),
    ("replicas: '2'", "5: replicas: expected a whole number, not '2'"),
    ("dataset: rows.csv", "5: dataset: expected a mapping, such as {path:"),
    ("dataset: {path: a.csv, hub: b}", "5: dataset: expected one of path, hub; path and hub are given together"),
    ("dataset: {hub: b}", "5: dataset: a hub dataset needs its split"),
    ("dataset: {path: a.csv, split: test}", "5: dataset: split goes with hub only"),
    ("dataset: {path: a.csv, lable: b}", "5: dataset.lable: there is no such field; did you mean 'label'?"),
    ("exclude: [{}]", "5: exclude[0]: names nothing to exclude"),
    ("exclude: [{modle: m}]", "5: exclude[0].modle: there is no such field; did you mean 'model'?"),
    ("exclude: [{model: mm}]", "5: exclude[0].model: matches no model of this study: 'mm'; did you mean 'm'?"),
    ("exclude: [{strategy: onnx*}]", "5: exclude[0].strategy: matches no strategy of this study: 'onnx*'"),
    ("exclude: [{threads: all}]", "5: exclude[0].threads: all is every count"),
    ("targets: every-hots", "5: targets: expected every-platform, every-host, any, or a mapping such as {isa:"),
    ("targets: [a]", "5: targets: expected every-platform, every-host, any, or a mapping"),
    ("targets: {}", "5: targets: names nothing to select hosts by"),
    ("targets: {cpu: null}", "5: targets: names nothing"),
    ("targets:\n  cpuu: x", "6: targets.cpuu: there is no such field; did you mean 'cpu'?"),
    ("targets: {lable.region: eu}", "5: targets.lable.region: there is no such field"),
    ("targets: {torhc: '2'}", "5: targets.torhc: there is no such field; did you mean 'torch'?"),
    (
        "targets: {torch: 2.10}",
        "5: targets.torch: expected text, which may be a glob such as '*EPYC*', not 2.1; a version",
    ),
    ("targets: {isa: []}", "5: targets.isa: the list is empty"),
    ("targets: {min_cores: 0}", "5: targets.min_cores: expected at least 1, not 0"),
    ("targets: {min_cores: 4, max_cores: 2}", "5: targets: min_cores 4 is more than max_cores 2"),
    ("targets: {platform: abc}", "5: targets.platform: expected a key or its beginning"),
    ("inputs: [{length: dataset}]", "3: models.m: random weights have no tokenizer"),
    ("kinds: [accuracy]", "3: models.m: random weights have no accuracy"),
]


@pytest.mark.parametrize(("more", "expected"), WRONG, ids=[expected for _, expected in WRONG])
def test_a_wrong_field_is_named_with_its_line_and_what_was_expected(tmp_path: Path, more: str, expected: str) -> None:
    found = problems(tmp_path, MINIMAL + more)
    assert len(found) == 1
    assert found[0].startswith(f"study.yaml:{expected}")


WRONG_MODELS = [
    ("{path: ./x, hub: a/b}", "models.m: expected one of path, hub, random; path and hub are given together"),
    ("{seed: 3}", "models.m: expected one of path, hub, random; none is given"),
    ("./x", "models.m: expected a mapping, such as {path: ./models/minilm}"),
    ("{random: distilbrt}", "models.m: random: there is no architecture 'distilbrt'; did you mean 'distilbert'?"),
    ("{random: bert, dataset: {path: a.csv}}", "models.m: dataset does not go with random weights"),
    ("{path: ./x, revision: main}", "models.m: revision goes with hub only"),
    ("{path: ./x, config: {a: 1}}", "models.m: config goes with random only"),
    ("{hub: a/b, revision: 1.5}", "models.m.revision: expected a branch, tag or commit, in quotes"),
    ("{hub: a/b, trust_remote_code: true}", "models.m.trust_remote_code: there is no such field"),
    (
        "{hub: a/b, dataset: {hub: c, splitt: x}}",
        "models.m.dataset.splitt: there is no such field; did you mean 'split'?",
    ),
]


@pytest.mark.parametrize(("model", "expected"), WRONG_MODELS, ids=[expected for _, expected in WRONG_MODELS])
def test_a_wrong_model_is_named_with_its_line(tmp_path: Path, model: str, expected: str) -> None:
    found = problems(tmp_path, f"name: s\nmodels:\n\n  m: {model}\nstrategies: [torch/fp32]\n")
    assert len(found) == 1
    assert found[0].startswith(f"study.yaml:4: {expected}")


def test_all_problems_of_a_file_come_in_one_message_in_the_order_of_its_lines(tmp_path: Path) -> None:
    found = problems(tmp_path, "name: a b\nmodels:\n  m: 3\nstrategies: [torch/int9, torch/fp32]\nprecision: 0\n")
    assert [line.split(":")[1:3] for line in found] == [
        ["1", " name"], ["3", " models.m"], ["4", " strategies[0]"], ["5", " precision"],
    ]  # fmt: skip


def test_missing_fields_are_listed_with_what_they_are(tmp_path: Path) -> None:
    found = problems(tmp_path, "threads: [1]\n")
    assert [line.split(": ")[1] for line in found] == ["name", "models"]
    assert all("is missing. " in line for line in found)
    (found_later,) = problems(tmp_path, "name: s\nmodels: {r: {random: bert}}\n")
    assert found_later.startswith("study.yaml:1: strategies: is missing. runtime/precision")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x\n", "study.yaml:1: anchors (&) and aliases (*) are not allowed"),
        ("name: s\nexclude: [{model: *}]\n", "study.yaml:2: this is not YAML"),
        ("name: s\nthreads: [1]\nname: t\n", "study.yaml:3: name is given twice (first in line 1)"),
        ("name: !!python/object:os.system x\n", "study.yaml:1: tags (tag:yaml.org,2002:python/object:os.system)"),
        ("name: s\n---\nname: t\n", "study.yaml:2: a second document"),
        ("", "study.yaml: the file is empty"),
        ("# nothing\n", "study.yaml: the file is empty"),
        ("- a\n- b\n", "study.yaml:1: expected fields such as"),
        ("name: [a\nthreads: 1\n", "study.yaml:2: this is not YAML"),
        (
            "models:\n  m: {path: ${X}}\n",
            "study.yaml:2: this is not YAML: expected ',' or '}', but got '{'; a value with",
        ),
        ("a: " + "[" * 100_000, "study.yaml:1: nested deeper than"),
        ("name: a\x07b\n", "study.yaml: this is not YAML"),
        ("{[a]: 1}", "study.yaml:1: a field's name is a word"),
    ],
)
def test_yaml_that_a_study_may_not_use_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text)[0].startswith(expected)


def test_plain_words_are_read_by_the_rules_of_yaml_1_2() -> None:
    read = study_lines.parse("a: no\nb: 0123\nc: 12:30\nd: 1.5\ne: true\nf: '1'\ng: 7\nh: 1234e56\n", file="f").data
    assert read == {"a": "no", "b": "0123", "c": "12:30", "d": 1.5, "e": True, "f": "1", "g": 7, "h": "1234e56"}


def test_a_file_that_is_too_large_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "demo.yaml")
    with pytest.raises(errors.StudyError, match=r"there is no study file .*; did you mean 'demo.yaml'"):
        study.load(tmp_path / "dmeo.yaml")
    with pytest.raises(errors.StudyError, match="larger than 256 kB"):
        load(tmp_path, MINIMAL + "#" * study_lines.MAX_BYTES)
    (tmp_path / "bytes.yaml").write_bytes(b"name: s\nx: \xff\xfe\n")
    with pytest.raises(errors.StudyError, match=r"bytes.yaml:2: not UTF-8"):
        study.load(tmp_path / "bytes.yaml")
    with pytest.raises(errors.StudyError, match="Is a directory"):
        study.load(tmp_path)


def test_an_option_torn_off_by_a_comma_is_explained(tmp_path: Path) -> None:
    text = MINIMAL.replace("[torch/fp32]", "[torch/int8-dynamic:engine=onednn,per_channel]")
    assert "put a strategy with a comma in it in quotes" in problems(tmp_path, text)[0]


def test_strategies_in_two_spellings_are_one(tmp_path: Path) -> None:
    spellings = "['torch/int8-dynamic:per_channel,engine=auto', ' torch/int8-dynamic:per_channel=TRUE', torch/fp32]"
    found = load(tmp_path, MINIMAL.replace("[torch/fp32]", spellings))
    assert found.spec.strategies == ("torch/int8-dynamic:per_channel=true", "torch/fp32")


def test_lists_in_an_input_stand_for_all_combinations(tmp_path: Path) -> None:
    found = load(
        tmp_path, MINIMAL + "inputs: [{batch: [1, 8], length: [16, 128]}, {batch: 8, length: 16, padding: 'max:16'}]\n"
    )
    assert [(spec.batch, spec.length) for spec in found.inputs] == list(itertools.product((1, 8), (16, 128)))


def test_a_matrix_beyond_all_reason_is_refused_before_it_is_built(tmp_path: Path) -> None:
    numbers = ",".join(map(str, range(1, 4001)))
    found = problems(tmp_path, MINIMAL + f"inputs: [{{batch: [{numbers}], length: [{numbers}]}}]\n")
    assert found == ["study.yaml: the matrix has 16000000 cases, at most 1000000 are allowed"]


def test_a_dataset_that_inputs_or_accuracy_need_must_be_there(tmp_path: Path) -> None:
    text = MINIMAL.replace("random: bert", "hub: a/b") + "inputs: [{length: dataset}]\nkinds: [latency, accuracy]\n"
    found = problems(tmp_path, text)
    assert found[0].startswith("study.yaml:5: inputs[0].length: dataset needs a dataset, and there is none")
    assert found[1].startswith("study.yaml:6: kinds: accuracy needs a dataset")
    partly = text.replace("m: {hub: a/b}", "m: {hub: a/b}\n  n: {hub: a/b, dataset: {path: a.csv}}")
    assert problems(tmp_path, partly) == [found[0].replace(":5:", ":6:").replace("none;", "none for m;")]


def test_variables_in_paths_are_replaced_and_an_unset_one_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MINIMAL.replace("random: bert", 'path: "${QF_HOME}/${QF_MODEL:-minilm}"') + 'dataset: {path: "${QF_ROWS}"}\n'
    monkeypatch.setenv("QF_HOME", "/models")
    monkeypatch.delenv("QF_ROWS", raising=False)
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith("study.yaml:5: dataset.path: the environment variable QF_ROWS is not set")
    assert "--dataset PATH" in found[0]
    monkeypatch.setenv("QF_ROWS", "/rows.csv")
    spec = load(tmp_path, text).spec
    assert spec.models["m"].path == "/models/minilm"
    assert spec.dataset is not None
    assert spec.dataset.path == "/rows.csv"


def test_a_variable_that_looks_like_a_secret_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    found = problems(tmp_path, MINIMAL.replace("random: bert", 'path: "/x/${REDIS_PASSWORD}"'))
    assert "looks like a secret's" in found[0]
    assert "hunter2" not in found[0]


def test_paths_on_the_command_line_replace_the_source_and_keep_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "name: s\nmodels:\n  m: {hub: a/b, revision: main}\nstrategies: [torch/fp32]\n"
    text += "dataset: {hub: clinc_oos, config: plus, split: test, label: intent}\n"
    spec = load(tmp_path, text, models={"m": "here"}, dataset="rows.csv").spec
    assert (spec.models["m"].path, spec.models["m"].hub, spec.models["m"].revision) == (
        str(tmp_path / "here"),
        None,
        None,
    )
    assert spec.dataset is not None
    assert (spec.dataset.path, spec.dataset.split, spec.dataset.label) == (str(tmp_path / "rows.csv"), None, "intent")


def test_a_path_on_the_command_line_makes_the_variable_unnecessary(tmp_path: Path) -> None:
    text = MINIMAL.replace("random: bert", 'path: "${QF_SURELY_UNSET}"')
    assert load(tmp_path, text, models={"m": "/here"}).spec.models["m"].path == "/here"


def test_a_path_for_a_model_that_the_study_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.StudyError, match="--model mm: the study has no such model; did you mean 'm'"):
        load(tmp_path, MINIMAL, models={"mm": "/x"})
    with pytest.raises(errors.StudyError, match="expected NAME=PATH"):
        study.overrides(["minilm"])
    with pytest.raises(errors.StudyError, match="given twice"):
        study.overrides(["m=a", "m=b"])
    assert study.overrides(["m=a=b"]) == {"m": "a=b"}


@pytest.mark.parametrize("name", ["demo", "clinc150", "clinc_oos-hub"])
def test_the_examples_are_valid_studies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINC150_MODEL", "/somewhere/minilm")
    monkeypatch.setenv("CLINC150_DATA", "/somewhere/rows.parquet")
    found = study.load(study_files.PROJECT / "examples" / f"{name}.yaml")
    assert found.name == name
    assert found.spec.baseline in found.spec.strategies


def test_the_schema_describes_every_field_and_allows_no_other() -> None:
    schema = study.schema()
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        assert all(field["description"] for field in section["properties"].values())
    assert schema["required"] == ["name", "models"]


def test_the_docs_show_every_field_as_the_schema_describes_it() -> None:
    text = (PROJECT / "docs" / "study-file.md").read_text("utf-8")
    schema = study.schema()
    missing = [row for section in (schema, *schema["$defs"].values()) for row in rows(section) if row not in text]
    assert missing == []


def rows(section: dict[str, object]) -> list[str]:
    """The lines of a section's table in the docs."""
    fields = section["properties"]
    assert isinstance(fields, dict)
    required = section.get("required", [])
    assert isinstance(required, list)
    return [
        f"| `{name}`{' (required)' if name in required else ''} | {field['description']} |"
        for name, field in fields.items()
    ]
