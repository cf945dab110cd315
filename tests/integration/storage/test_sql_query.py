"""Queries in SQL: they read on both databases alike, and change nothing whatever they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import errors, frames, hosts, lifecycle, queries, sql_query
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet


@pytest.fixture
def filled(address: str) -> Iterator[Database]:
    """A database with a gain and an accuracy, opened for reading."""
    with Database.open(address) as db:
        fleet.register(db, "a1")
        for case in (builders.case(), builders.case("accuracy")):
            job = builders.planned(case, fleet.key("A"))
            measured = builders.latency() if case.kind == "latency" else builders.accuracy()
            lifecycle.finish(db, fleet.claim(db, *fleet.submit(db, job)), measured, [builders.leg()])
    with Database.open(address, readonly=True) as db:
        yield db


def content(db: Database) -> dict[str, int]:
    """How many rows each table has."""
    with db.read() as connection:
        names = sa.inspect(connection).get_table_names()
        return {name: connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names}  # noqa: S608


def test_a_query_gives_columns_and_rows(filled: Database) -> None:
    query = "SELECT strategy, gain, disturbed, resident_peak_bytes FROM v_gain WHERE strategy LIKE '%int8%' -- done"
    answer = sql_query.ask(filled, query)
    assert answer.columns == ("strategy", "gain", "disturbed", "resident_peak_bytes")
    assert answer.rows == (("torch/int8-dynamic", 2.5, 1, 5_000_000_000),)
    assert not answer.more


def test_both_databases_give_the_same_kinds_of_values(filled: Database) -> None:
    query = """WITH few AS (SELECT 1 AS n UNION ALL SELECT 2)
        SELECT avg(n), sum(n), count(*), count(*), max(n) * 1.5, NULL FROM few"""
    answer = sql_query.ask(filled, query)
    assert answer.rows == ((1.5, 3, 2, 2, 3.0, None),)
    assert [type(value) for value in answer.rows[0]] == [float, int, int, int, float, type(None)]
    assert len(set(answer.columns)) == 6  # two columns named alike are told apart
    assert sql_query.ask(filled, "(VALUES (1), (2))" if filled.dialect != "sqlite" else "VALUES (1), (2)").rows == (
        (1,),
        (2,),
    )


def test_rows_beyond_the_limit_are_left_out_and_told(filled: Database) -> None:
    query = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT n FROM c ORDER BY n"
    assert sql_query.ask(filled, query, limit=3).rows == ((1,), (2,), (3,))
    assert sql_query.ask(filled, query, limit=3).more
    assert not sql_query.ask(filled, query, limit=5).more
    assert len(sql_query.ask(filled, query).rows) == 5
    nothing = sql_query.ask(filled, "SELECT job_id, gain FROM v_gain WHERE gain > 100", limit=3)
    assert (nothing.columns, nothing.rows) == (("job_id", "gain"), ())


WRITES = (
    "DELETE FROM sample",
    "UPDATE job SET state = 'queued'",
    "INSERT INTO leader VALUES ('x', 'x', 1, 1, 1)",
    "DROP VIEW v_gain",
    "/* select */ DROP TABLE sample",
    "-- select\nDELETE FROM sample",
    "BEGIN",
    "COMMIT",
    "EXPLAIN SELECT 1",
    "CREATE TEMP TABLE t (a INTEGER)",
    "PRAGMA user_version = 5",
    "ATTACH 'other.db' AS other",
    "VACUUM INTO 'copy.db'",
    "SET TRANSACTION READ WRITE",
    "COPY job TO STDOUT",
    "DO 'BEGIN DELETE FROM sample; END'",
)


@pytest.mark.parametrize("query", WRITES)
def test_what_does_not_read_is_refused(filled: Database, query: str) -> None:
    before = content(filled)
    with pytest.raises(errors.QueryError, match="only reads, and this is refused: it begins with"):
        sql_query.ask(filled, query)
    assert content(filled) == before


@pytest.mark.parametrize(
    "query",
    [
        "WITH x AS (SELECT 1) DELETE FROM sample",
        "WITH x AS (DELETE FROM sample RETURNING job_id) SELECT * FROM x",
        "SELECT 1; DELETE FROM sample",
        "SELECT 1; COMMIT; DELETE FROM sample",
        "SELECT 1 INTO made",
        "SELECT * FROM job FOR UPDATE",
        "SELECT load_extension('x')",
        "SELECT set_config('transaction_read_only', 'off', false), nextval('nothing')",
        "SELECT * FROM pragma_journal_mode('delete')",
        "WITH x AS (SELECT 1) INSERT INTO leader SELECT 'x', 'x', 1, 1, 1 FROM x",
        "WITH x AS (SELECT 1) UPDATE sqlite_master SET sql = NULL",
    ],
)
def test_a_write_that_looks_like_reading_changes_nothing(filled: Database, query: str) -> None:
    before = content(filled)
    with pytest.raises(errors.UserError):
        sql_query.ask(filled, query)
    assert content(filled) == before
    assert "made" not in before


def test_a_write_within_a_query_is_told_as_such(filled: Database) -> None:
    with pytest.raises(errors.QueryError, match="only reads, and this is refused: it would change the database"):
        sql_query.ask(filled, "WITH x AS (DELETE FROM sample RETURNING job_id) SELECT * FROM x" if filled.dialect
                      == "postgresql" else "WITH x AS (SELECT 1) DELETE FROM sample")  # fmt: skip
    with pytest.raises(errors.QueryError, match=r"one query at a time|one statement at a time"):
        sql_query.ask(filled, "SELECT 1; SELECT 2")


def test_read_only_cannot_be_switched_off(filled: Database) -> None:
    """The transaction stays read-only even for a function that sets it otherwise."""
    if filled.dialect == "sqlite":
        pytest.skip("SQLite has no such function")
    with pytest.raises(errors.UserError):
        sql_query.ask(filled, "SELECT set_config('transaction_read_only', 'off', true)")


@pytest.mark.parametrize(
    ("query", "said", "word"),
    [
        ("SELECT gian FROM v_gain", "did you mean 'gain'?", "gian"),
        ("SELECT gain FROM v_gian", "did you mean 'v_gain'?", "v_gian"),
        ("SELECT strategy,\n  gian\nFROM v_gain", "did you mean 'gain'?", "gian"),
        ("SELECT gain FORM v_gain", "syntax error", None),
    ],
)
def test_an_error_shows_its_place_and_the_nearest_name(
    filled: Database, query: str, said: str, word: str | None
) -> None:
    with pytest.raises(errors.QueryError) as caught:
        sql_query.ask(filled, query)
    message, line, pointer = str(caught.value).split("\n")
    assert said in message
    start = pointer.index("^")
    assert word is None or line[start : start + len(word)] == word


def test_a_column_that_is_like_none_says_where_they_are_listed(filled: Database) -> None:
    with pytest.raises(errors.QueryError, match="`quantfleet sql` without a query lists"):
        sql_query.ask(filled, "SELECT zzzzqqqq FROM v_gain")


@pytest.mark.parametrize("query", ["", "  ", "-- nothing", "/* nothing */"])
def test_an_empty_query_is_told(filled: Database, query: str) -> None:
    with pytest.raises(errors.QueryError, match="there is no query"):
        sql_query.ask(filled, query)


def test_a_query_without_an_end_is_given_up(filled: Database) -> None:
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
    with pytest.raises(errors.QueryError, match=r"longer than 0\.2 s"):
        sql_query.ask(filled, endless, timeout_s=0.2)
    assert sql_query.ask(filled, "SELECT 1").rows == ((1,),)


def test_a_database_that_was_asked_can_be_written_by_its_owner(db: Database) -> None:
    assert sql_query.ask(db, "SELECT count(*) FROM v_host").rows == ((0,),)
    with pytest.raises(errors.QueryError):
        sql_query.ask(db, "DELETE FROM host")
    fleet.register(db, "a1")
    assert sql_query.ask(db, "SELECT host FROM v_host").rows == (("a1",),)


def test_percent_signs_colons_and_parameters_are_the_querys_own(filled: Database) -> None:
    assert sql_query.ask(filled, "SELECT ':x %s %(a)s'").rows == ((":x %s %(a)s",),)
    with pytest.raises(errors.QueryError):
        sql_query.ask(filled, "SELECT $1" if filled.dialect == "postgresql" else "SELECT ?")


def test_lists_within_a_cell_can_be_taken_apart(filled: Database) -> None:
    query = "SELECT value FROM v_gain, json_each(flags)"
    if filled.dialect == "postgresql":
        query = "SELECT value FROM v_gain, jsonb_array_elements_text(flags::jsonb) AS t(value)"
    assert sql_query.ask(filled, query).rows == (("disturbed",),)


def test_the_tables_columns_can_be_asked_for(filled: Database) -> None:
    query = "SELECT name FROM pragma_table_info('v_host') LIMIT 1"
    if filled.dialect == "postgresql":
        query = """SELECT column_name FROM information_schema.columns WHERE table_name = 'v_host'
            ORDER BY ordinal_position LIMIT 1"""
    assert sql_query.ask(filled, query).rows == (("host",),)


def test_frames_have_the_types_of_results_and_of_queries(filled: Database) -> None:
    pandas = pytest.importorskip("pandas")
    frame = frames.results(filled, kind="latency")
    assert frame["gain"].tolist() == [2.5]
    assert [str(frame[name].dtype) for name in ("threads", "gain", "accuracy")] == ["Int64", "float64", "float64"]
    assert pandas.isna(frame["accuracy"][0])
    assert pandas.api.types.is_string_dtype(frame["strategy"].dtype)
    assert not {"document", *frames.DERIVED} & set(frame.columns)
    assert list(frames.of(queries.results(filled)).columns)[-1] == "baseline_limit_share"
    asked = frames.sql(filled, "SELECT kind, count(*) AS n FROM v_result GROUP BY kind ORDER BY kind")
    assert asked.to_dict("list") == {"kind": ["accuracy", "latency"], "n": [1, 1]}
    assert frames.results(filled, model="other").empty


def test_a_reader_does_not_wait_for_a_writer(address: str) -> None:
    with Database.open(address) as writer, Database.open(address, readonly=True) as reader:
        fleet.register(writer, "a1")
        with writer.transaction() as connection:
            connection.execute(sa.text("DELETE FROM host"))
            assert sql_query.ask(reader, "SELECT count(*) FROM v_host", timeout_s=5).rows == ((1,),)
        hosts.register(writer, name="a1", platform=fleet.PLATFORMS["A"])


def test_the_query_of_the_page_runs_on_both_databases(filled: Database) -> None:
    page = (Path(__file__).parents[3] / "docs" / "query.md").read_text()
    (query,) = re.findall(r'\$ quantfleet sql "\n(.*?)" --limit 5', page, re.DOTALL)
    answer = sql_query.ask(filled, query.replace("disturbed = 0", "disturbed = 1"))
    assert answer.columns == ("strategy", "gain", "accuracy")
    assert answer.rows == (("torch/int8-dynamic", 2.5, pytest.approx(2 / 3)),)
