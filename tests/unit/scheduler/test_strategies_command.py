from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scheduler.cli import main, strategies
from storage import records
from storage.catalogue import registry
from tests import distributions
from tests.unit.scheduler import probed as machines
from tests.unit.scheduler.probed import HASWELL, TORCH_ONLY, probed

LONG = "distil:layers=3+prune-ffn:0.4+openvino/int8-static:rows=100"
GRAVITON = dataclasses.replace(HASWELL, architecture="aarch64", isa=("asimd", "asimddp"))
EVERYTHING = dataclasses.replace(TORCH_ONLY, packages=dict.fromkeys(registry.PACKAGES, "1.0"))


def invoke(
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    hardware: records.Hardware = HASWELL,
    environment: records.Environment = TORCH_ONLY,
) -> Result:
    result, _ = machines.invoke(monkeypatch, strategies.app, probed(hardware, environment), *words)
    return result


def listed(monkeypatch: pytest.MonkeyPatch, *words: str, **machine: Any) -> dict[str, dict[str, Any]]:
    rows = json.loads(invoke(monkeypatch, "--json", *words, **machine).stdout)
    return {row["name"]: row for row in rows}


def explained(monkeypatch: pytest.MonkeyPatch, text: str, **machine: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(invoke(monkeypatch, "explain", text, "--json", **machine).stdout)
    return told


def test_the_list_says_what_runs_here_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = listed(monkeypatch)
    here = {name: (row["here"], row["why"]) for name, row in rows.items()}
    assert here["torch/fp32"] == ("yes", None)
    assert here["prune-ffn"] == ("yes", None)
    assert here["torch/bf16"][0] == "slow"
    assert here["onnxruntime/fp32"][0] == "no"
    assert "pip install 'quantfleet[onnxruntime]'" in here["onnxruntime/fp32"][1]
    assert rows["onnxruntime/fp32"]["needs"]["packages"]["onnx"] is None


def test_the_list_holds_pairs_by_runtime_and_then_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(listed(monkeypatch).values())
    kinds = [row["kind"] for row in rows]
    runtimes = [row["name"].partition("/")[0] for row in rows if row["kind"] == "pair"]
    assert {row["name"] for row in rows} == {*registry.descriptions(), *registry.transforms_by_name()}
    assert kinds == sorted(kinds)
    assert sum(a != b for a, b in itertools.pairwise(runtimes)) == len(set(runtimes)) - 1, "a runtime is torn apart"


def test_what_another_package_adds_stands_with_its_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "from storage.catalogue.descriptions import Description\n"
        "MORE = Description(runtime='torch', precision='fp64', summary='more digits', implementation='x:Y',"
        " packages=())"
    )
    with distributions.installed(tmp_path, "mylab", {"mylab_more.py": code}, {"more": "mylab_more:MORE"}):
        names = list(listed(monkeypatch))
        assert "more digits" in invoke(monkeypatch, "--runtime", "torch").stdout
    assert names.index("torch/int4-weight-only") + 1 == names.index("torch/fp64") < names.index("inductor/fp32")


