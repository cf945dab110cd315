"""`quantfleet run` as a user runs it: a real CLI, a real Celery worker, real models; and what kills do to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from scheduler import saved
from storage import queries
from storage.database import Database
from tests.integration.engine.conftest import make_model

STUDY = """\
name: tiny
models:
  tiny: {{path: "{model}"}}
strategies: [torch/fp32, torch/int8-dynamic]
threads: [1]
inputs: [{{batch: 1, length: 8}}]
kinds: [latency]
precision: 50%
max_seconds: {seconds}
"""

PATIENCE_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A folder with a study, its own database, cache and lock."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [_quantfleet(), "run", "study.yaml", "--json"],
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str, str]:
        with self.start() as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        with Database.open(f"sqlite:///{self.folder / 'quantfleet.db'}", readonly=True) as opened:
            yield opened

    def jobs(self) -> list[queries.JobView]:
        with self.database() as database:
            return queries.jobs(database)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_model(tmp_path_factory.mktemp("tiny")).location)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path, shared_cache: Path) -> Iterator[Bench]:
    (tmp_path / "study.yaml").write_text(STUDY.format(model=tiny_model, seconds=1))
    environ = {
        "QUANTFLEET_CACHE": str(shared_cache),
        "QUANTFLEET_LOCK": str(tmp_path / "lock"),
        "QUANTFLEET_LEASE": "6",
        "QUANTFLEET_HEARTBEAT": "1",
        "QUANTFLEET_RECONCILE": "2",
    }
    yield Bench(folder=tmp_path, environ=environ)
    assert not _left(tmp_path), "a process of the run was left behind"


def test_a_study_runs_to_its_end_and_a_second_run_measures_nothing_again(bench: Bench) -> None:
    code, out, err = bench.finish()
    assert code == 0, err
    rows = json.loads(out)["comparisons"]
    first = bench.jobs()
    assert {job.state for job in first} == {"done"}
    assert len(first) == 2
    assert [row["strategy"] for row in rows] == ["torch/fp32", "torch/int8-dynamic"]

    code, again, err = bench.finish()

    assert code == 0, err
    assert json.loads(again)["comparisons"] == rows
    assert bench.jobs() == first
    with bench.database() as database:
        (study,) = queries.studies(database)
    assert saved.restore(study.name, study.text, study.document)[0].study.name == "tiny"


def test_a_second_run_on_the_same_database_is_refused_with_the_first_ones_process(bench: Bench) -> None:
    first = bench.start()
    _await(first, lambda: bool(_states(bench)))

    code, _, err = bench.finish()

    assert code == 2
    assert f"process {first.pid}" in err
    first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0


def test_ctrl_c_gives_the_job_back_and_the_same_command_goes_on(bench: Bench, tiny_model: Path) -> None:
    _slow(bench, tiny_model)
    first = bench.start()
    _await(first, lambda: _measuring(bench))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=PATIENCE_S)

    assert first.returncode == 130
    assert "running" not in {job.state for job in bench.jobs()}
    assert not _left(bench.folder)
    _quick(bench, tiny_model)
    _finishes_with_each_result_once(bench)


VICTIMS: dict[str, Callable[[psutil.Process], psutil.Process | None]] = {
    "run": lambda run: run,
    "launcher": lambda run: _child_of(run, "worker.app"),
    "supervisor": lambda run: _supervisor(run),  # noqa: PLW0108 - defined below
    "nursery": lambda run: _nursery(run),  # noqa: PLW0108 - defined below
    "measured": lambda run: _child_of(_nursery(run), "worker.child"),
}


QUICK = ("run", "measured")
"""Whose death `make test` looks at; that of the others takes minutes more and is `make faults`'s, as in a fleet."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "victim", [pytest.param(name, marks=() if name in QUICK else pytest.mark.faults) for name in VICTIMS]
)
def test_after_kill_9_the_study_is_finished_with_no_result_twice(bench: Bench, tiny_model: Path, victim: str) -> None:
    _slow(bench, tiny_model)
    run = bench.start()
    _await(run, lambda: _measuring(bench) and VICTIMS[victim](psutil.Process(run.pid)) is not None)
    target = VICTIMS[victim](psutil.Process(run.pid))
    assert target is not None
    target.kill()

    if victim == "run":
        run.communicate()
        assert run.returncode == -signal.SIGKILL
        _await(None, lambda: not _left(bench.folder))
    else:
        _, err = run.communicate(timeout=PATIENCE_S)
        assert run.returncode == 0, err
    _quick(bench, tiny_model)
    _finishes_with_each_result_once(bench)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("wait_s", [0.0, 0.5, 2.0])
def test_a_run_that_ends_while_a_nursery_imports_leaves_no_nursery(
    bench: Bench, tiny_model: Path, number: signal.Signals, wait_s: float
) -> None:
    _slow(bench, tiny_model)
    run = bench.start()
    _await(run, lambda: _nursery(psutil.Process(run.pid)) is not None)
    nursery = _nursery(psutil.Process(run.pid))
    assert nursery is not None
    time.sleep(wait_s)
    run.send_signal(number)
    run.communicate(timeout=PATIENCE_S)

    assert psutil.wait_procs([nursery], timeout=2)[1] == []
    _await(None, lambda: not _left(bench.folder))


