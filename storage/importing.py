"""Studies from a file into a database: in one transaction, nothing doubled, nothing overwritten.

A job that is not here comes with everything that belongs to it. One that is here, by its id or its key, stays as it
is: the same result is passed over, another one is refused. Only a job that had no result when it came, and got one
where it came from, takes it. No job comes that is still to be done, so none of them is ever given to a worker; a host
that comes is marked as imported, so that nothing is planned for it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
import sqlalchemy.exc

from storage import archive, excerpts, records, result_digests, soundness, statements, tables
from storage.archive import Archive, Row
from storage.archiving import Progress
from storage.database import Database

KEYED = ("hardware", "environment", "platform", "model")
"""Tables whose rows are known by the key of their content: what is here is the same."""

OF_JOBS = ("attempt", "result", "sample", "pruned", "prediction")
"""Tables whose rows come with their jobs."""

BATCH = 200
"""Rows in one statement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A result that was not taken."""

    job_id: str  # in the file
    what: str  # model, strategy and input
    why: str  # what is here instead


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What became of a file's content."""

    studies: tuple[str, ...]  # names, each once
    new: int  # jobs that came
    results: int  # results that came
    went_on: int  # jobs that were here without a result, and got theirs
    same: int  # jobs that were here already with the same outcome
    kept: int  # jobs that ended without a result in the file, and are otherwise here
    refused: tuple[Refused, ...]
    hosts: tuple[str, ...]  # that came
    known_hosts: tuple[str, ...]  # that are here with another platform: the file's is known by its results only


class _DryRun(Exception):
    """Rolls everything back."""


@dataclass(kw_only=True, slots=True)
class _Jobs:
    """The file's jobs, sorted by what becomes of them."""

    new: dict[str, Row] = field(default_factory=dict)  # id in the file → row
    went_on: dict[str, Row] = field(default_factory=dict)  # the same, of those that have a result now
    here: dict[str, str] = field(default_factory=dict)  # id in the file → id here
    same: int = 0
    kept: int = 0
    refused: list[Refused] = field(default_factory=list)

    def id_of(self, job_id: str) -> str | None:
        """A job's id here; None for one that is not in the file."""
        return job_id if self.coming(job_id) else self.here.get(job_id)

    def coming(self, job_id: str) -> Row | None:
        """A job whose attempts and result come."""
        return self.new.get(job_id) or self.went_on.get(job_id)


def import_(
    db: Database, source: Archive, progress: Progress = lambda rows: None, *, dry_run: bool = False
) -> Imported:
    """Take a file's studies into a database; with `dry_run` only tell what would become of them.

    Raises ArchiveError for a file that is damaged, before or without anything being stored.
    """
    source.verify()
    told: list[Imported] = []
    try:
        with db.transaction() as connection:
            told.append(_Import(connection, source, progress).run())
            if dry_run:
                raise _DryRun
    except _DryRun:
        pass
    except sqlalchemy.exc.IntegrityError:
        source.refuse("its rows do not fit together, unless the database changed meanwhile: try once more")
    return told[0]


