"""Studies moved between databases by a file: whole, nothing twice, nothing overwritten, nothing given to workers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage import (
    archive,
    archiving,
    ceilings,
    database,
    errors,
    hosts,
    importing,
    lifecycle,
    outbox,
    queries,
    records,
    tables,
)
from storage.archive import Archive
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet

Change = Callable[[dict[str, Any]], object]

ODD = {"reach": 1e16, "tiny": 1e-300, "whole": 2.0, "zero": -0.0, "text": "é\n\"'", "null": None, "list": [1, [2.5]]}
"""Numbers and texts that two kinds of JSON columns spell in their own ways."""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Database]:
    """SQLite with everything that a study can hold: results of each sort, failures, tries, waiting jobs, ceilings."""
    address = f"sqlite:///{tmp_path / 'laptop.db'}"
    database.upgrade(address)
    with Database.open(address) as db:
        fill(db)
        yield db


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database."""
    address = f"sqlite:///{tmp_path / 'other.db'}"
    database.upgrade(address)
    with Database.open(address) as db:
        yield db


@pytest.fixture
def team(postgres: str) -> Iterator[Database]:
    """An empty Postgres database."""
    with Database.open(postgres) as db:
        yield db


def fill(db: Database) -> None:
    fleet.register(db, "a1", "b1")
    hosts.register(db, name="a1", platform=fleet.PLATFORMS["A"], labels={"price": "0.5"})
    cases = [builders.case(threads=n) for n in (1, 2, 3, 4)] + [builders.case("accuracy")]
    jobs = [builders.planned(case, fleet.key("A")) for case in cases]
    jobs[1] = dataclasses.replace(jobs[1], after=(jobs[0].key,))
    document = {"schema": 3, "fields": ODD}
    study = lifecycle.StudyText(name="demo", text="name: demo", document=document)
    ids = lifecycle.submit(db, study=study, jobs=jobs).new
    measured = builders.latency(overhead={"start": 1.0, "load": 4.0}, notes=("a note, with\nlines",))
    lifecycle.finish(db, fleet.claim(db, ids[0]), measured, [builders.leg(position=n) for n in range(3)])
    lifecycle.fail(db, fleet.claim(db, ids[1]), records.Failure(reason="unsupported", message="needs avx2", detail="…"))
    lifecycle.release(db, fleet.claim(db, ids[4]))
    lifecycle.finish(db, fleet.claim(db, ids[4]), builders.accuracy(), [])
    with db.transaction() as connection:
        kept = {"legs": 2, "samples": 4, "document": {"sessions": [[0, -4.5, -3.5]], "spreads": []}}
        connection.execute(sa.insert(tables.pruned).values(job_id=ids[4], pruned_at=1000.5, **kept))
    fleet.claim(db, ids[2])  # runs for ever, the next one waits
    (other,) = lifecycle.submit(db, study=lifecycle.StudyText(name="other", text="b"), jobs=[fleet.planned("B")]).new
    lifecycle.finish(db, fleet.claim(db, other, "b1"), builders.latency(), [builders.leg()])
    for platform, host in (("A", "a1"), ("B", "b1")):
        case = ceilings.case()
        (job,) = lifecycle.add(db, [builders.planned(case, fleet.key(platform))])
        lifecycle.finish(db, fleet.claim(db, job, host), builders.measured_ceilings(), [])


def study_ids(db: Database, name: str = "demo") -> list[str]:
    return [view.id for view in queries.studies(db) if view.name == name]


def export(db: Database, folder: Path, name: str = "demo") -> Path:
    file = folder / f"{name}-{db.dialect}.qfz"
    archiving.export(db, study_ids(db, name), file)
    return file


def take(db: Database, file: Path, *, dry_run: bool = False) -> importing.Imported:
    with Archive(file) as source:
        return importing.import_(db, source, dry_run=dry_run)


