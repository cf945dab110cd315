from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from storage import database, errors, hosts, lifecycle, noop, queries, tables
from storage.database import Database
from tests import builders

NOBODY = 65534
STUDY = lifecycle.StudyText(name="study", text="text")


def submit(db: Database, count: int = 1) -> list[str]:
    jobs = [builders.planned(builders.case(threads=threads)) for threads in range(1, count + 1)]
    return list(lifecycle.submit(db, study=STUDY, jobs=jobs).new)


def stamp(address: str, *statements: str) -> None:
    """Change a database behind quantfleet's back."""
    engine = sa.create_engine(database.parse(address))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own belong to one."""
    folder = Path(tempfile.mkdtemp(prefix="qf-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_ordinary_user(act: Callable[[], object]) -> str:
    """Run `act` in a process that may not write what root made; the name and text of what it raised."""
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            theirs.send(f"gave {act()}")
        except BaseException as exc:
            theirs.send(f"{type(exc).__name__}: {exc}")
        os._exit(0)
    os.waitpid(pid, 0)
    assert ours.poll(0)
    return str(ours.recv())


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted), db.transaction() as connection:
        connection.execute(sa.insert(tables.study).values(id="x", name="x", digest="x", text="", submitted_at=0))
        raise Interrupted
    assert queries.studies(db) == []


def test_a_writer_killed_in_mid_transaction_leaves_nothing_and_blocks_nobody(address: str, db: Database) -> None:
    program = """
import os, signal, sys
import sqlalchemy as sa
from storage import tables
from storage.database import Database
with Database.open(sys.argv[1]).transaction() as connection:
    connection.execute(sa.insert(tables.study).values(id="x", name="x", digest="x", text="", submitted_at=0))
    print(connection.execute(sa.select(sa.func.count()).select_from(tables.study)).scalar(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n"), done.stderr
    assert queries.studies(db) == []
    assert len(submit(db)) == 1


def test_a_reader_sees_one_moment_and_does_not_wait_for_a_writer(db: Database) -> None:
    count = sa.select(sa.func.count()).select_from(tables.job)
    with db.read() as reader:
        assert reader.execute(count).scalar() == 0
        submit(db)
        assert reader.execute(count).scalar() == 0
    assert len(queries.jobs(db)) == 1


def test_a_reader_cannot_write_on_postgres(postgres: str) -> None:
    with Database.open(postgres) as db, pytest.raises(errors.DatabaseReadOnly), db.read() as connection:
        connection.execute(sa.delete(tables.study))


def test_a_postgres_whose_transactions_only_read_by_default_takes_studies_and_gives_jobs(postgres: str) -> None:
    stamp(postgres, f"ALTER DATABASE {sa.make_url(postgres).database} SET default_transaction_read_only = on")
    here = builders.platform()
    with Database.open(postgres) as db:
        hosts.register(db, name="a", platform=here)
        (job_id,) = lifecycle.submit(db, study=STUDY, jobs=[noop.job(here.key, 0)]).new
        mine = lifecycle.claim(db, job_id, host="a", platform_key=here.key, lease=60.0)
        assert mine is not None
        assert lifecycle.finish(db, mine, noop.NoopMeasurement())


def test_the_databases_clock_is_this_moment(db: Database) -> None:
    with db.read() as connection:
        assert connection.execute(sa.select(tables.now())).scalar_one() == pytest.approx(time.time(), abs=5)


def test_a_row_cannot_belong_to_what_does_not_exist(db: Database) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError), db.transaction() as connection:
        connection.execute(sa.insert(tables.study_job).values(study_id="none", job_id="none"))


def test_sqlite_survives_a_power_cut_after_a_commit(sqlite: str) -> None:
    with Database.open(sqlite) as db, db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


# what bad input gets


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    for act in (Database.open, database.check):
        with pytest.raises(
            errors.DatabaseError, match=r"no database at .*gone\.db; `quantfleet .*db upgrade` makes it"
        ):
            act(f"sqlite:///{tmp_path}/gone.db")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.DatabaseError, match="there is no folder"):
        Database.create_or_open(f"sqlite:///{tmp_path}/none/new.db")


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: study\n" * 100)
    for act in (Database.open, Database.create_or_open, database.upgrade, database.check):
        with pytest.raises(errors.DatabaseError, match="is not a SQLite database"):
            act(f"sqlite:///{file}")
    assert file.read_text() == "name: study\n" * 100


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path, empty_postgres: str) -> None:
    for address in (f"sqlite:///{tmp_path}/other.db", empty_postgres):
        stamp(address, "CREATE TABLE customer (id INTEGER)")
        for act in (Database.open, Database.create_or_open, database.upgrade):
            with pytest.raises(errors.SchemaMismatch, match=r"belongs to another program .*customer"):
                act(address)
        assert database.check(address).current is None


def test_a_newer_schema_is_refused_by_every_way_in(address: str) -> None:
    stamp(address, "UPDATE alembic_version SET version_num = '9999'")
    for act in (Database.open, Database.create_or_open, database.upgrade):
        with pytest.raises(errors.SchemaMismatch, match="schema 9999, which this program does not know"):
            act(address)
    assert database.check(address) == database.SchemaState(current="9999", head=tables.REVISION)


def test_an_older_schema_is_refused_with_the_command_that_mends_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "REVISION", "0099")  # a program of tomorrow meets today's database
    for act in (Database.open, Database.create_or_open):
        with pytest.raises(errors.SchemaMismatch, match=r"schema \d{4} .*needs 0099; run `quantfleet db upgrade`"):
            act(address)
    assert not database.check(address).fits