class _Import:
    """One file into one transaction."""

    def __init__(self, connection: sa.Connection, source: Archive, progress: Progress) -> None:
        self._connection = connection
        self._source = source
        self._progress = progress

    def run(self) -> Imported:
        for table in KEYED:
            self._missing(table, "key", self._rows(table))
        hosts, known_hosts = self._hosts()
        jobs = self._jobs()
        studies = self._studies()
        self._insert("job", jobs.new.values())
        self._go_on(jobs.went_on)
        self._links(jobs, studies)
        counts = {table: self._insert(table, self._of_new(table, jobs)) for table in OF_JOBS}
        if counts["result"] != len(jobs.went_on) + sum(row["state"] == "done" for row in jobs.new.values()):
            self._source.refuse("a job that is done has no result")
        return Imported(
            studies=tuple(dict.fromkeys(name for _, name in studies.values())),
            new=len(jobs.new),
            results=counts["result"],
            went_on=len(jobs.went_on),
            same=jobs.same,
            kept=jobs.kept,
            refused=tuple(jobs.refused),
            hosts=hosts,
            known_hosts=known_hosts,
        )

    def _rows(self, table: str) -> Iterator[Row]:
        """A table's rows, each judged."""
        check = soundness.CHECKS.get(table)
        for row in self._source.rows(table):
            if check is not None:
                self._sound(table, row, check)
            yield row
            self._progress(1)

    def _sound(self, table: str, row: Row, sound: Callable[[Row], object]) -> None:
        try:
            sound(row)
        except soundness.UNREADABLE as exc:
            self._source.refuse(f"a row of {table} holds what cannot be read: {exc}")

    def _hosts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of those that came, and of those that are here as another machine."""
        found = {row["name"]: row for row in self._rows("host")}
        here = {row["name"]: row for row in self._present("host", "name", found)}
        new = [{**row, "imported_at": tables.now()} for name, row in found.items() if name not in here]
        for row in new:  # one by one: the clock is the database's own
            self._connection.execute(sa.insert(tables.host).values(_without_null_documents("host", row)))
        other = (name for name, row in here.items() if row["platform_key"] != found[name]["platform_key"])
        return tuple(row["name"] for row in new), tuple(other)

    def _jobs(self) -> _Jobs:
        found = {row["id"]: row for row in self._rows("job")}
        here = {row["id"]: row for row in self._present("job", "id", found)}
        by_key = {row["key"]: row for row in self._present("job", "key", {row["key"] for row in found.values()})}
        matched = {id_: other for id_, row in found.items() if (other := here.get(id_) or by_key.get(row["key"]))}
        jobs = _Jobs(new={id_: row for id_, row in found.items() if id_ not in matched})
        theirs, ours = self._digests({id_: row for id_, row in found.items() if id_ in matched}, matched)
        for id_, other in matched.items():
            if _went_on(found[id_], other):
                jobs.went_on[id_] = found[id_]
                continue
            jobs.here[id_] = other["id"]
            _judge(jobs, found[id_], other, theirs.get(id_) == ours.get(other["id"]))
        return jobs

    def _go_on(self, jobs: Mapping[str, Row]) -> None:
        """Bring jobs to the state of the file; their attempts come from there."""
        for job_id, row in jobs.items():
            values = {**{name: sa.null() for name, value in row.items() if value is None}, **_given(row)}
            self._connection.execute(sa.update(tables.job).where(tables.job.c.id == job_id).values(values))
            self._connection.execute(sa.delete(tables.attempt).where(tables.attempt.c.job_id == job_id))

    def _digests(self, found: Mapping[str, Row], here: Mapping[str, Row]) -> tuple[dict[str, str], dict[str, str]]:
        """Digests of the results that are in the file and here, by job ids there and here."""
        wanted = {id_ for id_ in found if found[id_]["state"] == here[id_]["state"] == "done"}
        if not wanted:
            return {}, {}
        own = {id_: here[id_]["id"] for id_ in wanted}
        bare = self._pruned(own)
        theirs = {t: (row for row in self._source.rows(t) if row["job_id"] in wanted) for t in result_digests.COMPARED}
        ours = {t: self._present(t, "job_id", own.values()) for t in result_digests.COMPARED}
        return result_digests.of_jobs(theirs, bare), result_digests.of_jobs(ours, {own[id_] for id_ in bare})

    def _pruned(self, own: Mapping[str, str]) -> set[str]:
        """Those jobs of the file, given with their ids here, whose samples were pruned on either side."""
        there = {row["job_id"] for row in self._source.rows("pruned")}
        here = {row["job_id"] for row in self._present("pruned", "job_id", own.values())}
        return {id_ for id_, other in own.items() if id_ in there or other in here}

    def _studies(self) -> dict[str, tuple[str, str]]:
        """Id in the file → id here and name; the same file submitted on both sides is one study."""
        studies: dict[str, tuple[str, str]] = {}
        study = tables.study
        for row in self._rows("study"):
            same = sa.and_(study.c.name == row["name"], study.c.digest == row["digest"])
            here = self._connection.execute(sa.select(study.c.id).where(same)).scalar_one_or_none()
            if here is None:
                self._insert("study", [row])
            studies[row["id"]] = (here or row["id"], row["name"])
        return studies

    def _links(self, jobs: _Jobs, studies: Mapping[str, tuple[str, str]]) -> None:
        links, order = [], []
        for row in self._rows("study_job"):
            study, job_id = studies.get(row["study_id"]), jobs.id_of(row["job_id"])
            if study is None or job_id is None:
                self._source.refuse("a study has a job that is not in it")
            links.append({"study_id": study[0], "job_id": job_id})
        for row in self._rows("job_after"):
            job_id, after = jobs.id_of(row["job_id"]), jobs.id_of(row["after_id"])
            if job_id is None or after is None:
                self._source.refuse("a job waits for one that is not in it")
            if jobs.coming(row["job_id"]):  # what is here waits for what it waits for
                order.append({"job_id": job_id, "after_id": after})
        for table, rows in (("study_job", links), ("job_after", order)):
            for some in statements.chunks(rows):
                insert = statements.insert(self._connection, tables.metadata.tables[table])
                self._connection.execute(insert.on_conflict_do_nothing(), some)

    def _of_new(self, table: str, jobs: _Jobs) -> Iterator[Row]:
        """A table's rows of the jobs that come."""
        for row in self._rows(table):
            job = jobs.coming(row["job_id"])
            if job is not None:
                if table == "result":
                    self._sound(table, row, functools.partial(soundness.result, job=job))
                    row["excerpt"] = excerpts.excerpt(row["document"])
                yield row
            elif row["job_id"] not in jobs.here:
                self._source.refuse(f"a row of {table} is of a job that is not in it")

    def _present(self, table: str, column: str, values: Iterable[str]) -> Iterator[Row]:
        """The rows that are here, in the order of their keys."""
        own = tables.metadata.tables[table]
        chosen = list(archive.columns(table).values())
        for some in statements.chunks(sorted(set(values)), BATCH):
            query = sa.select(*chosen).where(own.c[column].in_(some)).order_by(*own.primary_key.columns)
            yield from (dict(row) for row in self._connection.execute(query).mappings())

    def _missing(self, table: str, key: str, rows: Iterable[Row]) -> None:
        insert = statements.insert(self._connection, tables.metadata.tables[table])
        for some in _alike(table, rows):
            self._connection.execute(insert.on_conflict_do_nothing(index_elements=[key]), some)

    def _insert(self, table: str, rows: Iterable[Row]) -> int:
        count = 0
        for some in _alike(table, rows):
            self._connection.execute(sa.insert(tables.metadata.tables[table]), some)
            count += len(some)
        return count