@pytest.mark.slow
def test_a_model_too_large_for_memory_is_dead_and_the_rest_of_the_study_goes_on(bench: Bench, tiny_model: Path) -> None:
    study = STUDY.format(model=tiny_model, seconds=1).replace(
        "strategies:", "  huge: {random: bert, config: {vocab_size: 3000000}}\nstrategies:"
    )
    (bench.folder / "study.yaml").write_text(study)
    small = Bench(folder=bench.folder, environ={**bench.environ, "QUANTFLEET_MEMORY_GIB": "2"})

    code, _, err = small.finish()

    ends = {(job.model, job.state) for job in bench.jobs()}
    assert code == 1, err
    assert ends == {("tiny", "done"), ("huge", "dead")}
    assert all("memory" in (job.message or "") for job in bench.jobs() if job.model == "huge")


def _finishes_with_each_result_once(bench: Bench) -> None:
    code, _, err = bench.finish()
    assert code == 0, err
    with bench.database() as database:
        jobs, results = queries.jobs(database), queries.results(database)
    assert {job.state for job in jobs} == {"done"}
    assert len(results) == len({job.key for job in jobs}) == len(jobs) == 2


def _slow(bench: Bench, model: Path) -> None:
    """Measure long enough for a signal to hit the middle of it (the budget is no part of a job's identity)."""
    text = STUDY.format(model=model, seconds=5).replace("precision: 50%", "precision: 0.01%")
    (bench.folder / "study.yaml").write_text(text)


def _quick(bench: Bench, model: Path) -> None:
    (bench.folder / "study.yaml").write_text(STUDY.format(model=model, seconds=1))


def _measuring(bench: Bench) -> bool:
    return any(job.state == "running" and (job.progress or {}).get("phase") == "measuring" for job in _states(bench))


def _states(bench: Bench) -> list[queries.JobView]:
    try:
        return bench.jobs()
    except Exception:  # not there yet
        return []


def _await(process: subprocess.Popen[Any] | None, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        if process is not None and process.poll() is not None:
            pytest.fail(f"the run ended before it happened: {process.communicate()}")
        time.sleep(0.05)


def _supervisor(run: psutil.Process) -> psutil.Process | None:
    return _child_of(_child_of(run, "worker.app"), "worker.app")


def _nursery(run: psutil.Process) -> psutil.Process | None:
    """The one that was begun ahead: the worker's main process is its parent."""
    return _child_of(_child_of(run, "worker.app"), "worker.child")


def _child_of(parent: psutil.Process | None, word: str) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in parent.children() if parent is not None else ():
            if any(word in part for part in child.cmdline()):
                return child
    return None


def _left(folder: Path) -> list[int]:
    """Processes of a run in `folder` that still live: their environment names its lock."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() == "zombie" or process.pid == os.getpid():
                continue
            holds = any(file.path.startswith(str(folder)) for file in process.open_files())
            if holds or process.environ().get("QUANTFLEET_LOCK") == str(folder / "lock"):
                found.append(process.pid)
    return found


def _quantfleet() -> str:
    return str(Path(sys.executable).with_name("quantfleet"))


TRAINED = """\
name: trained
models:
  tiny: {{path: "{model}"}}
strategies: ["distil:layers=1,epochs=1,batch=4+torch/fp32"]
threads: [1]
inputs: [{{batch: 1, length: 8}}]
dataset: {{path: rows.csv}}
datasets: {{train: {{path: rows.csv}}}}
prepare: {prepare}
precision: 50%
max_seconds: 0.3
"""


@pytest.mark.slow
@pytest.mark.parametrize(("prepare", "prepared"), [("host", 1), pytest.param("once", 2, marks=pytest.mark.faults)])
def test_a_training_runs_first_and_once_and_what_is_measured_is_its_student(
    bench: Bench, tiny_model: Path, prepare: str, prepared: int
) -> None:
    lines = [f"hello my friend,{label}" for label in ("greet", "leave", "pay", "oos")] * 6
    (bench.folder / "rows.csv").write_text("\n".join(["text,label", *lines]))
    (bench.folder / "study.yaml").write_text(TRAINED.format(model=tiny_model, prepare=prepare))

    code, _, err = bench.finish()

    assert code == 0, err
    with bench.database() as database:
        views = queries.results(database)
    ended = {view.kind: view.finished_at or 0.0 for view in views if view.strategy.startswith("distil")}
    assert ended["prepare"] <= min(ended["latency"], ended["accuracy"])
    assert sum(view.kind == "prepare" for view in views) == prepared
    students = {view.made_digest for view in views if view.strategy.startswith("distil")}
    assert len(students) == 1 and None not in students
    (training,) = (view for view in views if view.kind == "prepare" and view.made_digest)
    (step,) = training.document["strategy"]["artifact"]["facts"]["transforms"]
    assert step["facts"]["steps"] == 6, "23 of 24 rows in batches of 4; one is held out"

    again, _, _ = bench.finish()
    assert again == 0
    with bench.database() as database:
        assert len(queries.results(database)) == len(views), "nothing is trained or measured twice"
