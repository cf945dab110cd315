"""Raw samples pruned: every command says the same before and after, and the room comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage import archiving, database, hosts, importing, lifecycle, pruning, queries, records
from storage.archive import Archive
from storage.database import Database
from tests import builders, commands, fleets
from tests.commands import Ended

Run = Callable[..., Ended]

MACHINES = (fleets.EPYC, fleets.XEON)
GAINS = {"torch/fp32": 1.0, "torch/bf16": 1.5, "torch/int8-dynamic": 2.5, "onnxruntime/int8-dynamic": 3.5}

SAYING = (
    ("compare", "--json"),
    ("compare",),
    ("compare", "--details"),
    ("compare", "--study", "pr-7", "--against", "main", "--json"),
    ("results", "--json"),
    ("best",),
    ("best", "--json"),
    ("pareto", "--json"),
    ("transfer", "--json"),
    ("waterfall", "--json"),
)
"""Commands that conclude something from results."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measured: str) -> Run:
    """`quantfleet …` over the measured database."""
    return lambda *argv: commands.run(monkeypatch, capsys, *argv, QUANTFLEET_DATABASE=measured, COLUMNS="100")


@pytest.fixture
def measured(address: str) -> str:
    """Two studies of four strategies on two machines, with legs whose times are as the gains say; either database."""
    with Database.open(address) as db:
        for number, study in enumerate(("main", "pr-7")):
            for machine in MACHINES:
                hosts.register(db, name=f"host-{machine.key[:4]}", platform=machine)
                for strategy, gain in GAINS.items():
                    measure(db, study, machine, strategy, gain * (1 - 0.1 * number), number)
    return address


def measure(db: Database, study: str, machine: records.Platform, strategy: str, gain: float, replica: int) -> None:
    job = builders.planned(builders.case(strategy=strategy), machine.key, replica)
    text = lifecycle.StudyText(name=study, text=f"name: {study}")
    (job_id,) = lifecycle.submit(db, study=text, jobs=[job]).new
    held = lifecycle.claim(db, job_id, host=f"host-{machine.key[:4]}", platform_key=machine.key, lease=60)
    assert held is not None
    found = builders.latency(
        gain=records.Interval(value=gain, low=gain * 0.98, high=gain * 1.02), flags=(),
        strategy=builders.side(strategy, 0.01 / gain),
    )  # fmt: skip
    lifecycle.finish(db, held, found, legs(gain, replica))


def legs(gain: float, seed: int) -> list[records.Leg]:
    noise = np.random.default_rng(seed)
    return [
        builders.leg(
            pair=pair, position=place, side=side, items=1, disturbed=("load",) if (pair, place) == (0, 0) else (),
            samples_ns=[round(ns * float(np.exp(noise.normal(0, 0.01)))) for _ in range(200)],
        )
        for pair in range(5)
        for place, (side, ns) in enumerate((("baseline", 1e7), ("strategy", 1e7 / gain)))
    ]  # fmt: skip


def test_every_command_says_the_same_after_pruning(run: Run, tmp_path: Path) -> None:
    def said() -> list[tuple[int, str]]:
        return [(ended.code, ended.out) for ended in (run(*words) for words in SAYING)]

    def page() -> str:
        file = tmp_path / "page.html"
        assert run("report", "pr-7", "-o", str(file)).code == 0
        text = file.read_text()
        return text[text.index('<section aria-labelledby="') : text.index('aria-labelledby="how"')]

    before, shown = said(), page()
    assert all(code == 0 for code, _ in before)
    told = run("prune", "--all", "--yes", "--json").document
    assert (told["jobs"], told["legs"], told["samples"]) == (16, 160, 32_000)
    assert said() == before
    assert page() == shown


def test_the_samples_are_gone_and_their_room_comes_back(run: Run, measured: str) -> None:
    full = ("--full",) if measured.startswith("postgresql") else ()
    ended = run("prune", "--study", "main", "--yes", "--json", *full)
    assert ended.code == 0
    assert ended.document["bytes_after"] < ended.document["bytes_before"]
    with Database.open(measured, readonly=True) as db:
        left = {job.studies[0]: bool(queries.legs(db, job.id)) for job in queries.jobs(db)}
    assert left == {"main": False, "pr-7": True}
    again = run("prune", "--study", "main", "--yes", "--json")
    assert (again.code, again.document["jobs"]) == (0, 0)


@pytest.mark.parametrize(
    ("conditions", "jobs"),
    [(("--keep", "1"), 8), (("--keep", "2"), 0), (("--older-than", "1"), 0), (("--older-than", "0"), 16)],
)
def test_what_would_go_is_told_and_stays(run: Run, conditions: tuple[str, ...], jobs: int) -> None:
    ended = run("prune", *conditions, "--dry-run", "--json")
    assert (ended.code, ended.document["jobs"], ended.document["dry_run"]) == (0, jobs, True)
    assert run("prune", *conditions, "--dry-run", "--json").document == ended.document


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say which samples: --study, --older-than or --keep, or --all"),
        (("--all", "--keep", "1"), "say which samples"),
        (("--all",), "would delete the raw samples of 16 results, about"),
        (("--study", "mian", "--yes"), "did you mean 'main'?"),
    ],
)
def test_nothing_goes_unasked(run: Run, measured: str, words: tuple[str, ...], said: str) -> None:
    ended = run("prune", *words)
    assert (ended.code, said in ended.said) == (2, True), ended.said
    with Database.open(measured, readonly=True) as db:
        assert len(pruning.choose(db).kinds) == 16


def test_a_file_of_the_samples_is_the_same_results_as_those_without(run: Run, measured: str, tmp_path: Path) -> None:
    with Database.open(measured) as db:
        ids = [one.id for one in queries.study_names(db)]
        archiving.export(db, ids, tmp_path / "whole.qfz")
        run("prune", "--all", "--yes", "--no-vacuum")
        archiving.export(db, ids, tmp_path / "bare.qfz")
        with Archive(tmp_path / "whole.qfz") as source:
            done = importing.import_(db, source)
        assert (done.same, done.new, done.refused) == (16, 0, ())
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    database.upgrade(fresh)
    with Database.open(fresh) as db, Archive(tmp_path / "bare.qfz") as source:
        assert importing.import_(db, source).new == 16
        ids = [job.id for job in queries.jobs(db)]
        assert len(queries.pruned(db, ids)) == 16
        excerpt = queries.results(db, documents=False)[0].document
        assert len(json.dumps(excerpt)) < len(json.dumps(queries.results(db)[0].document))