def test_the_table_fits_80_columns_and_loses_no_name_reason_or_value(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = listed(monkeypatch)
    table = invoke(monkeypatch).stdout
    closed = "".join(table.split())
    assert max(len(line) for line in table.splitlines()) <= 80
    assert all(name in table for name in rows)
    assert all("".join(row["why"].split()) in closed for row in rows.values() if row["why"])
    assert "…" not in table
    assert "engine=auto|x86|fbgemm|onednn|qnnpack" in closed


def test_the_list_says_whether_defaults_read_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = listed(monkeypatch)
    reads = {name for name, row in rows.items() if row["data"]}
    static = {name for name in registry.descriptions() if name.endswith("/int8-static")}
    assert reads == {*static, "prune-heads", "prune-ffn", "distil"}


def test_runtime_and_here_narrow_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(listed(monkeypatch, "--runtime", "torch")) == {
        name for name in registry.descriptions() if name.startswith("torch/")
    }
    here = listed(monkeypatch, "--here")
    assert {"torch/bf16", "torch/fp32", "distil"} <= set(here)
    assert {row["here"] for row in here.values()} == {"yes", "slow"}
    left_out = len(listed(monkeypatch)) - len(here)
    assert f"{left_out} that cannot run here are left out" in invoke(monkeypatch, "--here").stdout


def test_option_values_that_this_cpu_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = dataclasses.replace(HASWELL, isa=("avx", "sse4_1"))
    dynamic = listed(monkeypatch, hardware=old)["torch/int8-dynamic"]
    (engine,) = [option for option in dynamic["options"] if option["name"] == "engine"]
    assert set(engine["not_here"]) == {"x86", "fbgemm"}
    table = invoke(monkeypatch, "--runtime", "torch", hardware=old).stdout
    assert "(nothere:x86,fbgemm)" in "".join(table.split())


def test_an_explanation_holds_the_one_spelling_and_each_part_with_the_options_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = explained(monkeypatch, "distil: layers=3 + prune-ffn:40% + openvino/int8-static:seed=0,rows=100")
    assert told["strategy"] == LONG
    assert [part["part"] for part in told["parts"]] == LONG.split("+")
    assert [part["kind"] for part in told["parts"]] == ["transform", "transform", "pair"]
    states = {option["name"]: (option["value"], option["state"]) for option in told["parts"][2]["options"]}
    assert states["rows"] == ("100", "given")
    assert states["seed"] == ("0", "default")
    assert states["draw"] == ("representative", "default")


def test_an_explanation_marks_options_that_other_options_leave_without_a_meaning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = explained(monkeypatch, "prune-magnitude:pattern=2:4+torch/int8-static:draw=random-tokens")
    prune, static = ({option["name"]: option["state"] for option in part["options"]} for part in told["parts"])
    assert (prune["amount"], prune["pattern"], prune["data"]) == ("unused", "given", "unused")
    assert (static["data"], static["draw"]) == ("unused", "given")
    assert told["datasets"] == []
    assert "no speed is to be expected" in told["parts"][0]["means"]


def test_an_explanation_names_the_trainings_and_the_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    told = explained(
        monkeypatch, "prune-ffn:0.4,data=mine,recover=300+distil:layers=3+torch/int8-static:data=evaluation"
    )
    assert [part["trains"] for part in told["parts"]] == [True, True, False]
    assert told["trained"] == [
        "prune-ffn:0.4,data=mine,recover=300+torch/fp32",
        "prune-ffn:0.4,data=mine,recover=300+distil:layers=3+torch/fp32",
    ]
    assert told["datasets"] == ["mine", "train", "evaluation"]
    text = invoke(monkeypatch, "explain", told["strategy"]).stdout
    assert "the dataset 'mine', as the study's `datasets` names it" in text
    assert "the rows that accuracy is taken on" in text
    assert "a job of its own" in text


def test_an_explanation_says_what_is_missing_here_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told = explained(monkeypatch, LONG)
    assert (told["here"], told["parts"][0]["here"], told["parts"][2]["here"]) == ("no", "yes", "no")
    needs = told["parts"][2]["needs"]
    assert needs["packages"] == {"openvino": None, "torch": "2.13.0", "transformers": "5.23.0", "nncf": None}
    assert needs["install"] == "pip install 'quantfleet[openvino]'"
    text = invoke(monkeypatch, "explain", LONG).stdout
    assert "pip install 'quantfleet[openvino]'" in text
    assert "openvino (missing)" in text
    assert text.splitlines()[0] == LONG
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("text", "hardware", "here", "why"),
    [
        ("torch/int8-dynamic", HASWELL, "yes", None),
        ("torch/int8-dynamic:engine=x86", GRAVITON, "no", "engine=x86 exists on x86_64 only, this is aarch64"),
        ("inductor/int8-static", GRAVITON, "no", "exists on x86_64 only"),
        ("openvino/bf16", HASWELL, "no", "needs avx512_bf16 or"),
        ("torch/bf16", HASWELL, "slow", "runs emulated"),
        ("inductor/int8-dynamic:by=pt2e", GRAVITON, "no", "by=pt2e exists on x86_64 only"),
        ("inductor/int8-dynamic", GRAVITON, "yes", None),
    ],
)
def test_an_explanation_says_whether_this_machine_can_run_it(
    text: str, hardware: records.Hardware, here: str, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = explained(monkeypatch, text, hardware=hardware, environment=EVERYTHING)
    assert told["here"] == here
    assert told["why"] is None if why is None else why in told["why"]
    text = invoke(monkeypatch, "explain", text, hardware=hardware, environment=EVERYTHING).stdout
    assert "".join((why or f"here{here}").split()) in "".join(text.split())


def test_an_explanation_names_compiler_and_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(invoke(monkeypatch, "explain", "inductor/bf16").stdout.split())
    assert "a C++ compiler (g++)" in text
    assert "for speed a CPU with avx512_bf16 or amx_bf16" in text
    engine = explained(monkeypatch, "torch/int8-dynamic:engine=fbgemm")["parts"][0]["needs"]["of_options"]
    assert engine == ["engine=fbgemm: avx2; x86_64"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["explain", "distil:layer=3+torch/fp32"], "distil has no option 'layer'; did you mean 'layers'?"),
        (["explain", "openvino/fp16"], "openvino has no precision 'fp16'; did you mean 'bf16'? (it has fp32, bf16,"),
        (["explain", "prune-ffn:0.3"], "such as prune-ffn:0.3+torch/fp32"),
        (["explain", ""], "there is no strategy ''"),
        (["--runtime", "openvin"], "there is no runtime 'openvin'; did you mean 'openvino'?"),
        (["torch/fp32"], "`quantfleet strategies explain torch/fp32` explains a strategy"),
        (["expalin", "torch/fp32"], "did you mean 'explain'?"),
        (["--here", "explain", "torch/fp32"], "--here belongs to the list"),
    ],
)
def test_a_slip_gets_one_message_and_exit_code_2_before_the_worker_is_asked(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quantfleet", "strategies", *argv])
    monkeypatch.setattr("scheduler.worker_process.ask", None)  # not callable
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main.run()
    err = capsys.readouterr().err
    assert ended.value.code == main.USER_MENDS
    assert said in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["strategies", "ex"], {"explain"}),
        (["strategies", "explain", "openvino/int8-s"], {"openvino/int8-static"}),
        (["strategies", "explain", "prune-h"], {"prune-heads+"}),
        (["strategies", "explain", "distil+openvino/int4"], {"distil+openvino/int4-weight-only"}),
        (["strategies", "--runtime", "o"], {"onnxruntime", "openvino"}),
    ],
)
def test_a_shell_completes_strategies(words: list[str], expected: set[str]) -> None:
    line = " ".join(["quantfleet", *words])
    asked = {"_QUANTFLEET_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    code = "from scheduler.cli import main; import typer; typer.main.get_command(main.app)(prog_name='quantfleet')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == expected, done.stderr
