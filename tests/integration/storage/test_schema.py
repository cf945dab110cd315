from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage import database, hosts, lifecycle, queries, records, tables
from storage.database import Database
from storage.migrations import runner
from tests import builders


@pytest.fixture
def filled(db: Database) -> Database:
    """One done latency job, one done accuracy job, one that is unsupported, one still queued."""
    platform = builders.platform(onnxruntime="1.32.0")
    hosts.register(db, name="host", platform=platform, labels={"region": "eu"})
    cases = [builders.case(), builders.case("accuracy"), builders.case(threads=2), builders.case(threads=3)]
    jobs = [builders.planned(case, platform.key) for case in cases]
    study = lifecycle.StudyText(name="study", text="text")
    done, right, odd, _ = lifecycle.submit(db, study=study, jobs=jobs).new

    def claim(job_id: str) -> records.Claim:
        got = lifecycle.claim(db, job_id, host="host", platform_key=platform.key, lease=60)
        assert got is not None
        return got

    lifecycle.finish(db, claim(done), builders.latency(), [])
    lifecycle.finish(db, claim(right), builders.accuracy(), [])
    lifecycle.fail(db, claim(odd), records.Failure(reason="unsupported", message="needs avx2"))
    return db


def rows(db: Database, query: str) -> list[dict[str, object]]:
    with db.read() as connection:
        return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


def test_the_migrations_make_what_the_tables_say(db: Database) -> None:
    with db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_the_program_needs_the_newest_revision() -> None:
    assert runner.revisions()[0] == tables.REVISION


def test_upgrading_twice_changes_nothing(address: str) -> None:
    assert database.upgrade(address) == database.check(address)
    assert database.check(address).fits


def test_views_have_the_same_columns_and_rows_on_both_databases(filled: Database) -> None:
    ended = rows(filled, "SELECT * FROM v_result ORDER BY kind, state")
    assert [(row["kind"], row["state"]) for row in ended] == [
        ("accuracy", "done"),
        ("latency", "done"),
        ("latency", "unsupported"),
    ]
    assert set(tables.METRIC_COLUMNS) <= set(ended[0])
    assert (ended[1]["gain"], ended[1]["studies"], ended[1]["onnxruntime"]) == (2.5, "study", "1.32.0")
    assert (ended[2]["message"], ended[2]["gain"], ended[2]["cpu"]) == ("needs avx2", None, "AMD EPYC 9B14")
    (gain,) = rows(filled, "SELECT * FROM v_gain")
    assert (gain["gain"], gain["gain_low"], gain["disturbed"], gain["artifact_ratio"]) == (2.5, 2.4, 1, 1.0)
    assert len(str(gain["finished_utc"])) == len("2026-01-01 00:00:00")
    (host,) = rows(filled, "SELECT * FROM v_host")
    assert (host["host"], host["running"], host["results"], host["isa"]) == (
        "host",
        0,
        2,
        "avx2 avx512_bf16 avx512_vnni",
    )


def test_views_have_the_same_columns_on_both(sqlite: str, postgres: str) -> None:
    def columns(address: str) -> dict[str, list[str]]:
        with Database.open(address) as db, db.read() as connection:
            names = ("v_result", "v_gain", "v_host")
            return {name: list(connection.execute(sa.text(f"SELECT * FROM {name}")).keys()) for name in names}  # noqa: S608

    assert columns(sqlite) == columns(postgres)


def test_results_are_filtered_by_what_is_asked(filled: Database) -> None:
    everything = queries.results(filled)
    assert len(everything) == 3
    key = str(everything[0].hardware_key)
    for expected, filters in (
        (1, {"kind": "accuracy"}),
        (2, {"kind": ["latency"]}),
        (1, {"threads": 2}),
        (2, {"threads": (1, 2)}),
        (1, {"states": ("unsupported",)}),
        (0, {"states": "queued"}),
        (3, {"hardware": key, "model": "minilm", "strategy": "torch/int8-dynamic", "study": "study"}),
        (0, {"model": "other"}),
        (0, {"study": "other"}),
    ):
        assert len(queries.results(filled, **filters)) == expected, filters


def test_hosts_jobs_and_times_are_told(filled: Database) -> None:
    (host,) = queries.hosts(filled)
    platform = builders.platform(onnxruntime="1.32.0")
    assert (host.name, host.platform, host.labels) == ("host", platform, {"region": "eu"})
    hosts.register(filled, name="host", platform=builders.platform(cpu="Xeon"))
    assert queries.hosts(filled)[0].platform.hardware.cpu == "Xeon"  # the machine got another CPU
    jobs = queries.jobs(filled)
    assert [job.state for job in jobs] == ["done", "done", "unsupported", "queued"]
    keys = [job.key for job in jobs]
    assert queries.existing(filled, [*keys, "none"]) == dict(zip(keys, [job.state for job in jobs], strict=True))
    typical = queries.typical_seconds(filled, platform.key)
    assert set(typical) == {(kind, "minilm", "torch/int8-dynamic") for kind in ("latency", "accuracy")}
    assert queries.typical_seconds(filled, "elsewhere") == {}
