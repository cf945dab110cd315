"""Jobs that have come to their end, as `storage.views.ResultView`; public through `storage.queries`.

A view without its document reads a seventh of the bytes: what comparisons need of it is stored beside it
(`storage.excerpts`). Texts that many rows share are parsed once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from storage import plain, records, statements, tables, wide
from storage.database import Database
from storage.views import ResultView

Filter = str | Collection[str] | None
"""One value, several of which one must fit, or None for all."""

job, result, hardware = tables.job, tables.result, tables.hardware

PLANNED = (job.c.created_at, job.c.position, job.c.id)
"""The order in which jobs were planned."""

_PLATFORM_KEY = sa.func.coalesce(result.c.platform_key, job.c.platform_key)
_EXCERPT = sa.func.coalesce(sa.cast(result.c.excerpt, sa.Text), sa.cast(result.c.document, sa.Text))
_JSON_LISTS = ("flags", "notes")

_made = wide.maker(ResultView)


def results(
    db: Database,
    *,
    study: str | None = None,
    model: Filter = None,
    strategy: Filter = None,
    hardware: Filter = None,
    threads: int | Collection[int] | None = None,
    kind: Filter = None,
    states: Filter = None,
    platform: str | None = None,
    documents: bool = True,
) -> list[ResultView]:
    """One row for each job that has come to its end, with its numbers or its message, in planned order.

    `study` is a name or an id, `hardware` and `platform` keys; `states` picks among records.TERMINAL. Without
    `documents` each view's document is its excerpt (`storage.excerpts`), which is all that comparisons read; `whole`
    gives them the rest.
    """
    picked = (
        *in_study(study),
        *among(job.c.model, model),
        *among(job.c.strategy, strategy),
        *among(tables.platform.c.hardware_key, hardware),
        *among(job.c.threads, threads),
        *among(job.c.kind, kind),
        _ended(states),
    )
    query = _query(documents).where(*picked).order_by(*PLANNED)
    with db.read() as connection:
        return [view for where in _places(platform) for view in _views(connection, query.where(*where))]


def platform_keys(db: Database) -> list[str]:
    """Every platform that a job is for, or a result of; records.ANY_PLATFORM among them."""
    keys = sa.union(sa.select(job.c.platform_key), sa.select(tables.platform.c.key))
    with db.read() as connection:
        return sorted(connection.execute(keys).scalars())


def whole(db: Database, views: Iterable[ResultView]) -> list[ResultView]:
    """The same results, each with its whole document."""
    found = list(views)
    documents: dict[str, Any] = {}
    with db.read() as connection:
        for some in statements.chunks([view.job_id for view in found]):
            query = sa.select(result.c.job_id, result.c.document).where(result.c.job_id.in_(some))
            documents.update({row.job_id: row.document for row in connection.execute(query)})
    return [replace(view, document=documents.get(view.job_id, {})) for view in found]


def more_than(db: Database, count: int) -> bool:
    """Whether the database holds more results than that; as quick for a million as for `count`."""
    some = sa.select(sa.literal(1)).select_from(result).limit(count + 1).subquery()
    with db.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()) > count


def in_study(wanted: str | None) -> Iterable[sa.ColumnElement[bool]]:
    """Whether a job belongs to a study, by its name or id; no condition for None."""
    if wanted is None:
        return ()
    link, study = tables.study_job, tables.study
    named = sa.select(study.c.id).where(sa.or_(study.c.name == wanted, study.c.id == wanted))
    return (job.c.id.in_(sa.select(link.c.job_id).where(link.c.study_id.in_(named))),)


def among(column: sa.ColumnElement[Any], wanted: Any) -> Iterable[sa.ColumnElement[bool]]:
    """Whether a column has the value, or one of the values; no condition for None."""
    if wanted is None:
        return ()
    return (column == wanted,) if isinstance(wanted, (str, int)) else (column.in_(sorted(wanted)),)


def _places(platform: str | None) -> Iterable[tuple[sa.ColumnElement[bool], ...]]:
    """Conditions that find what ended on a platform, each by an index: what was measured there, and what was for it."""
    if platform is None:
        return ((),)
    without = job.c.state.in_(sorted(records.TERMINAL - {"done"}))
    return ((result.c.platform_key == platform,), (job.c.platform_key == platform, without))


def _ended(states: Filter) -> sa.ColumnElement[bool]:
    """Whether a job has come to its end, or to one of some ends."""
    if states is None:
        # told by what it is not: of a study's jobs SQLite would else look up all that ended, of every study
        return job.c.state.not_in(sorted(records.OPEN))
    wanted = {states} if isinstance(states, str) else set(states)
    return job.c.state.in_(sorted(wanted & records.TERMINAL))


def _query(documents: bool) -> sa.Select[Any]:
    text = sa.cast(result.c.document, sa.Text) if documents else _EXCERPT
    return (
        sa.select(
            job.c.id.label("job_id"),
            *(job.c[name] for name in ("kind", "state", "model", "strategy", "baseline", "threads", "batch", "length")),
            *(job.c[name] for name in ("padding", "input", "instances", "replica", "finished_at", "message")),
            sa.func.coalesce(result.c.model_digest, tables.model.c.digest).label("model_digest"),
            sa.func.coalesce(result.c.host, job.c.host).label("host"),
            _PLATFORM_KEY.label("platform_key"),
            tables.platform.c.hardware_key,
            tables.platform.c.environment_key,
            hardware.c.cpu,
            *(result.c[name] for name in tables.METRIC_COLUMNS),
            *(sa.cast(result.c[name], sa.Text).label(name) for name in _JSON_LISTS),
            text.label("document"),
        )
        .join(tables.model, tables.model.c.key == job.c.model_key)
        .outerjoin(result, result.c.job_id == job.c.id)
        .outerjoin(tables.platform, tables.platform.c.key == _PLATFORM_KEY)
        .outerjoin(hardware, hardware.c.key == tables.platform.c.hardware_key)
    )


def _views(connection: sa.Connection, query: sa.Select[Any]) -> list[ResultView]:
    rows = connection.execution_options(yield_per=2000).execute(query)
    # interned: Python finds the parameter of a name that it knows by identity, and of another by comparing it with all
    labels, lists, documents = rows.keys(), _once(_list), _once(_document)
    names = tuple(sys.intern(str(label)) for label in labels)
    return [_view(dict(zip(names, row, strict=True)), lists, documents) for row in rows]


def _view(values: dict[str, Any], lists: Callable[[str | None], Any], documents: Callable[..., Any]) -> ResultView:
    if values["batch"] is not None and values["length"] is None:
        values["length"] = records.DATASET_LENGTH
    for name in _JSON_LISTS:
        values[name] = lists(values[name])
    if values["state"] == "done":
        values["message"] = None
    values["document"] = documents(values["document"])
    return _made(**values)


def _list(text: str | None) -> Sequence[str]:
    return tuple(plain.loads(text) or ()) if text is not None else ()


def _document(text: str | None) -> Mapping[str, Any]:
    return plain.loads(text) or {} if text is not None else {}


def _once(read: Callable[[str | None], Any], most: int = 10_000) -> Callable[[str | None], Any]:
    """Parses each text once, of those that were seen first: nobody changes what views hold."""
    known: dict[str | None, Any] = {}

    def once(text: str | None) -> Any:
        if text in known:
            return known[text]
        found = read(text)
        if len(known) < most:
            known[text] = found
        return found

    return once