def test_an_empty_postgres_database_wants_the_upgrade_command(empty_postgres: str) -> None:
    with pytest.raises(errors.SchemaMismatch, match=r"has no schema yet.*`quantfleet db upgrade`"):
        Database.create_or_open(empty_postgres)
    assert database.upgrade(empty_postgres).fits
    Database.open(empty_postgres.replace("postgresql://", "postgres://")).close()


def test_many_upgrades_at_once_make_one_schema(tmp_path: Path, empty_postgres: str) -> None:
    for address in (f"sqlite:///{tmp_path}/new.db", empty_postgres):
        start = threading.Barrier(4)

        def act(_: int, address: str = address, start: threading.Barrier = start) -> bool:
            start.wait()
            return database.upgrade(address).fits

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(act, range(4)))
        Database.open(address).close()


def test_a_locked_database_is_busy_after_the_timeout(address: str, db: Database) -> None:
    (job_id,) = submit(db)
    lock = sa.update(tables.job).where(tables.job.c.id == job_id).values(message="held")
    with Database.open(address, busy_timeout=0.1) as other, db.transaction() as connection:
        connection.execute(lock)
        with pytest.raises(errors.DatabaseBusy, match="locked by another process"):
            lifecycle.cancel(other, [job_id])
        assert len(queries.jobs(other)) == 1  # reading goes on
    assert queries.jobs(db)[0].message == "held"


def test_a_database_opened_for_reading_refuses_to_write(address: str, db: Database) -> None:
    submit(db)
    with Database.open(address, readonly=True) as reader:
        assert len(queries.jobs(reader)) == 1
        with pytest.raises(errors.DatabaseReadOnly, match="read-only"):
            submit(reader, 2)
    assert len(queries.jobs(db)) == 1


def test_a_file_without_the_right_to_write_can_be_read_and_says_so(open_folder: Path) -> None:
    address = f"sqlite:///{open_folder}/shared.db"
    with Database.create_or_open(address) as db:
        submit(db)
    open_folder.chmod(0o555)
    (open_folder / "shared.db").chmod(0o444)

    def write() -> object:
        with Database.open(address) as mine:
            return submit(mine, 2)

    def read() -> object:
        with Database.open(address, readonly=True) as mine:
            return len(queries.jobs(mine))

    assert as_ordinary_user(read) == "gave 1"
    said = as_ordinary_user(write)
    assert said.startswith("DatabaseReadOnly: ")
    assert "no right to write" in said


def test_a_full_disk_stores_nothing_half(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        (job_id,) = submit(db)
        mine = lifecycle.claim(db, job_id, host="h", platform_key=builders.platform().key, lease=60)
        assert mine is not None
        with db.read() as connection:  # the pool holds one connection: the limit stays with it
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        large = [builders.leg(round=n, samples_ns=[hash((n, i)) for i in range(2000)]) for n in range(20)]
        with pytest.raises(errors.DatabaseReadOnly, match="disk is full"):
            lifecycle.finish(db, mine, builders.latency(), large)
        assert queries.jobs(db)[0].state == "running"
        with db.read() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {1 << 30}")
        assert lifecycle.finish(db, mine, builders.latency(), large)  # room again: nothing was lost
        assert queries.legs(db, job_id) == large


def test_a_damaged_file_is_said_to_be_damaged(sqlite: str, tmp_path: Path) -> None:
    with Database.open(sqlite) as db:
        submit(db, 50)
    file = tmp_path / "quantfleet.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(errors.DatabaseError, match="is damaged"), Database.open(sqlite) as db:
        queries.jobs(db)


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:secret@127.0.0.1:1/db", "postgresql://me:secret@/db?host=/nowhere"],
)
def test_a_server_that_does_not_answer_is_unreachable_and_no_secret_is_told(address: str) -> None:
    with pytest.raises(errors.Unreachable, match="does not answer") as caught:
        Database.open(address)
    assert "secret" not in str(caught.value)


def test_what_the_server_refuses_is_said(postgres: str) -> None:
    for wrong, message in (
        (postgres.replace("/t_", "/gone_"), "does not exist on its server"),
        (postgres.replace("postgres@", "stranger@"), "does not know the user"),
    ):
        with pytest.raises(errors.DatabaseError, match=message):
            Database.open(wrong)


def test_a_connection_that_the_server_cut_is_unreachable_once_and_then_replaced(postgres: str) -> None:
    with Database.open(postgres) as db:
        cut = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with Database.open(postgres) as other, pytest.raises(errors.Unreachable), db.transaction() as connection:
            connection.execute(sa.select(tables.now()))
            with other.transaction() as killer:
                killer.execute(cut)
            connection.execute(sa.select(tables.now()))
        assert queries.jobs(db) == []


@pytest.mark.parametrize("idle", [True, False])
def test_a_connection_that_was_cut_between_two_transactions_is_replaced(
    postgres: str, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "FRESH_S", 0.0 if idle else 60.0)
    with Database.open(postgres) as db, Database.open(postgres) as other:
        with other.transaction() as killer:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            killer.exec_driver_sql(cut)
        with contextlib.nullcontext() if idle else pytest.raises(errors.Unreachable):
            queries.jobs(db)  # one that lay idle is asked first, one that was just used may say so once
        assert queries.jobs(db) == []


def test_what_the_drivers_cannot_mend_stays_a_bug(db: Database) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError), db.read() as connection:
        connection.execute(sa.text("SELECT nonsense FROM nowhere"))
