"""One job from claim to result, with real children and a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import database, errors, hosts, keys, lifecycle, noop, queries, records
from storage.database import Database
from tests import builders
from worker import spool, station, supervisor

BUDGET = records.Budget(precision=0.5, max_seconds=0.5, min_pairs=2)


@pytest.fixture
def db(tmp_path: Path, place: station.Station) -> Iterator[Database]:
    address = f"sqlite:///{tmp_path / 'q.db'}"
    database.upgrade(address)
    with Database.open(address) as opened:
        hosts.register(opened, name=place.settings.host, platform=place.platform)
        yield opened


def _submit(db: Database, place: station.Station, case: records.Case, platform_key: str | None = None) -> str:
    wanted = platform_key or place.platform.key
    key = keys.job_key(case, wanted, 0)
    job = records.PlannedJob(key=key, case=case, platform_key=wanted, replica=0, budget=BUDGET)
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="s", text="…"), jobs=[job]).new
    return job_id


def _latency(model: records.ModelRef, strategy: str, threads: int = 1) -> records.Case:
    return records.Case(
        kind="latency",
        model=model,
        strategy=strategy,
        baseline="torch/fp32",
        threads=threads,
        input=records.InputSpec(batch=1, length=8, calls=1),
    )


@pytest.mark.parametrize("strategy", ["torch/int8-dynamic", "onnxruntime/fp32"])
def test_a_latency_job_stores_a_gain_with_its_raw_samples(
    db: Database, place: station.Station, model: records.ModelRef, strategy: str
) -> None:
    job_id = _submit(db, place, _latency(model, strategy))

    assert supervisor.run_job(place, db, job_id) == "done"

    (view,) = queries.results(db)
    legs = queries.legs(db, job_id)
    assert view.state == "done"
    assert view.gain_low is not None and view.gain is not None and view.gain_high is not None
    assert view.gain_low < view.gain < view.gain_high
    assert view.pairs == 2
    assert {leg.side for leg in legs} == {"baseline", "strategy"}
    assert {leg.pair for leg in legs} == {0, 1}
    counted = sorted(ns for leg in legs if leg.side == "strategy" for ns in leg.samples_ns)
    assert view.latency_p50_s is not None
    assert counted[0] / 1e9 <= view.latency_p50_s <= counted[-1] / 1e9
    assert view.resident_peak_bytes is not None and view.resident_loaded_bytes is not None
    assert view.resident_peak_bytes >= view.resident_loaded_bytes > 0
    assert view.threads_set == 1


def test_an_accuracy_job_keeps_its_predictions_row_by_row(
    db: Database, place: station.Station, model: records.ModelRef, rows: records.DatasetRef
) -> None:
    case = records.Case(kind="accuracy", model=model, strategy="torch/fp32", baseline="torch/fp32", dataset=rows)
    job_id = _submit(db, place, case)

    assert supervisor.run_job(place, db, job_id) == "done"

    kept = queries.predictions(db, job_id)
    (view,) = queries.results(db)
    assert kept is not None and len(kept.predictions) == len(kept.labels) == view.rows == 40
    assert view.correct == sum(a == b for a, b in zip(kept.predictions, kept.labels, strict=True))
    assert kept.labels == tuple(i % 4 for i in range(40))


def test_a_second_delivery_of_a_finished_job_changes_nothing(
    db: Database, place: station.Station, model: records.ModelRef
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    supervisor.run_job(place, db, job_id)
    before = queries.results(db)

    assert supervisor.run_job(place, db, job_id) == "nothing to do"
    assert supervisor.run_job(place, db, "no-such-job") == "nothing to do"
    assert queries.results(db) == before


def test_more_threads_than_the_machine_has_are_refused_not_clipped(
    db: Database, place: station.Station, model: records.ModelRef
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic", threads=1000))

    assert supervisor.run_job(place, db, job_id) == "unsupported"

    (view,) = queries.results(db)
    assert "1000 threads" in (view.message or "")


def test_a_stopping_worker_gives_its_job_back_and_it_can_be_done_later(
    db: Database, place: station.Station, model: records.ModelRef
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8  # past the claim, in the middle of the work

    assert supervisor.run_job(place, db, job_id, stopping) == "given back"
    (job,) = queries.jobs(db)
    assert (job.state, job.crashes, job.errors) == ("queued", 0, 0)
    assert supervisor.run_job(place, db, job_id) == "done"


def test_a_job_cancelled_while_it_runs_stops_and_stores_no_result(
    db: Database, place: station.Station, model: records.ModelRef
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    asked = 0

    def cancel_soon() -> bool:
        nonlocal asked
        asked += 1
        if asked == 8:
            lifecycle.cancel(db, [job_id])
        return False

    assert supervisor.run_job(place, db, job_id, cancel_soon) == "cancelled"
    (view,) = queries.results(db)
    assert view.gain is None


def test_a_model_that_kills_its_process_is_dead_after_two_tries_with_the_reason(
    db: Database, place: station.Station
) -> None:
    huge = records.ModelRef(name="huge", source="random", location="bert", config={"vocab_size": 3_000_000})
    small = station.Station(place.settings.model_copy(update={"memory_gib": 2.0}), place.platform)
    job_id = _submit(db, place, _latency(huge, "torch/int8-dynamic"))
    try:
        assert supervisor.run_job(small, db, job_id) == "queued"
        assert supervisor.run_job(small, db, job_id) == "dead"
    finally:
        small.close()

    (view,) = queries.results(db)
    assert "memory" in (view.message or "")


def test_a_broken_checkpoint_fails_at_once_with_its_reason(
    db: Database, place: station.Station, model: records.ModelRef, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(model.location).iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[: len(data) // 2] if file.suffix == ".safetensors" else data)
    ref = records.ModelRef(name="broken", source="local", location=str(broken))
    job_id = _submit(db, place, _latency(ref, "torch/int8-dynamic"))

    assert supervisor.run_job(place, db, job_id) == "failed"

    (view,) = queries.results(db)
    assert "damaged weights" in (view.message or "")


def test_a_busy_database_delays_a_result_and_does_not_lose_it(
    db: Database, place: station.Station, model: records.ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    really_finish, refusals = lifecycle.finish, iter([errors.DatabaseBusy("locked"), errors.Unreachable("away")])

    def finish(*given: object, **named: object) -> bool:
        refusal = next(refusals, None)
        if refusal is not None:
            raise refusal
        return really_finish(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(lifecycle, "finish", finish)

    assert supervisor.run_job(place, db, job_id) == "done"
    assert queries.results(db)[0].gain is not None


def test_a_model_outside_of_the_allowed_folders_is_unsupported_with_what_to_do(
    db: Database, place: station.Station, model: records.ModelRef, tmp_path: Path
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))

    assert supervisor.run_job(_strict(place, tmp_path), db, job_id) == "unsupported"

    (view,) = queries.results(db)
    assert "QUANTFLEET_FOLDERS" in (view.message or "")


def test_what_this_host_cannot_do_is_left_to_another_platform_where_the_job_is_for_any(
    db: Database, place: station.Station, model: records.ModelRef, tmp_path: Path
) -> None:
    hosts.register(db, name="other", platform=builders.platform())
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"), records.ANY_PLATFORM)

    assert supervisor.run_job(_strict(place, tmp_path), db, job_id) == "queued"

    assert [one.state for one in queries.attempts(db, job_id)] == ["declined"]
    assert supervisor.run_job(place, db, job_id) == "nothing to do"


def test_a_pickled_model_of_the_hub_is_not_loaded_on_a_studys_word(
    db: Database, place: station.Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[records.Case] = []

    def measure(place: station.Station, case: records.Case, *_: object) -> None:
        seen.append(case)
        raise errors.ModelError("it has no weights (*.safetensors)")

    monkeypatch.setattr(supervisor, "MEASURES", {"latency": measure})
    ref = records.ModelRef(name="theirs", source="hub", location="a/b", allow_pickle=True)
    job_id = _submit(db, place, _latency(ref, "torch/int8-dynamic"))

    assert supervisor.run_job(place, db, job_id) == "unsupported"

    assert [case.model.allow_pickle for case in seen] == [False]
    assert "QUANTFLEET_PICKLE" in (queries.results(db)[0].message or "")


def test_a_wake_up_waits_for_a_database_that_is_away(
    db: Database, place: station.Station, model: records.ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    _answers_of_claim(monkeypatch, ["away", "away"])

    assert supervisor.run_job(_strict(place, tmp_path), db, job_id) == "unsupported"
    assert [one.state for one in queries.attempts(db, job_id)] == ["unsupported"]


def test_a_claim_whose_answer_got_lost_is_taken_back_uncounted_and_repeated(
    db: Database, place: station.Station, model: records.ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    _answers_of_claim(monkeypatch, ["lost"])

    assert supervisor.run_job(_strict(place, tmp_path), db, job_id) == "unsupported"
    assert [one.state for one in queries.attempts(db, job_id)] == ["released", "unsupported"]
    assert queries.jobs(db)[0].crashes == 0


def test_a_worker_that_ends_does_not_wait_for_a_database_to_claim_from(
    db: Database, place: station.Station, model: records.ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    _answers_of_claim(monkeypatch, ["away"] * 1000)

    assert "stops" in supervisor.run_job(place, db, job_id, ending=lambda: True)
    assert queries.jobs(db)[0].state == "queued"


def test_a_result_on_the_spool_is_stored_before_the_next_job_is_claimed(
    db: Database, place: station.Station, model: records.ModelRef, tmp_path: Path
) -> None:
    mine = _strict(place, tmp_path)
    job_id = _submit(db, place, _latency(model, "torch/int8-dynamic"))
    claim = lifecycle.claim(db, job_id, host=mine.settings.host, platform_key=place.platform.key, lease=60)
    assert claim is not None
    spool.write(spool.folder(mine.settings), spool.Outcome(claim=claim, result=builders.latency()))

    assert supervisor.run_job(mine, db, job_id) == "nothing to do"
    assert queries.jobs(db)[0].state == "done"


def _strict(place: station.Station, folder: Path) -> station.Station:
    """A place that refuses every model of the tests before anything is started, with a spool of its own."""
    given = {"folders": (folder / "allowed",), "cache": folder / "cache", "lock": folder / "lock"}
    return station.Station(place.settings.model_copy(update=given), place.platform)


def _answers_of_claim(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    """Let the database be away for the first claims, or their answers be lost."""
    really, left = lifecycle.claim, iter(answers)

    def claim(*given: Any, **named: Any) -> records.Claim | None:
        answer = next(left, None)
        claimed = None if answer == "away" else really(*given, **named)
        if answer is not None:
            raise errors.Unreachable(answer)
        return claimed

    monkeypatch.setattr(lifecycle, "claim", claim)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_job_that_computes_nothing_is_done_where_the_worker_was_told_so_only(
    db: Database, place: station.Station, allowed: bool
) -> None:
    mine = station.Station(place.settings.model_copy(update={"noop": allowed}), place.platform)
    (job_id,) = lifecycle.add(db, [noop.job(place.platform.key, 0)])

    said = supervisor.run_job(mine, db, job_id)

    (view,) = queries.results(db)
    assert said == view.state == ("done" if allowed else "unsupported")
    assert ("QUANTFLEET_NOOP=true allows it" in (view.message or "")) is not allowed
    assert [one.state for one in queries.attempts(db, job_id)] == [view.state]
