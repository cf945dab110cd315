"""Why a gain differs between two platforms: what differs there, from stored facts, and what may be inferred (pure).

Facts are what was measured or read: kernels that ran, instruction sets, ceilings, caches, threads, software. An
inference is marked as one: it follows from facts that go together with the difference, and does not prove a cause.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler import across, compare, labels, limits
from scheduler.across import Across, Cell, Column, Matrix
from scheduler.compare import Comparison
from storage import errors, metrics, records, strategies
from storage.views import ResultView

WITNESSES = (
    *("kernels", "operators", "nodes", "engine", "cpu_capability", "vectors", "runtime_requirements", "int8_sums"),
    *("reduce_range", "linear_types", "ran"),
)
"""Facts of a result that tell what really ran."""

MUCH = 1.15
"""Two ratios that differ by more than this are told apart."""

MOST = 10
"""Explanations, at most: the largest differences."""

SHORT = 120  # characters of a fact's value


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One case whose gain differs between two platforms, beyond both intervals."""

    model: str
    strategy: str
    shape: str  # input and threads
    baseline: str
    high: str  # name of the platform where more is gained
    low: str
    gain_high: float
    gain_low: float
    facts: tuple[str, ...]
    inferences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """A cell with everything that is known of it."""

    name: str
    found: Comparison
    view: ResultView
    platform: records.Platform
    ceilings: Any  # CeilingsMeasurement or None

    def facts(self, side: str) -> Mapping[str, Any]:
        """Facts of strategy or baseline, those of its artifact below them."""
        return facts_of(self.view, side)


def facts_of(view: ResultView, side: str) -> Mapping[str, Any]:
    """What a result tells of how its strategy or baseline ran, its artifact's facts below the others."""
    document = view.document.get(side) or {}
    return {**((document.get("artifact") or {}).get("facts") or {}), **(document.get("facts") or {})}


def ran_otherwise(earlier: ResultView, later: ResultView) -> list[str]:
    """`kernels of the strategy: … → …` for each witness that two results of one case both have, and that differs."""
    found = []
    for side in ("strategy", "baseline"):
        before, after = facts_of(earlier, side), facts_of(later, side)
        for name in WITNESSES:
            if name in before and name in after and before[name] != after[name]:
                what = f"{name.replace('_', ' ')} of the {side}"
                found.append(f"{what}: {_shown(before[name])} → {_shown(after[name])}")
    return found


def explain(beside: Across, views: Iterable[ResultView], known: limits.Known) -> list[Difference]:
    """The cases whose gains differ most between two platforms, the largest difference first."""
    by_id = {view.job_id: view for view in views}
    found = [
        _difference(model.name, matrix, *ends)
        for model in beside.models
        for matrix in model.gains
        for row in matrix.rows
        if (ends := _ends(model.columns, row, by_id, known)) is not None
    ]
    return sorted(found, key=lambda one: one.gain_low / one.gain_high)[:MOST]


def _ends(
    columns: Sequence[Column], row: across.Row, by_id: Mapping[str, ResultView], known: limits.Known
) -> tuple[_Side, _Side] | None:
    """The cells of the greatest and the least gain, where their intervals do not touch."""
    counted = [(column, cell) for column, cell in zip(columns, row.cells, strict=True) if _has_interval(cell)]
    if len(counted) < 2:
        return None
    ordered = sorted(counted, key=lambda pair: pair[1].found.gain or 0.0 if pair[1] else 0.0)
    (low_column, low), (high_column, high) = ordered[0], ordered[-1]
    if low is None or high is None or (low.found.gain_high or math.inf) >= (high.found.gain_low or 0.0):
        return None
    return _side(high_column, high.found, by_id, known), _side(low_column, low.found, by_id, known)


def _has_interval(cell: Cell | None) -> bool:
    return cell is not None and cell.counted and cell.found.gain_low is not None


def _side(column: Column, found: Comparison, by_id: Mapping[str, ResultView], known: limits.Known) -> _Side:
    measured = known.get(column.platform.hardware_key)
    return _Side(
        name=column.name,
        found=found,
        view=by_id[found.job_ids[0]],
        platform=column.platform,
        ceilings=None if measured is None else measured.measurement,
    )


def _difference(model: str, matrix: Matrix, high: _Side, low: _Side) -> Difference:
    return Difference(
        model=model,
        strategy=high.found.strategy,
        shape=compare.shape(matrix),
        baseline=matrix.baseline,
        high=high.name,
        low=low.name,
        gain_high=high.found.gain or 0.0,
        gain_low=low.found.gain or 0.0,
        facts=tuple(_facts(high, low)),
        inferences=tuple(_inferences(high, low)),
    )


def _facts(high: _Side, low: _Side) -> Iterator[str]:
    yield from _times(high, low)
    yield from _instruction_sets(high, low)
    for side in ("strategy", "baseline"):
        yield from _what_ran(side, high, low)
    yield from _limits(high, low)
    yield from _caches(high, low)
    if high.found.threads_observed != low.found.threads_observed:
        yield f"threads that burnt CPU: {_both(high, low, high.found.threads_observed, low.found.threads_observed)}"
    yield from labels.software_differences({one.name: one.platform.environment for one in (high, low)})


