"""Which results are the earlier ones, and which software each hardware is compared between (pure)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler import filters, labels
from storage import errors, records
from storage.views import ResultView

Fits = Callable[[ResultView], bool]

_KEY = re.compile(r"[0-9a-f]{4,16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One hardware, with the software that it had then and has now."""

    hardware_key: str
    earlier: str  # environment keys; alike where the software is
    later: str
    changed: tuple[str, ...]  # `torch: 2.12.1 → 2.13.0`, for each fact that differs


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Results of the same hardware, then and now."""

    steps: tuple[Step, ...]
    earlier: tuple[ResultView, ...]  # of the steps' software only
    later: tuple[ResultView, ...]
    notes: tuple[str, ...]  # what is left out, and why


def split(earlier: Sequence[ResultView], later: Sequence[ResultView], platforms: Iterable[records.Platform]) -> Split:
    """Both sides by hardware, each with the software of its newest result; that of the later side where both have it.

    A result that both sides claim is one measurement and tells no change: it is the earlier side's.
    """
    once = {view.job_id for view in earlier}
    fresh = [view for view in later if view.job_id not in once]
    before, after = _newest(earlier), _newest(fresh)
    environments = {one.environment_key: one.environment for one in platforms}
    steps = [
        _step(hardware, before[hardware], after[hardware], environments) for hardware in after if hardware in before
    ]
    kept = {(step.hardware_key, step.earlier) for step in steps}, {(step.hardware_key, step.later) for step in steps}
    return Split(
        steps=tuple(steps),
        earlier=tuple(view for view in earlier if _where(view) in kept[0]),
        later=tuple(view for view in fresh if _where(view) in kept[1]),
        notes=(*_twice(earlier, later, fresh), *_left_out(before, after, steps, earlier, fresh)),
    )


def in_environment(text: str, platforms: Iterable[records.Platform]) -> Fits:
    """Whether a result is of a software: the start of its key, or facts such as `torch=2.12,kernel=6.1`.

    A version fits what begins with it (2.12 fits 2.12.1), and may be a glob. Raises QueryError for what fits none.
    """
    known = {one.environment_key: labels.software(one.environment) for one in platforms}
    wanted = {key for key in known if key.startswith(text)} if _KEY.fullmatch(text) else _with_facts(text, known)
    if not wanted:
        keys = ", ".join(sorted(known)[:8]) or "none"
        raise errors.QueryError(f"--against-environment {text}: no software has this key (there is {keys})")
    return lambda view: view.environment_key in wanted


def finished_before(text: str) -> Fits:
    """Whether a result is older than a day or moment (ISO 8601, local time unless it says); QueryError otherwise."""
    try:
        moment = datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        expected = "expected a day such as 2026-11-30, or a moment such as 2026-11-30T14:00"
        raise errors.QueryError(f"--against-before {text}: {expected}") from None
    return lambda view: (view.finished_at or 0.0) < moment


def _with_facts(text: str, known: Mapping[str, Mapping[str, str]]) -> set[str]:
    keys = set(known)
    for part in text.split(","):
        name, equals, version = (piece.strip() for piece in part.partition("="))
        if not (name and equals and version):
            expected = "expected the start of a software key, or FACT=VERSION such as torch=2.12"
            raise errors.QueryError(f"--against-environment {text}: {expected}")
        keys &= _with_fact(name, version, known)
    if not keys:
        raise errors.QueryError(f"--against-environment {text}: no software has all of these together")
    return keys


def _with_fact(name: str, version: str, known: Mapping[str, Mapping[str, str]]) -> set[str]:
    names = {fact.lower(): fact for facts in known.values() for fact in facts}
    if name.lower() not in names:
        near = errors.nearest(name.lower(), names)
        raise errors.QueryError(f"--against-environment: no software has a fact {name!r}{near}")
    fact = names[name.lower()]
    found = {key for key, facts in known.items() if _is_version(version, facts.get(fact, "none"))}
    if not found:
        there = sorted({facts.get(fact, "none") for facts in known.values()})
        near = errors.nearest(version, there)
        raise errors.QueryError(
            f"--against-environment: no software has {fact} {version}{near} (there is {', '.join(there)})"
        )
    return found


def _is_version(wanted: str, has: str) -> bool:
    return filters.matches(wanted, has) or has.startswith((f"{wanted}.", f"{wanted}+", f"{wanted}-"))


def _where(view: ResultView) -> tuple[str, str]:
    return view.hardware_key or "", view.environment_key or ""


def _newest(views: Iterable[ResultView]) -> dict[str, list[str]]:
    """Hardware → its software, that of the newest result first; what never gave a number comes last."""
    found: dict[str, list[str]] = {}
    for view in sorted(views, key=lambda one: (one.state == "done", one.finished_at or 0.0), reverse=True):
        hardware, environment = _where(view)
        if hardware and environment not in found.setdefault(hardware, []):
            found[hardware].append(environment)
    return found


def _step(
    hardware: str, before: Sequence[str], after: Sequence[str], environments: Mapping[str, records.Environment]
) -> Step:
    later = after[0]
    earlier = later if later in before else before[0]
    changed = [] if later == earlier else _changed(environments[earlier], environments[later])
    return Step(hardware_key=hardware, earlier=earlier, later=later, changed=tuple(changed))


def _changed(earlier: records.Environment, later: records.Environment) -> list[str]:
    before, after = labels.software(earlier), labels.software(later)
    names = dict.fromkeys([*before, *after])
    pairs = ((name, before.get(name, "none"), after.get(name, "none")) for name in names)
    return [f"{name}: {one} → {other}" for name, one, other in pairs if one != other]


def _twice(earlier: Sequence[ResultView], later: Sequence[ResultView], fresh: Sequence[ResultView]) -> Iterable[str]:
    shared = len(later) - len(fresh)
    if shared and earlier:
        what = (
            "1 result belongs to both sides and tells" if shared == 1 else f"{shared} results belong to both and tell"
        )
        yield f"{what} no change: measure again with --fresh"


def _left_out(
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
    steps: Sequence[Step],
    earlier: Sequence[ResultView],
    later: Sequence[ResultView],
) -> Iterable[str]:
    cpus = {view.hardware_key: labels.short_cpu(view.cpu or "") for view in (*earlier, *later)}
    for hardware in dict.fromkeys([*before, *after]):
        if (hardware in before) != (hardware in after):
            when = "then" if hardware in before else "now"
            yield f"{cpus[hardware]} (hardware {hardware[:8]}) was measured {when} only"
    for step in steps:
        for when, taken, keys in (("then", step.earlier, before), ("now", step.later, after)):
            more = [key[:8] for key in keys[step.hardware_key] if key != taken]
            if more:
                others = f"software {', '.join(more)} left out"
                yield f"{cpus[step.hardware_key]}, {when}: software {taken[:8]} counts, {others}"