def _went_on(found: Row, here: Row) -> bool:
    """Whether a job that is here came without a result before, and was tried again with one where it came from."""
    ended = here["state"] in records.TERMINAL - {"done"}
    return found["id"] == here["id"] and found["state"] == "done" and ended and found["token"] > here["token"]


def _given(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


def _judge(jobs: _Jobs, found: Row, here: Row, same_result: bool) -> None:
    """What becomes of a job of the file that is here already."""
    if found["state"] == here["state"] and (found["state"] != "done" or same_result):
        jobs.same += 1
    elif found["state"] == "done":
        jobs.refused.append(Refused(job_id=found["id"], what=_what(found), why=_why(here)))
    else:
        jobs.kept += 1


def _what(job: Row) -> str:
    parts = (job["model"], job["strategy"], job["input"], job["threads"] and f"threads {job['threads']}")
    return " · ".join(part for part in parts if part)


def _why(here: Row) -> str:
    if here["state"] == "done":
        return f"job {here['id'][:8]} has another result here, of {here['host'] or 'an unknown host'}"
    what = "waits or runs here" if here["state"] not in records.TERMINAL else f"ended here as {here['state']}"
    return f"job {here['id'][:8]} {what}"


def _alike(table: str, rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    """Rows in batches with the same columns each."""
    ready = (_without_null_documents(table, row) for row in rows)
    for _, group in itertools.groupby(ready, key=lambda row: tuple(sorted(row))):
        while some := list(itertools.islice(group, BATCH)):
            yield some


def _without_null_documents(table: str, row: Row) -> Row:
    """A row without its absent documents: given as None they would become JSON's null instead of none."""
    columns = tables.metadata.tables[table].c
    return {n: value for n, value in row.items() if value is not None or not isinstance(columns[n].type, sa.JSON)}