def _times(high: _Side, low: _Side) -> Iterator[str]:
    for what, name in (("baseline", "baseline_latency_p50_s"), ("strategy", "latency_p50_s")):
        values = [metrics.seconds(getattr(one.found, name)) for one in (high, low)]
        yield f"p50 of the {what}: {_both(high, low, *values)}"


def _instruction_sets(high: _Side, low: _Side) -> Iterator[str]:
    for one, other in ((high, low), (low, high)):
        alone = set(one.platform.hardware.isa) - set(other.platform.hardware.isa)
        if alone:
            yield f"instruction sets of {one.name} alone: {', '.join(sorted(alone))}"


def _what_ran(side: str, high: _Side, low: _Side) -> Iterator[str]:
    """Witnesses that differ; a fact that only one of the two tells is no difference."""
    one, other = high.facts(side), low.facts(side)
    for name in WITNESSES:
        if name in one and name in other and one[name] != other[name]:
            yield f"{name.replace('_', ' ')} of the {side}: {_both(high, low, _shown(one[name]), _shown(other[name]))}"


def _limits(high: _Side, low: _Side) -> Iterator[str]:
    threads = high.found.threads
    if high.ceilings is None or low.ceilings is None or threads is None:
        return
    for arithmetic in ("fp32", "bf16", "int8"):
        rates = [_product(one, arithmetic) for one in (high, low)]
        if rates[0] and rates[1] and not _alike(rates[0], rates[1]):
            unit = "GOP/s" if arithmetic == "int8" else "GFLOP/s"
            values = [f"{metrics.three(rate / 1e9)} {unit}" for rate in rates if rate]
            yield f"{arithmetic} products at most, {metrics.counted(threads, 'thread')}: {_both(high, low, *values)}"


def _caches(high: _Side, low: _Side) -> Iterator[str]:
    sizes = [one.platform.hardware.cache_bytes.get("l3") for one in (high, low)]
    if sizes[0] != sizes[1]:
        yield f"last-level cache: {_both(high, low, *(metrics.bytes_(size) for size in sizes))}"


def _inferences(high: _Side, low: _Side) -> Iterator[str]:
    yield from _whose(high, low)
    yield from _lacking(high, low)
    yield from _arithmetic(high, low)
    yield from _working_set(high, low)


def _whose(high: _Side, low: _Side) -> Iterator[str]:
    """Which side's times differ more: a fast baseline makes small gains too."""
    times = [
        (one.found.baseline_latency_p50_s, one.found.latency_p50_s) for one in (high, low)
    ]  # [(baseline, strategy), …]
    if not all(value for pair in times for value in pair):
        return
    (base_high, own_high), (base_low, own_low) = ((a or 1.0, b or 1.0) for a, b in times)
    base, own = base_high / base_low, own_low / own_high
    if base > MUCH and base > own:
        yield f"mostly the baseline's doing: it is {metrics.ratio(base)} slower on {high.name}"
    elif own > MUCH:
        yield f"mostly the strategy's doing: it is {metrics.ratio(own)} slower on {low.name}"


def _lacking(high: _Side, low: _Side) -> Iterator[str]:
    parsed = _parsed(high.found.strategy)
    if parsed is None:
        return
    caution = strategies.caution(parsed, low.platform.hardware)
    if caution and not strategies.caution(parsed, high.platform.hardware):
        yield f"on {low.name} {caution}"


def _arithmetic(high: _Side, low: _Side) -> Iterator[str]:
    """What the ceilings alone would make of the gain: the ratio of the strategy's arithmetic to the baseline's."""
    own, base = _arithmetic_of(high.found.strategy), _arithmetic_of(high.found.baseline)
    if own is None or base is None or own == base:
        return
    ratios = []
    for one in (high, low):
        above, below = _product(one, own), _product(one, base)
        if not above or not below:
            return
        ratios.append(above / below)
    if ratios[0] > MUCH * ratios[1]:
        values = [metrics.ratio(ratio) for ratio in ratios]
        yield f"{own} products are faster than {base} ones by {_both(high, low, *values)}: gains follow that"


def _working_set(high: _Side, low: _Side) -> Iterator[str]:
    size = high.view.baseline_artifact_bytes
    caches = [one.platform.hardware.cache_bytes.get("l3") for one in (high, low)]
    if size is None or None in caches:
        return
    fits = [size <= (cache or 0) for cache in caches]
    if fits[0] != fits[1]:
        where = high.name if fits[0] else low.name
        yield f"the baseline's {metrics.bytes_(size)} fit into the last-level cache on {where} alone"


def _product(one: _Side, arithmetic: str) -> float | None:
    threads = one.found.threads
    return None if one.ceilings is None or threads is None else limits.ops_per_s(one.ceilings, arithmetic, threads)


def _arithmetic_of(text: str) -> str | None:
    parsed = _parsed(text)
    return None if parsed is None or parsed.arithmetic is None else parsed.arithmetic.products


def _parsed(text: str) -> strategies.Strategy | None:
    """None for a tensor operation."""
    try:
        return strategies.parse(text)
    except errors.StrategyError:
        return None


def _alike(one: float, other: float) -> bool:
    return max(one, other) / min(one, other) <= MUCH


def _both(high: _Side, low: _Side, one: Any, other: Any) -> str:
    return f"{one} on {high.name}, {other} on {low.name}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
