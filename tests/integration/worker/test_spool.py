"""Outcomes that wait on the disk: none lost, none counted twice, and the database not waited for in vain."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import errors, hosts, lifecycle, queries, records, settings
from storage.database import Database
from tests import builders
from worker import delivery, locks, patience, spool

CRASH = records.Failure(reason="crash", message="killed", detail="…\ud800", signal=9, resident_peak_bytes=5_000_000_000)
LEGS = tuple(builders.leg(pair, position=position) for pair in range(2) for position in range(4))


def latency(claim: records.Claim) -> spool.Outcome:
    return spool.Outcome(claim=claim, result=builders.latency(variance_within=float("nan")), legs=LEGS)


def failed(claim: records.Claim) -> spool.Outcome:
    return spool.Outcome(claim=claim, result=CRASH)


@pytest.fixture(autouse=True)
def known_host(db: Database) -> None:
    hosts.register(db, name="one", platform=builders.platform())


@pytest.fixture
def config(tmp_path: Path) -> settings.Settings:
    return settings.load(cache=tmp_path / "cache", host="one")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def claimed(db: Database, kind: records.Kind = "latency") -> records.Claim:
    planned = builders.planned(builders.case(kind))
    text = lifecycle.StudyText(name=kind, text="…")
    (job_id,) = lifecycle.submit(db, study=text, jobs=[planned]).new
    return claim_again(db, job_id)


def claim_again(db: Database, job_id: str) -> records.Claim:
    claim = lifecycle.claim(db, job_id, host="one", platform_key=builders.platform().key, lease=60)
    assert claim is not None
    return claim


def attempt(db: Database, claim: records.Claim) -> queries.AttemptView:
    return queries.attempts(db, claim.job_id)[-1]


def test_a_measurement_from_the_spool_is_the_measurement_with_its_samples(db: Database, folder: Path) -> None:
    first, claim = claimed(db, "accuracy"), claimed(db)
    measured = spool.Outcome(claim=first, result=builders.accuracy())
    for outcome in (measured, latency(claim)):
        spool.write(folder, outcome)

    assert spool.replay(db, folder) == 2

    accuracy, view = queries.results(db)
    assert (accuracy.state, accuracy.correct, view.state, view.gain) == ("done", 2, "done", 2.5)
    assert sorted(queries.legs(db, claim.job_id), key=lambda leg: (leg.pair, leg.position)) == list(LEGS)
    assert not (folder).exists()
    assert spool.replay(db, folder) == 0


def test_a_failure_from_the_spool_is_the_failure(db: Database, folder: Path) -> None:
    claim = claimed(db)
    spool.write(folder, failed(claim))
    assert spool.replay(db, folder) == 1
    seen = attempt(db, claim)
    assert (seen.state, seen.signal, seen.resident_peak_bytes) == ("crash", 9, 5_000_000_000)
    assert [job.crashes for job in queries.jobs(db)] == [1]


def test_what_this_host_cannot_do_is_declined_from_the_spool_too(db: Database, folder: Path) -> None:
    claim = claimed(db)
    spool.write(folder, spool.Outcome(claim=claim, result=records.Failure(reason="declined", message="no avx")))
    assert spool.replay(db, folder) == 1
    assert [(job.state, job.message) for job in queries.jobs(db)] == [("unsupported", "no avx")]


def test_a_spooled_result_whose_job_another_has_is_superseded_and_gone(db: Database, folder: Path) -> None:
    late = claimed(db)
    lifecycle.release(db, late)
    newer = claim_again(db, late.job_id)
    spool.write(folder, latency(late))
    assert spool.replay(db, folder) == 1
    assert lifecycle.finish(db, newer, builders.latency())
    assert [one.state for one in queries.attempts(db, late.job_id)] == ["superseded", "done"]
    assert len(queries.results(db)) == 1


def test_a_result_delivered_twice_counts_once(db: Database, folder: Path) -> None:
    claim = claimed(db)
    assert spool.store(db, latency(claim)) == "done"
    spool.write(folder, latency(claim))
    assert spool.replay(db, folder) == 1
    assert attempt(db, claim).state == "done"
    assert len(queries.results(db)) == 1


def test_the_spool_waits_for_a_database_that_is_away(
    db: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed(db)
    file = spool.write(folder, latency(claim))
    with monkeypatch.context() as away:
        away.setattr(lifecycle, "finish", _raising(errors.Unreachable("away")))
        with pytest.raises(errors.Unreachable):
            spool.replay(db, folder)
    assert file.exists()
    assert spool.replay(db, folder) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 99}', '{"schema": 1, "claim": {}}', "\x00"])
def test_a_file_that_is_no_outcome_is_put_aside_and_holds_nothing_up(db: Database, folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "0-1.json").write_text(content)
    spool.write(folder, latency(claimed(db)))
    assert spool.replay(db, folder) == 1
    assert [file.name for file in folder.iterdir()] == ["0-1.json.bad"]


def test_a_file_that_another_process_delivers_is_left_to_it(db: Database, folder: Path) -> None:
    file = spool.write(folder, latency(claimed(db)))
    with file.open() as other:
        assert locks.try_lock(other.fileno())
        assert spool.deliver(db, file) is None
        assert queries.results(db) == []
    assert spool.deliver(db, file) == "done"


def test_a_half_written_file_is_never_seen(db: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _raising(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        spool.write(folder, latency(claimed(db)))
    assert list(folder.iterdir()) == []


def test_every_field_of_an_outcome_survives_the_disk(folder: Path, db: Database) -> None:
    claim = claimed(db)
    for outcome in (failed(claim), spool.Outcome(claim=claim, result=builders.latency(), legs=LEGS, final=True)):
        file = spool.write(folder, outcome)
        assert spool._outcome(json.loads(file.read_text())) == outcome


def test_an_outcome_is_stored_at_once_when_the_database_answers(db: Database, config: settings.Settings) -> None:
    assert delivery.deliver(db, config, latency(claimed(db)), _no) == "done"
    assert not config.spool.exists()


@pytest.mark.parametrize("trouble", [errors.Unreachable("away"), errors.DatabaseBusy("locked")])
def test_a_database_that_comes_back_gets_the_outcome_and_the_spool_is_empty(
    db: Database, config: settings.Settings, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    claim = claimed(db)
    kept = _away(monkeypatch, config, trouble, times=2)
    assert delivery.deliver(db, config, latency(claim), _no) == "done"
    assert kept == [False, True], "on the disk from the first failure on"
    assert not spool.folder(config).exists()


def test_an_outcome_stays_on_the_disk_when_the_database_stays_away(
    db: Database, config: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(delivery, "PATIENCE_S", 1.0)
        _away(away, config, errors.Unreachable("away"), times=1000)
        assert delivery.deliver(db, config, latency(claimed(db)), _no) == "spooled"
    assert spool.replay(db, spool.folder(config)) == 1
    assert queries.results(db)[0].state == "done"


def test_a_worker_that_ends_does_not_wait_for_a_database_that_is_away(
    db: Database, config: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 1e6)
    _away(monkeypatch, config, errors.Unreachable("away"), times=1000)
    assert delivery.deliver(db, config, latency(claimed(db)), lambda: True) == "spooled"


def test_without_disk_and_database_the_outcome_waits_in_memory(
    db: Database, config: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.cache.mkdir()
    config.spool.write_text("a file where the folder should be: as good as a full disk")
    _away(monkeypatch, config, errors.Unreachable("away"), times=2)
    assert delivery.deliver(db, config, latency(claimed(db)), lambda: True) == "done"


def test_the_last_error_is_told_when_there_is_neither_database_nor_disk(
    db: Database, config: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.cache.mkdir()
    config.spool.touch()
    monkeypatch.setattr(delivery, "PATIENCE_S", 1.0)
    _away(monkeypatch, config, errors.Unreachable("away"), times=1000)
    with pytest.raises(errors.Unreachable, match="away"):
        delivery.deliver(db, config, latency(claimed(db)), _no)


def test_hosts_that_share_a_cache_deliver_their_own(db: Database, config: settings.Settings) -> None:
    other = config.model_copy(update={"host": "two"})
    spool.write(spool.folder(config), latency(claimed(db)))
    assert spool.replay(db, spool.folder(other)) == 0
    assert spool.replay(db, spool.folder(config)) == 1


def test_tries_come_at_once_then_slower_and_end_with_time_or_patience() -> None:
    asked: Iterator[bool] = iter([False, False, True])
    assert len(list(patience.tries(1e6, lambda: next(asked), longest_wait_s=0.1))) < 5
    assert len(list(patience.tries(0.1, _no))) == 1
    assert len(list(patience.tries(1.0, _no))) in (2, 3)


def _away(monkeypatch: pytest.MonkeyPatch, config: settings.Settings, trouble: Exception, times: int) -> list[bool]:
    """Let the first so many stores fail; whether the outcome was on the disk at each."""
    really, seen = lifecycle.finish, list[bool]()

    def finish(*given: Any) -> bool:
        if len(seen) < times:
            seen.append(any(spool.folder(config).glob("*.json")))
            raise trouble
        return really(*given)

    monkeypatch.setattr(lifecycle, "finish", finish)
    return seen


def _raising(exc: Exception) -> Any:
    def raises(*given: object, **named: object) -> None:
        raise exc

    return raises


def _no() -> bool:
    return False
