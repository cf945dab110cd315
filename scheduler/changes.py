"""What changed between an earlier measurement and a later one, from the database.

Which results are the earlier ones is `scheduler.earlier`'s to say, which rows may be compared `scheduler.matching`'s,
and what changed `scheduler.regressions`' and `scheduler.accuracy_changes`'.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from scheduler import (
    accuracy_changes,
    compare,
    drift,
    earlier,
    filters,
    labels,
    matching,
    reasons,
    regressions,
    remains,
)
from scheduler.accuracy_changes import AccuracyChange
from scheduler.filters import Filter
from scheduler.regressions import Change, Rule
from scheduler.sessions import Session, sessions
from storage import errors, queries, records
from storage.database import Database
from storage.estimates import Component
from storage.views import ResultView

EXPLAINED = 10
"""Changes whose reasons are told, at most: the largest."""

NAMED = 5
"""Cases that an error names, at most."""

Watch = Callable[[Sequence[tuple[str, str]]], Iterable[tuple[str, str]]]
"""Passes on what takes long, so that somebody can show how far it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a person wants to know about changes."""

    study: str | None
    environment: str | None
    before: str | None
    rule: Rule
    accuracy_limit: float | None  # as a share

    @property
    def gates(self) -> bool:
        """Whether a regression makes the command fail."""
        return self.rule.margin is not None or self.accuracy_limit is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Everything that is shown."""

    title: str  # study main → study pr-7
    asked: Asked
    split: earlier.Split
    changes: tuple[Change, ...]
    accuracies: tuple[AccuracyChange, ...]
    apart: tuple[matching.Apart, ...]
    drifts: Mapping[str, float | None]  # hardware key → standard deviation of its jobs' times, as a share
    otherwise: tuple[str, ...]  # what ran otherwise where a change is shown

    @property
    def worse(self) -> list[Change]:
        """The regressions."""
        return [one for one in self.changes if one.regression]

    @property
    def lost(self) -> list[AccuracyChange]:
        """The accuracies that were lost."""
        return [one for one in self.accuracies if one.regression]

    @property
    def broken(self) -> list[matching.Apart]:
        """The cases that gave a number then and fail now."""
        return [one for one in self.apart if one.reason == "broken"]

    @property
    def tested(self) -> int:
        """How many cases were tested."""
        return sum(one.verdict != "not tested" for one in self.changes)

    @property
    def unjudged(self) -> list[str]:
        """What was to be judged, and no case could be tested for it."""
        times = ["regression"] if self.asked.rule.margin is not None and not self.tested else []
        scored = any(one.p is not None for one in self.accuracies)
        return times + (["loss of accuracy"] if self.asked.accuracy_limit is not None and not scored else [])

    def name(self, row: compare.Comparison) -> str:
        """A case in a sentence, with its machine where there are several."""
        where = f" on {labels.short_cpu(row.cpu)}" if len(self.split.steps) > 1 else ""
        return f"{matching.named(row)}{where}"

    @property
    def fails(self) -> bool:
        """Whether the command ends with 1."""
        return self.asked.gates and bool(self.worse or self.lost or self.broken)


def find(
    db: Database,
    asked: Asked,
    wanted: Filter,
    *,
    study: str | None,
    kinds: Sequence[str],
    include_disturbed: bool,
    watch: Watch = iter,
) -> Found:
    """Everything that changed; QueryError where no case was measured on both sides."""
    platforms = list(queries.platforms(db).values())
    title, before, after = _sides(db, asked, study, kinds, platforms)
    after = wanted.select(after)
    before = dataclasses.replace(wanted, hardware=None).kept(before)
    if wanted.hardware is not None:  # it may be a software's key, which then is another one
        here = {view.hardware_key for view in after}
        before = [view for view in before if view.hardware_key in here]
    found = earlier.split(before, after, platforms)
    matched = matching.match(*(_rows(views, include_disturbed) for views in (found.earlier, found.later)))
    accuracies = accuracy_changes.changes(
        found.earlier, found.later, lambda job_id: queries.predictions(db, job_id),
        fdr=asked.rule.fdr, limit=asked.accuracy_limit,
    )  # fmt: skip
    broken = asked.gates and any(one.reason == "broken" for one in matched.apart)
    if not matched.pairs and not accuracies and not broken:
        _nothing(title, before, after, found, matched)
    lookup = _Samples(db, [row for pair in matched.pairs for row in pair], watch)
    moved = drift.drifts((row for pair in matched.pairs for row in pair), lookup)
    told = regressions.changes(matched.pairs, lookup, asked.rule, moved)
    return Found(
        title=title,
        asked=asked,
        split=found,
        changes=told,
        accuracies=accuracies,
        apart=matched.apart,
        drifts={step.hardware_key: _deviation(moved.get(step.hardware_key)) for step in found.steps},
        otherwise=tuple(_otherwise(db, told, (*found.earlier, *found.later))),
    )


