"""The views that people query: one list of columns, true on both databases and on the page that documents them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage import hosts, lifecycle, records, sql_views
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet

PAGE = Path(__file__).parents[3] / "docs" / "query.md"
PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "real": (float,)}
DECLARED = {
    **dict.fromkeys(("VARCHAR", "TEXT", "character varying", "text"), "text"),
    **dict.fromkeys(("INTEGER", "BIGINT", "INT", "integer", "bigint"), "integer"),
    **dict.fromkeys(("DOUBLE", "REAL", "double precision"), "real"),
}


@pytest.fixture
def filled(db: Database) -> Database:
    """A gain with everything that a machine may tell, an accuracy, a case that cannot run; in two studies."""
    energetic: dict[str, Any] = {"joules_per_row": 0.5}
    fleet.register(db, "a1")
    hosts.register(db, name="a1", platform=fleet.PLATFORMS["A"], labels={"price": "0.1"})
    cases = (builders.case(), builders.case("accuracy"), builders.case(threads=2))
    jobs = [builders.planned(case, fleet.key("A")) for case in cases]
    lifecycle.submit(db, study=lifecycle.StudyText(name="b", text="b"), jobs=jobs[:1])
    lifecycle.submit(db, study=lifecycle.StudyText(name="B", text="B"), jobs=jobs[:1])
    lifecycle.submit(db, study=lifecycle.StudyText(name="a", text="a"), jobs=jobs)
    with db.read() as connection:
        ids = list(connection.execute(sa.text("SELECT id FROM job ORDER BY threads IS NULL, threads")).scalars())
    sides = {"baseline": builders.side("torch/fp32", 0.01, **energetic), "strategy": builders.side(**energetic)}
    lifecycle.finish(db, fleet.claim(db, ids[0]), builders.latency(**sides), [])
    failure = records.Failure(reason="unsupported", message="needs avx2")
    lifecycle.fail(db, fleet.claim(db, ids[1]), failure)
    lifecycle.finish(db, fleet.claim(db, ids[2]), builders.accuracy(), [])
    hosts.goodbye(db, "a1")
    return db


def declared(db: Database, view: str) -> dict[str, str]:
    """The types that the database tells of a view; empty where SQLite tells none of an expression."""
    query = f"SELECT name, type FROM pragma_table_info('{view}')"  # noqa: S608
    if db.dialect == "postgresql":
        query = f"""SELECT column_name, data_type FROM information_schema.columns
            WHERE table_name = '{view}' ORDER BY ordinal_position"""  # noqa: S608
    with db.read() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text(query))}


@pytest.mark.parametrize("view", list(sql_views.VIEWS))
def test_a_view_has_the_documented_columns_and_types_on_each_database(filled: Database, view: str) -> None:
    wanted = sql_views.columns(view)
    told = declared(filled, view)
    assert list(told) == list(wanted)
    assert {name: DECLARED[kind] for name, kind in told.items() if kind} == {
        name: of.kind for name, of in wanted.items() if told[name]
    }
    with filled.read() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM {view}")).mappings().all()  # noqa: S608
    assert rows
    for name, of in wanted.items():
        values = [row[name] for row in rows if row[name] is not None]
        assert all(isinstance(value, PYTHON_TYPES[of.kind]) for value in values), (name, values)


def test_what_views_derive_is_the_same_on_both_databases(filled: Database) -> None:
    with filled.read() as connection:
        ended = connection.execute(sa.text("SELECT studies, state, disturbed FROM v_result ORDER BY kind, threads"))
        gain = connection.execute(sa.text("SELECT studies, disturbed, significant, artifact_ratio, torch FROM v_gain"))
        assert [tuple(row) for row in ended] == [("a", "done", 0), ("B,a,b", "done", 1), ("a", "unsupported", None)]
        assert [tuple(row) for row in gain] == [("B,a,b", 1, 1, 1.0, "2.13.0")]


def test_an_interval_around_one_is_not_significant(db: Database) -> None:
    fleet.register(db, "a1")
    for threads, (low, high) in enumerate(((0.9, 1.1), (1.01, 1.2), (0.5, 0.99)), start=1):
        job = builders.planned(builders.case(threads=threads), fleet.key("A"))
        interval = records.Interval(value=1.0, low=low, high=high)
        lifecycle.finish(db, fleet.claim(db, *fleet.submit(db, job)), builders.latency(gain=interval), [])
    with db.read() as connection:
        found = connection.execute(sa.text("SELECT significant FROM v_gain ORDER BY threads")).scalars().all()
    assert found == [0, 1, 1]


@pytest.mark.parametrize("view", list(sql_views.VIEWS))
def test_the_page_documents_every_column(view: str) -> None:
    text = PAGE.read_text()
    section = text[text.index(f"### `{view}`") :].split("\n### ", 1)[0].split("\n## ", 1)[0]
    missing = [name for name in sql_views.columns(view) if f"`{name}`" not in section]
    assert missing == []


@pytest.mark.parametrize("how", ["mode=ro", "immutable=1"])
def test_a_tool_that_opens_the_file_for_reading_sees_the_views(sqlite: str, tmp_path: Path, how: str) -> None:
    """As Datasette does: a plain connection that cannot write, beside one that does, or to a copy that is published."""
    with Database.open(sqlite) as db:
        fleet.register(db, "a1")
        lifecycle.finish(db, fleet.claim(db, *fleet.submit(db)), builders.latency(), [])
        file = sqlite.removeprefix("sqlite:///")
        if how == "immutable=1":
            with contextlib.closing(sqlite3.connect(file)) as live:
                live.execute("VACUUM INTO ?", (str(tmp_path / "published.db"),))
            file = str(tmp_path / "published.db")
        with contextlib.closing(sqlite3.connect(f"file:{file}?{how}", uri=True)) as connection:
            for view in sql_views.VIEWS:
                cursor = connection.execute(f"SELECT * FROM {view}")  # noqa: S608
                assert [column[0] for column in cursor.description] == list(sql_views.columns(view))
                assert len(cursor.fetchall()) == 1
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("DELETE FROM host")
