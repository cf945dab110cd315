from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import plan, resolve, saved, targets
from scheduler.resolve import Resolved
from scheduler.targets import Wanted
from storage import errors
from tests.unit.scheduler.fleet_hosts import host
from tests.unit.scheduler.study_files import load, model_folder

FIRST = Path(__file__).parent / "golden" / "study_v1.json"
SECOND = FIRST.with_name("study_v2.json")
GOLDEN = FIRST.with_name("study_v3.json")

STUDY = """\
name: golden
models:
  m: {path: ./m}
  h: {hub: organization/clinc, revision: 0a1b2c3}
  r: {random: distilbert, config: {num_labels: 20}, seed: 7}
strategies: [torch/fp32, 'torch/int8-dynamic:engine=onednn,per_channel', onnxruntime/int8-dynamic]
threads: [1, physical]
inputs: [{batch: [1, 8], length: 16}, {length: dataset, padding: 'max:32', calls: 4}, {length: 8, padding: 'max:64'}]
dataset: {path: ./rows.csv, label: intent, rows: 500}
datasets: {train: {path: ./rows.csv, label: intent}}
prepare: once
precision: 4%
max_seconds: 30
exclude: [{model: r, threads: 1}, {strategy: onnxruntime/*, batch: 8}]
replicas: 2
targets: {isa: [avx512_vnni], cpu: '*test*', min_memory: 1.5, label.region: eu, torch: '2.*'}
"""

HOSTS = [host("a", labels={"region": "eu"}), host("b", labels={"region": "eu"}, logical_cores=2, physical_cores=1)]


def resolved(folder: Path, text: str = STUDY) -> Resolved:
    if not (folder / "m").exists():
        model_folder(folder / "m")
        (folder / "rows.csv").write_text("text,intent\nhello,greet\n")
    return resolve.resolve(load(folder, text))


def again(found: Resolved, wanted: Wanted) -> tuple[Resolved, Wanted]:
    """Through JSON text and back, as through a database."""
    stored = json.loads(json.dumps(saved.document(found, wanted), allow_nan=False))
    return saved.restore(found.study.name, found.study.text, stored)


def jobs(found: Resolved, wanted: Wanted) -> list[Any]:
    return list(plan.plan(found, targets.targets(wanted, HOSTS)).every_job)


def test_a_study_comes_back_from_the_database_and_is_planned_alike_without_its_files(tmp_path: Path) -> None:
    found = resolved(tmp_path)
    wanted = targets.of_study(found.study)
    back, wanted_back = again(found, wanted)

    assert back.study.spec == found.study.spec
    assert back.models == found.models
    assert (wanted_back.each, wanted_back.selector) == ("host", wanted.selector)
    assert jobs(back, wanted_back) == jobs(found, wanted)
    assert len(jobs(found, wanted)) > 50


def test_what_the_command_line_asked_for_comes_back_as_such(tmp_path: Path) -> None:
    found = resolved(tmp_path)
    wanted = targets.of_options(found.study, "every-host", ["min_cores=2"])

    _, back = again(found, wanted)

    assert back == wanted
    assert back.study is None


def test_a_selector_that_no_host_fits_any_more_is_told_with_the_studys_line(tmp_path: Path) -> None:
    found = resolved(tmp_path)
    _, wanted = again(found, targets.of_study(found.study))
    with pytest.raises(errors.StudyError, match=r"study golden:16: targets\.label\.region: no host has 'eu'"):
        targets.targets(wanted, [host("c", labels={"region": "us"})])


def test_defaults_of_a_study_are_written_down_because_they_may_change(tmp_path: Path) -> None:
    found = resolved(tmp_path, "name: s\nmodels: {r: {random: bert}}\nstrategies: [torch/bf16]\n")
    spec = saved.document(found, targets.of_study(found.study))["spec"]
    assert (spec["baseline"], spec["threads"], spec["replicas"], spec["targets"]) == (
        "torch/fp32",
        ["physical"],
        1,
        "every-platform",
    )