def _sides(
    db: Database, asked: Asked, study: str | None, kinds: Sequence[str], platforms: Iterable[records.Platform]
) -> tuple[str, list[ResultView], list[ResultView]]:
    """What is compared in words, the earlier results, the later ones."""
    tests = [earlier.in_environment(asked.environment, platforms)] if asked.environment else []
    tests += [earlier.finished_before(asked.before)] if asked.before else []
    known = queries.study_names(db)
    for option, name in (("study", study), ("against", asked.study)):
        filters.study(option, name, known)
    if study is not None and study == asked.study and not tests:
        raise errors.QueryError(
            f"--against {study} is the study itself; say which part is earlier (--against-before DAY)"
        )
    now = study if study is not None or asked.study is None else _newest_besides(db, asked.study)
    later = queries.results(db, study=now, kind=kinds, documents=False)
    old = queries.results(db, study=asked.study or now, kind=kinds, documents=False)
    old = [view for view in old if all(test(view) for test in tests)]
    once = {view.job_id for view in old}
    if asked.study in {None, study}:
        later = [view for view in later if view.job_id not in once]
    parts = [f"study {asked.study}" if asked.study else "", asked.environment or ""]
    parts.append(f"before {asked.before}" if asked.before else "")
    then = ", ".join(filter(None, parts))
    return f"{then} → {'later results' if now is None else f'study {now}'}", old, later


def _newest_besides(db: Database, against: str) -> str:
    """The study that is compared where none is named; its name where that tells it from the earlier one."""
    known = queries.study_names(db)
    others = (one for one in known if against not in {one.id, one.name})
    newest = next((one for one in others if queries.has_ended(db, one.id)), None)
    if newest is None:
        raise errors.QueryError(
            f"--against {against}: no other study has results; measure one, or name it with --study"
        )
    old = {one.name for one in known if one.id == against}
    return newest.id if newest.name in old else newest.name


def _rows(views: Iterable[ResultView], include_disturbed: bool) -> list[compare.Comparison]:
    timed = [view for view in views if view.kind in records.PAIRED]
    return compare.compare(timed, lambda job_id: None, include_disturbed=include_disturbed)


def _nothing(
    title: str,
    before: Sequence[ResultView],
    after: Sequence[ResultView],
    split: earlier.Split,
    matched: matching.Matched,
) -> NoReturn:
    """Why there is nothing to compare, as far as it can be told in a few lines."""
    empty = [name for name, views in (("then", before), ("now", after)) if not views]
    lines = [f"no result {name}" for name in empty] + list(split.notes)
    lines += dict.fromkeys(f"{matching.named(one.row)}: {one.text}" for one in matched.apart[:NAMED])
    if len(matched.apart) > NAMED:
        lines.append(f"and {len(matched.apart) - NAMED} more cases")
    raise errors.QueryError("\n  ".join([f"{title}: no case has a number on both sides", *lines]))


class _Samples:
    """Sessions of jobs, each read once."""

    def __init__(self, db: Database, rows: Iterable[compare.Comparison], watch: Watch) -> None:
        kinds = {job_id: row.kind for row in rows for job_id in row.job_ids}
        kept = queries.pruned(db, list(kinds))
        self._known = {
            job_id: remains.sessions(kept[job_id].document)
            if job_id in kept
            else sessions(kind, queries.legs(db, job_id))
            for job_id, kind in watch(list(kinds.items()))
        }

    def __call__(self, kind: str, job_id: str) -> Sequence[Session]:
        return self._known[job_id]


def _deviation(found: Component | None) -> float | None:
    return None if found is None else math.sqrt(found.variance)


def _otherwise(db: Database, told: Iterable[Change], views: Iterable[ResultView]) -> Iterable[str]:
    changed = [one for one in told if one.verdict in {"worse", "better"}]
    shown = sorted(changed, key=_size, reverse=True)[:EXPLAINED]
    wanted = {row.job_ids[0] for one in shown for row in (one.earlier, one.later)}
    by_id = {view.job_id: view for view in queries.whole(db, [view for view in views if view.job_id in wanted])}
    for one in shown:
        earlier_view, later_view = (by_id[row.job_ids[0]] for row in (one.earlier, one.later))
        for line in reasons.ran_otherwise(earlier_view, later_view):
            yield f"{matching.named(one.later)}: {line}"


def _size(one: Change) -> float:
    ratio = one.time.ratio if one.time else 1.0
    return max(ratio, 1 / ratio)
