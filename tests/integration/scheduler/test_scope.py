"""A large database: commands are about its newest study, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler import scope
from scheduler.cli import paging
from storage import hosts, lifecycle, records
from storage.database import Database
from tests import builders, commands, fleets
from tests.commands import Ended

STUDIES = {"monday": 2.0, "tuesday": 3.0}


@pytest.fixture
def fleet(address: str) -> str:
    """Two studies of one case each, and one without any result that was submitted last; each kind of database."""
    with Database.open(address) as db:
        for platform in (fleets.EPYC, fleets.XEON):
            hosts.register(db, name=f"host-{platform.key[:4]}", platform=platform)
        for number, (study, gain) in enumerate(STUDIES.items()):
            for platform in (fleets.EPYC, fleets.XEON):
                measure(db, study, platform, gain, number)
        waiting = [builders.planned(platform_key=fleets.EPYC.key, replica=9)]
        lifecycle.submit(db, study=lifecycle.StudyText(name="planned", text="name: planned"), jobs=waiting)
    return address


def measure(db: Database, study: str, platform: records.Platform, gain: float, replica: int) -> None:
    text = lifecycle.StudyText(name=study, text=f"name: {study}")
    (job_id,) = lifecycle.submit(
        db, study=text, jobs=[builders.planned(platform_key=platform.key, replica=replica)]
    ).new
    held = lifecycle.claim(db, job_id, host=f"host-{platform.key[:4]}", platform_key=platform.key, lease=60)
    assert held is not None
    interval = records.Interval(value=gain, low=gain * 0.9, high=gain * 1.1)
    lifecycle.finish(db, held, builders.latency(gain=interval, flags=()), [])


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "LARGE", 3)


def jobs(ended: Ended) -> list[int]:
    return [len(row["job_ids"]) for row in ended.document["comparisons"]]


def test_everything_is_everything_while_it_is_little(
    fleet: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = commands.run(monkeypatch, capsys, "compare", "--json", QUANTFLEET_DATABASE=fleet)
    assert (jobs(ended), ended.err) == ([2, 2], "")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("words", [("compare",), ("transfer",), ("best",), ("results",), ("waterfall",)])
def test_of_much_the_newest_study_with_results_is_looked_at(
    fleet: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    ended = commands.run(monkeypatch, capsys, *words, "--json", QUANTFLEET_DATABASE=fleet)
    assert "more than 3 results of 3 studies: only the newest study, tuesday, is looked at" in ended.err
    assert "--study '*' all of them" in ended.err
    assert ("3.0" in ended.out) == (words != ("transfer",))  # which shows no gain itself
    assert "2.0," not in ended.out


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("study", "found"), [("monday", [1, 1]), ("*", [2, 2])])
def test_what_is_asked_for_is_looked_at_however_much_there_is(
    fleet: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], study: str, found: list[int]
) -> None:
    ended = commands.run(monkeypatch, capsys, "compare", "--json", "--study", study, QUANTFLEET_DATABASE=fleet)
    assert (jobs(ended), ended.err) == (found, "")


@pytest.mark.usefixtures("large")
def test_a_report_of_no_named_study_is_of_the_newest(
    fleet: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ended = commands.run(monkeypatch, capsys, "report", "-o", str(page), QUANTFLEET_DATABASE=fleet)
    assert (ended.code, "tuesday, is looked at" in ended.err) == (0, True)
    assert "Study tuesday" in page.read_text()


def test_a_table_shows_whole_cases_and_says_what_it_left_out(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database.open(address) as db:
        for platform in (fleets.EPYC, fleets.XEON):
            hosts.register(db, name=f"host-{platform.key[:4]}", platform=platform)
            for strategy in ("torch/bf16", "torch/int8-dynamic", "onnxruntime/fp32"):
                case = builders.case(strategy=strategy)
                job = builders.planned(case, platform.key)
                text = lifecycle.StudyText(name="demo", text="name: demo")
                (job_id,) = lifecycle.submit(db, study=text, jobs=[job]).new
                held = lifecycle.claim(db, job_id, host=f"host-{platform.key[:4]}", platform_key=platform.key, lease=60)
                assert held is not None
                lifecycle.finish(db, held, builders.latency(flags=()), [])
    monkeypatch.setattr(paging, "ROWS", 3)
    ended = commands.run(monkeypatch, capsys, "compare", QUANTFLEET_DATABASE=address)
    assert ("onnxruntime/fp32" in ended.out, "torch/bf16" in ended.out) == (True, True)
    assert "torch/int8-dynamic" not in ended.out
    assert "2 more comparisons: narrow with --model, --strategy" in ended.said
    assert "--json and --csv have all" in ended.said