def test_a_document_of_version_1_is_still_understood() -> None:
    stored = json.loads(FIRST.read_text("utf-8"))
    assert stored["version"] == 1

    found, wanted = saved.restore("golden", STUDY, stored)

    assert [model.ref.name for model in found.models] == ["m", "h", "r"]
    assert found.models[0].ref.digest == "8242bb8b25b27298"
    assert found.models[0].positions == 512
    assert found.models[0].dataset is not None
    assert found.models[0].dataset.rows == 500
    assert found.models[2].ref.config == {"num_labels": 20}
    assert (wanted.each, wanted.study is found.study) == ("host", True)
    assert len(jobs(found, wanted)) == 178
    assert (found.datasets, found.study.spec.prepare) == ({}, "host")


def test_a_document_of_version_2_is_still_understood() -> None:
    stored = json.loads(SECOND.read_text("utf-8"))
    found, wanted = saved.restore("golden", STUDY, stored)
    again = saved.restore("golden", STUDY, json.loads(GOLDEN.read_text("utf-8")))
    assert stored["version"] == 2
    assert found.study.inputs == again[0].study.inputs
    assert [job.key for job in jobs(found, wanted)] == [job.key for job in jobs(*again)]


def test_the_golden_document_is_what_is_written_today(tmp_path: Path) -> None:
    found = resolved(tmp_path)
    today = saved.document(found, targets.of_study(found.study))
    golden = json.loads(GOLDEN.read_text("utf-8"))
    text = json.dumps(today).replace(str(tmp_path), "/study")
    for part in ("spec", "targets", "version", "file"):
        assert json.loads(text)[part] == golden[part], "it changed: raise VERSION and keep this file if it must"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 4}, "newer version"),
        ({"version": "1"}, "cannot be read"),
        ({"spec": {"name": "s"}}, "another version"),
        ({"models": [{}]}, "cannot be read"),
        ({"targets": {}}, "cannot be read"),
        ({"targets": {"each": "host", "by": "study", "selector": {"cpuu": "x"}}}, "cpuu: there is no such field"),
    ],
)
def test_a_document_that_this_version_cannot_read_is_told(change: dict[str, Any], said: str) -> None:
    stored = {**json.loads(GOLDEN.read_text("utf-8")), **change}
    with pytest.raises(errors.StudyError, match=said):
        saved.restore("golden", STUDY, stored)


def test_a_study_of_a_version_without_documents_is_told() -> None:
    with pytest.raises(errors.StudyError, match="older version"):
        saved.restore("s", "", None)


@settings(max_examples=25, deadline=None)
@given(
    threads=st.lists(st.sampled_from([1, 2, 64, "physical", "all"]), min_size=1),
    precision=st.sampled_from(["3%", "0.05", "50%"]),
    replicas=st.integers(1, 3),
    inputs=st.lists(st.sampled_from(["{length: 16}", "{batch: [1, 2], length: [4, dataset]}"]), min_size=1),
    asked=st.sampled_from(["every-platform", "every-host", "{host: [a, b]}", "{max_cores: 3}", "{label.region: e*}"]),
)
def test_any_study_comes_back_the_same(
    threads: list[int | str], precision: str, replicas: int, inputs: list[str], asked: str
) -> None:
    text = (
        "name: s\nmodels: {m: {path: ./m}, r: {random: bert}}\nstrategies: [torch/fp32, torch/bf16]\n"
        f"threads: {str(threads).replace(chr(39), '')}\ninputs: [{', '.join(inputs)}]\n"
        f"dataset: {{path: ./rows.csv, label: intent}}\n"
        f"precision: {precision}\nreplicas: {replicas}\ntargets: {asked}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = resolved(Path(folder), text)
    back, wanted = again(found, targets.of_study(found.study))
    assert back.study.spec == found.study.spec
    assert jobs(back, wanted) == jobs(found, targets.of_study(found.study))