def rows(db: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, sorted; without what tells of a database rather than of a study."""
    found = {}
    with db.read() as connection:
        for table in archive.TABLES:
            columns = list(archive.columns(table).values())
            read = connection.execute(sa.select(*columns)).mappings()
            found[table] = sorted((dict(row) for row in read), key=lambda row: json.dumps(row, default=str))
    return found


def rewrite(file: Path, table: str, change: Change, *, honest: bool = True) -> Path:
    """The file with its rows (or its manifest) changed; `honest`: with digests that fit."""
    made = file.with_name(f"changed-{table}.qfz")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(made, "w") as sink:
        parts = {name: source.read(name) for name in source.namelist()}
        manifest = json.loads(parts[archive.MANIFEST])
        if table == "manifest":
            change(manifest)
        else:
            changed = [json.loads(line) for line in parts[f"{table}.ndjson"].splitlines()]
            for row in changed:
                change(row)
            parts[f"{table}.ndjson"] = "".join(json.dumps(row) + "\n" for row in changed).encode()
        if honest and table != "manifest":
            text = parts[f"{table}.ndjson"]
            manifest["tables"][table] |= {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        parts[archive.MANIFEST] = json.dumps(manifest).encode()
        for name, content in parts.items():
            sink.writestr(name, content)
    return made


def test_a_study_goes_to_postgres_and_back_row_by_row(laptop: Database, team: Database, other: Database) -> None:
    folder = Path(laptop.address.removeprefix("sqlite:///")).parent
    there = take(team, export(laptop, folder))
    back = take(other, export(team, folder))
    assert (there.new, there.results, there.refused) == (back.new, back.results, back.refused) == (4, 3, ())
    assert rows(team) == rows(other)
    original = rows(laptop)
    mine = {row["id"] for row in rows(other)["job"]}
    for table, found in rows(other).items():
        wanted = original[table]
        if table == "job":
            wanted = [row for row in wanted if row["id"] in mine]
        elif table in archiving.BY_JOB:
            wanted = [row for row in wanted if row["job_id"] in mine]
        elif table == "study":
            wanted = [row for row in wanted if row["name"] == "demo"]
        elif table in ("host", "platform", "hardware"):
            assert len(wanted) == len(found) + 1  # machine B has no part in this study
            wanted = [row for row in wanted if row in found]
        assert found == wanted, table
        assert found, f"nothing in {table}: the test would prove nothing"


def test_the_same_content_is_the_same_file(laptop: Database, team: Database, tmp_path: Path) -> None:
    first = export(laptop, tmp_path).read_bytes()
    assert archiving.export(laptop, study_ids(laptop), tmp_path / "again.qfz").jobs == 4
    assert (tmp_path / "again.qfz").read_bytes() == first
    assert [file for file in tmp_path.iterdir() if file.name.endswith(".part")] == []


def test_jobs_that_have_not_ended_stay_behind_and_are_counted(laptop: Database, team: Database, tmp_path: Path) -> None:
    done = archiving.export(laptop, study_ids(laptop), tmp_path / "f.qfz")
    assert done.left_out == {"queued": 1, "running": 1}
    assert (done.studies, done.jobs, done.results, done.samples, done.hosts) == (("demo",), 4, 3, 3, ("a1",))
    take(team, tmp_path / "f.qfz")
    assert {job.state for job in queries.jobs(team)} == {"done", "unsupported"}
    queue = fleet.Queues()
    assert outbox.publish(team, queue) == 0
    assert outbox.reconcile(team, queue, older_than=0) == 0
    assert queue.contents == {}


def test_importing_again_changes_nothing(laptop: Database, team: Database, tmp_path: Path) -> None:
    file = export(laptop, tmp_path)
    take(team, file)
    before = rows(team)
    again = take(team, file)
    assert (again.new, again.same, again.refused, again.hosts) == (0, 4, (), ())
    assert rows(team) == before
    home = take(laptop, export(team, tmp_path))  # and neither does the way home
    assert (home.new, home.same, home.refused) == (0, 4, ())


def test_what_was_measured_since_comes_with_the_next_file(laptop: Database, team: Database, tmp_path: Path) -> None:
    take(team, export(laptop, tmp_path))
    queued = next(job.id for job in queries.jobs(laptop, states="queued"))
    lifecycle.finish(laptop, fleet.claim(laptop, queued), builders.latency(), [builders.leg()])
    (tmp_path / "demo-sqlite.qfz").unlink()
    done = take(team, export(laptop, tmp_path))
    assert (done.new, done.same, done.results) == (1, 4, 1)
    assert len(queries.results(team, study="demo")) == 4
    assert [leg.samples_ns for leg in queries.legs(team, queued)] == [(10, 20)]


def test_what_failed_and_was_tried_again_elsewhere_gets_its_result(
    laptop: Database, team: Database, tmp_path: Path
) -> None:
    take(team, export(laptop, tmp_path))
    (failed,) = (job.id for job in queries.jobs(laptop, states="unsupported"))
    assert lifecycle.retry(laptop, [failed]) == 1
    lifecycle.finish(laptop, fleet.claim(laptop, failed), builders.latency(), [builders.leg()])
    (tmp_path / "demo-sqlite.qfz").unlink()
    file = export(laptop, tmp_path)
    done = take(team, file)
    assert (done.new, done.results, done.went_on, done.same, done.refused) == (0, 1, 1, 3, ())
    assert fleet.tries(team, failed) == fleet.tries(laptop, failed) == ["unsupported", "done"]
    assert (fleet.view(team, failed).state, fleet.view(team, failed).message) == ("done", None)
    assert take(team, file).same == 4
    assert lifecycle.retry(team, [failed]) == 0


def test_a_dry_run_tells_and_changes_nothing(laptop: Database, team: Database, tmp_path: Path) -> None:
    file = export(laptop, tmp_path)
    assert take(team, file, dry_run=True).new == 4
    assert all(not found for found in rows(team).values())
    assert take(team, file) == dataclasses.replace(take(laptop, file), new=4, results=3, same=0, hosts=("a1",))


def test_another_result_of_the_same_job_is_refused_and_the_rest_comes(
    laptop: Database, team: Database, tmp_path: Path
) -> None:
    fleet.register(team, "a2")
    job = builders.planned(builders.case(threads=1), fleet.key("A"))  # the same case on a twin of the laptop
    (job_id,) = fleet.submit(team, job)
    lifecycle.finish(team, fleet.claim(team, job_id, "a2"), builders.latency(), [])
    done = take(team, export(laptop, tmp_path))
    (refused,) = done.refused
    assert (done.new, done.same) == (3, 0)
    assert refused.what == "minilm · torch/int8-dynamic · b1×l16 · threads 1"
    assert "has another result here, of a2" in refused.why
    assert [view.host for view in queries.results(team, threads=1)] == ["a2"]
    assert "demo" in next(job.studies for job in queries.jobs(team) if job.host == "a2")


def test_a_job_that_waits_here_goes_on_waiting(laptop: Database, team: Database, tmp_path: Path) -> None:
    fleet.register(team, "a2")
    waiting, failed = (builders.planned(builders.case(threads=n), fleet.key("A")) for n in (1, 2))
    first, second = fleet.submit(team, waiting, failed)
    lifecycle.cancel(team, [second])
    done = take(team, export(laptop, tmp_path))
    assert [refused.why for refused in done.refused] == [f"job {first[:8]} waits or runs here"]
    assert done.kept == 1  # unsupported there, cancelled here: neither is a result
    assert fleet.view(team, first).state == "queued"
    assert fleet.try_claim(team, first, "a2") is not None


def test_samples_that_differ_make_another_result(laptop: Database, team: Database, tmp_path: Path) -> None:
    file = export(laptop, tmp_path)
    take(team, file)
    changed = rewrite(file, "sample", lambda row: row.update(cpu_ns=row["cpu_ns"] + 1))
    assert len(take(team, changed).refused) == 1
    assert len(take(team, file).refused) == 0


def test_the_same_study_submitted_on_both_sides_is_one(laptop: Database, team: Database, tmp_path: Path) -> None:
    fleet.register(team, "b1")
    lifecycle.submit(team, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=[fleet.planned("B")])
    take(team, export(laptop, tmp_path))
    (view,) = queries.studies(team)
    assert view.jobs == 4  # one from here and three of the file; ceilings are of no study
    assert view.document is None  # what is here stays


def test_nothing_is_planned_for_a_machine_that_is_only_known_from_a_file(
    laptop: Database, team: Database, tmp_path: Path
) -> None:
    take(team, export(laptop, tmp_path))
    (host,) = queries.hosts(team)
    assert (host.name, host.standing, host.labels) == ("a1", "imported", {"price": "0.5"})
    assert queries.hosts(team, imported=False) == []
    assert not hosts.seen(team, "a1")
    fleet.register(team, "b1")
    anywhere = builders.planned(builders.case(threads=9), records.ANY_PLATFORM)
    (job,) = fleet.submit(team, anywhere)
    assert lifecycle.decline(team, fleet.claim(team, job, "b1"), "needs avx2") == "unsupported"  # nobody else serves
    fleet.register(team, "a1")  # a worker of that name joins: now it serves
    assert [one.standing for one in queries.hosts(team)] == ["here", "here"]


def test_a_machine_of_the_same_name_here_stays_what_it_is(laptop: Database, team: Database, tmp_path: Path) -> None:
    hosts.register(team, name="a1", platform=fleet.PLATFORMS["C"])
    done = take(team, export(laptop, tmp_path))
    assert (done.hosts, done.known_hosts) == ((), ("a1",))
    (host,) = queries.hosts(team)
    assert (host.standing, host.platform) == ("here", fleet.PLATFORMS["C"])
    assert {view.cpu for view in queries.results(team, states="done")} == {"CPU A"}


def test_ceilings_come_along(laptop: Database, team: Database, tmp_path: Path) -> None:
    take(team, export(laptop, tmp_path))
    found = queries.ceilings(team)
    assert list(found) == [fleet.PLATFORMS["A"].hardware_key]
    assert found[fleet.PLATFORMS["A"].hardware_key].measurement == builders.measured_ceilings()


def test_several_studies_fit_into_one_file(laptop: Database, other: Database, tmp_path: Path) -> None:
    done = archiving.export(laptop, [view.id for view in queries.studies(laptop)], tmp_path / "both.qfz")
    assert set(done.studies) == {"demo", "other"}
    take(other, tmp_path / "both.qfz")
    assert {view.name for view in queries.studies(other)} == {"demo", "other"}
    assert len(queries.ceilings(other)) == 2


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("job", lambda row: row.update(state="queued"), "a job is queued: only what has come to its end travels"),
        ("job", lambda row: row.update(state="running"), "a job is running"),
        ("job", lambda row: row.update(kind="shell"), "there is no kind 'shell'"),
        ("job", lambda row: row["case_document"].update(schema=99), "document of schema 99"),
        ("job", lambda row: row.update(case_document=[]), "holds what cannot be read"),
        ("job", lambda row: row.update(admin=1), "columns that the table has not"),
        ("job", lambda row: row.pop("kind"), "kind is missing"),
        ("job", lambda row: row.update(replica="0"), "replica is '0'"),
        ("job", lambda row: row.update(replica=True), "replica is True"),
        ("job", lambda row: row.update(replica=1 << 40), "beyond its range"),
        ("job", lambda row: row.update(message="a\0b"), "message holds what is no text"),
        ("job", lambda row: row.update(id="twin"), "a study has a job that is not in it"),
        ("job", lambda row: row.update(model_key="none"), "do not fit together"),
        ("result", lambda row: row.update(gain="2.5"), "gain is '2.5'"),
        ("result", lambda row: row.update(document={"pairs": 1}), "holds what cannot be read"),
        ("result", lambda row: row.update(job_id="elsewhere"), "of a job that is not in it"),
        ("sample", lambda row: row.update(job_id="elsewhere"), "of a job that is not in it"),
        ("sample", lambda row: row.update(samples="not base64!"), "a row of sample"),
        ("study_job", lambda row: row.update(job_id="elsewhere"), "a study has a job that is not in it"),
        ("hardware", lambda row: row.update(document={"cpu": 1}), "holds what cannot be read"),
    ],
)
def test_a_file_whose_rows_make_no_sense_is_refused_whole(
    laptop: Database, team: Database, tmp_path: Path, table: str, change: Change, said: str
) -> None:
    file = rewrite(export(laptop, tmp_path), table, change)
    with pytest.raises(errors.ArchiveError) as caught:
        take(team, file)
    assert said in str(caught.value)
    assert "nothing was imported. Export the study again" in str(caught.value)
    assert all(not found for found in rows(team).values())


def test_a_changed_table_is_noticed_before_anything_is_stored(
    laptop: Database, other: Database, tmp_path: Path
) -> None:
    file = rewrite(export(laptop, tmp_path), "result", lambda row: row.update(gain=99.0), honest=False)
    with pytest.raises(errors.ArchiveError, match="table result differs from its digest"):
        take(other, file)
    assert rows(other)["hardware"] == []


@pytest.mark.parametrize("change", [{"version": 2}, {"schema": "0099"}])
def test_a_newer_file_says_what_to_do(laptop: Database, tmp_path: Path, change: dict[str, Any]) -> None:
    file = rewrite(export(laptop, tmp_path), "manifest", lambda manifest: manifest.update(change))
    with pytest.raises(errors.ArchiveError, match=r"written by a newer quantfleet .*install that version here"):
        Archive(file)


def test_a_file_of_an_older_schema_takes_the_defaults(laptop: Database, other: Database, tmp_path: Path) -> None:
    file = export(laptop, tmp_path)
    older = rewrite(file, "sample", lambda row: [row.pop(name) for name in ("instance", "repeats", "joules")])
    take(other, older)
    (leg, *_) = queries.legs(other, rows(other)["sample"][0]["job_id"])
    assert (leg.instance, leg.repeats, leg.joules) == (0, 1, None)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: b"", "no file of `quantfleet export`"),
        (lambda content: b"gain,strategy\n", "no file of `quantfleet export`"),
        (lambda content: content[: len(content) // 2], "no file of `quantfleet export`, or its end is missing"),
        (lambda content: content.replace(b"PK\x03\x04", b"PK\x03\x05"), "is missing or cannot be unpacked"),
        (lambda content: content[:80] + b"x" * 40 + content[120:], "is damaged"),
    ],
)
def test_a_damaged_file_is_told(
    laptop: Database, other: Database, tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    file = export(laptop, tmp_path)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(errors.ArchiveError) as caught:
        take(other, file)
    assert said in str(caught.value)


def test_a_zip_of_something_else_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("readme.txt", "hello")
    for file, said in ((tmp_path / "a.zip", "none of `quantfleet export`"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(errors.ArchiveError, match=said):
            Archive(file)


def test_an_export_that_fails_leaves_no_file(laptop: Database, tmp_path: Path) -> None:
    def stop(rows: int) -> None:
        raise RuntimeError("the power failed")

    with pytest.raises(RuntimeError):
        archiving.export(laptop, study_ids(laptop), tmp_path / "f.qfz", stop)
    assert not [file.name for file in tmp_path.iterdir() if "qfz" in file.name]
    with pytest.raises(errors.SettingsError, match="cannot be written"):
        archiving.export(laptop, study_ids(laptop), tmp_path / "nowhere" / "f.qfz")


def test_every_table_of_a_study_travels(laptop: Database) -> None:
    left = {"leader"}  # who does the fleet's duties now
    assert set(tables.metadata.tables) - left == set(archive.TABLES)
