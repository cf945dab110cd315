"""A million results: what commands cost on SQLite and on Postgres, and what a result takes on disk.

    python -m benchmarks.store [--results 20000] [--databases sqlite,postgres] [--repeats 3] [--no-samples] [--plans]
        [--prune] [--folder FOLDER]

Fills a database (`benchmarks/many.py` says with what) and runs each command as a user does: a fresh process, its wall
time from start to end, its CPU time, its peak resident memory. The first run of each command is told apart: it reads
what no earlier one has read. Then it asks `quantfleet serve` for its pages. `--folder` keeps the databases there and
uses them again. A million results take about 15 GB on each database and some ten minutes to fill: `--results 1000000`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.event

from benchmarks import common, many
from scheduler import scope, stored
from storage import database, metrics, queries, tables
from storage.database import Database
from tests import services
from tests.sql import heard

SERVER = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
}
"""Settings of the Postgres that is filled; those of queries are Postgres' own."""

_QUANTFLEET = (sys.executable, "-c", "from scheduler.cli.main import run; run()")

PAGES = ("/", "/compare", "/report", "/report?page=2")
"""Of the live view, which is a process that goes on."""

RAW = ("sample",)
"""Tables of raw samples, which `quantfleet prune` empties."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    code: int


def main() -> None:
    """Fill, measure and print, a database after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--repeats", type=int, default=3, help="runs of a command after its first one")
    parser.add_argument("--samples", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--plans", action="store_true", help="also the query plans of a comparison")
    parser.add_argument(
        "--prune", action="store_true", help="in the end prune the oldest study, and say what that took"
    )
    parser.add_argument("--folder", type=Path, help="keep the databases there, or use those that are there")
    given = parser.parse_args()
    names = given.databases.split(",")
    if unknown := set(names) - {"sqlite", "postgres"}:
        parser.error(f"--databases: {', '.join(sorted(unknown))} is neither sqlite nor postgres")
    shape = many.Shape.of(given.results)
    print(common.machine())
    print(shape.text() + ("" if given.samples else ", without raw samples"), flush=True)
    for name in names:
        with _folder(given.folder) as folder, _address(name, folder) as address:
            _measure(name, address, shape, given)


def _measure(name: str, address: str, shape: many.Shape, given: argparse.Namespace) -> None:
    database.upgrade(address)
    with Database.open(address, readonly=True) as db:
        empty = not queries.study_names(db)
    if empty:
        # in a process of its own: a command's peak memory is never told below that of the process that started it
        filling = multiprocessing.get_context("spawn").Process(target=_fill, args=(name, address, shape, given.samples))
        filling.start()
        filling.join()
        if filling.exitcode:
            raise SystemExit(f"{name}: could not be filled")
    print(f"\n{name}")
    _print_sizes(address, shape)
    _print_commands(address, shape, given.repeats)
    _print_pages(address, given.repeats)
    if given.plans:
        _print_plans(address)
    if given.prune:
        _print_prune(address)


def _fill(name: str, address: str, shape: many.Shape, samples: bool) -> None:
    many.fill(address, shape, samples=samples, tell=lambda text: _say(f"{name}: {text}"))


def _commands(shape: many.Shape, folder: Path) -> Mapping[str, Sequence[str]]:
    oldest = many.study_name(0)
    return {
        "start-up (--version)": ("--version",),
        "compare": ("compare",),
        f"compare --study {oldest}": ("compare", "--study", oldest),
        "compare --json": ("compare", "--json"),
        "best": ("best",),
        "transfer": ("transfer",),
        "report": ("report", "-o", str(folder / "report.html")),
        "results": ("results",),
    }


def _print_commands(address: str, shape: many.Shape, repeats: int) -> None:
    print(f"{'command':32}{'first':>9}{'wall':>9}{'CPU':>9}{'peak':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, words in _commands(shape, Path(folder)).items():
            first, *more = (_run(address, words) for _ in range(1 + repeats))
            runs = more or [first]
            wall, cpu = (statistics.median(getattr(run, field) for run in runs) for field in ("wall_s", "cpu_s"))
            peak = metrics.bytes_(max(run.peak_bytes for run in runs))
            failed = "" if first.code == 0 else f"  exit code {first.code}"
            print(f"{name:32}{first.wall_s:7.2f} s{wall:7.2f} s{cpu:7.2f} s{peak:>10}{failed}", flush=True)


def _print_pages(address: str, repeats: int) -> None:
    """What a browser waits for the pages of `quantfleet serve`, scripts apart."""
    environment = {**os.environ, "QUANTFLEET_DATABASE": address}
    with subprocess.Popen([*_QUANTFLEET, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE) as served:
        try:
            assert served.stdout is not None
            root = served.stdout.readline().decode().strip()
            for page in PAGES:
                first, *more = (_visit(f"{root}{page.removeprefix('/')}") for _ in range(1 + repeats))
                print(f"{'serve, ' + page:32}{first:7.2f} s{statistics.median(more or [first]):7.2f} s", flush=True)
        finally:
            served.terminate()


def _visit(address: str) -> float:
    began = time.monotonic()
    with urllib.request.urlopen(address) as answer:  # noqa: S310
        answer.read()
    return time.monotonic() - began


def _run(address: str, words: Sequence[str]) -> Run:
    """A command in a fresh process, its output to nobody."""
    environment = {**os.environ, "QUANTFLEET_DATABASE": address, "COLUMNS": "100"}
    began = time.monotonic()
    process = subprocess.Popen(
        [*_QUANTFLEET, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        _say(said.decode())
    cpu = used.ru_utime + used.ru_stime
    return Run(wall_s=wall, cpu_s=cpu, peak_bytes=used.ru_maxrss * 1024, code=process.returncode)


def _print_sizes(address: str, shape: many.Shape) -> None:
    """Bytes a result, of tables with their indexes."""
    sizes = _sizes(address)
    whole, raw = sum(sizes.values()), sum(sizes.get(name, 0) for name in RAW)
    count = shape.results
    bare = (whole - raw) / count
    print(f"on disk: {metrics.bytes_(whole)}, {whole / count:,.0f} bytes a result; without raw samples {bare:,.0f}")
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:7]
    print(
        "  "
        + ", ".join(f"{name} {size / count:,.0f}" for name, size in largest)
        + " (tables with indexes, bytes a result)"
    )


def _sizes(address: str) -> dict[str, int]:
    with Database.open(address, readonly=True) as db, db.read() as connection:
        if db.dialect == "postgresql":
            names = sorted(tables.metadata.tables)
            size = sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
            return {name: int(connection.execute(size, {"name": name}).scalar_one()) for name in names}
        # pages, as dbstat's own sum of bytes has 32 bits
        query = (
            "SELECT COALESCE(m.tbl_name, s.name), SUM(s.pageno) FROM dbstat AS s LEFT JOIN sqlite_schema AS m"
            " ON m.name = s.name WHERE s.aggregate = TRUE GROUP BY 1"
        )
        page = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        return {str(name): page * int(pages) for name, pages in connection.exec_driver_sql(query)}


def _print_plans(address: str) -> None:
    """How the database finds what `compare` asks for."""
    with Database.open(address, readonly=True) as db:
        with heard(db) as said:
            views = stored.views(db, study=scope.of(db, None).study, kinds=("latency", "accuracy"))
            stored.comparisons(db, views)
        asked = {statement: given for statement, given in said if statement.startswith("SELECT")}
        explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "
        for statement, given in asked.items():
            with db.read() as connection:
                plan = connection.exec_driver_sql(explain + statement, given).all()
            print(f"plan: {' '.join(statement.split())[:60]} … {_from(statement)}")
            print("".join(f"    {str(row[-1])[:160]}\n" for row in plan), end="")  # without all ids of a list


def _from(statement: str) -> str:
    flat = " ".join(statement.split())
    return flat[flat.find(" FROM ") :][:100]


def _print_prune(address: str) -> None:
    began = time.monotonic()
    words = ("prune", "--study", many.study_name(0), "--yes", "--json")
    environment = {**os.environ, "QUANTFLEET_DATABASE": address}
    said = subprocess.run([*_QUANTFLEET, *words], env=environment, capture_output=True, text=True, check=True).stdout
    print(f"quantfleet {' '.join(words)}: {time.monotonic() - began:.1f} s: {' '.join(said.split())}")


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with services.folder() as folder:
        yield folder


@contextlib.contextmanager
def _address(name: str, folder: Path) -> Iterator[str]:
    """A database of this kind in a folder; a Postgres runs meanwhile."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'many.db'}"
        return
    server = services.Postgres(folder=folder / "postgres", settings=dict(SERVER))
    try:
        server.start()
        yield server.address
    finally:
        server.stop()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
