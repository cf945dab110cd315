"""How far a result is from what its machine can do: floors from ceilings, derived when results are read (pure).

The roofline model (Williams, Waterman and Patterson, CACM 2009): a call takes at least the time of its operations at
the machine's best rate, and at least the time of moving its bytes. Both rates are maxima, operations and bytes are
lower bounds (`storage.work`), so that a floor is a lower bound; where a ceiling was taken on a busy machine it may be
too low, and a share of the limit too high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scheduler.compare import Comparison, changed
from storage import wide
from storage.ceilings import CeilingsMeasurement
from storage.views import CeilingsView, ResultView

Bound = Literal["compute", "memory"]
Known = Mapping[str, CeilingsView]
"""The newest ceilings by hardware key."""

MAY_USE: Mapping[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "bf16": ("bf16", "fp32"),
    "int8": ("int8", "fp32"),
}
"""Arithmetic → ceilings of which the best counts: a kernel may always widen its values to float32, and does where a
CPU has no instructions for them. Float16 is missing: nothing of it is measured, so that it has no floor."""


_changed_view = wide.changer(ResultView)

DISTURBED = (
    "this machine's ceilings were taken while other load disturbed it, so that its share of the limit may be less: "
    "quantfleet hardware calibrate --fresh"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The least time of one call, and what binds it."""

    seconds: float
    bound: Bound


def floor(
    measured: CeilingsMeasurement, arithmetic: str, ops: float, bytes_: float, threads: int, instances: int = 1
) -> Floor | None:
    """The least seconds in which each of `instances` processes of `threads` threads does a call, all at once.

    Each instance has weights of its own, so operations and bytes count for each, against the ceilings of all their
    threads together. What is read at each call is its working set: where that fits into a cache, the cache's rate is
    the ceiling. None where the ceilings lack something.
    """
    together = threads * instances
    rate = ops_per_s(measured, arithmetic, together)
    speed = bytes_per_s(measured, instances * bytes_, together)
    if rate is None or speed is None:
        return None
    compute, memory = instances * ops / rate, instances * bytes_ / speed
    return Floor(seconds=max(compute, memory), bound="compute" if compute >= memory else "memory")


def ops_per_s(measured: CeilingsMeasurement, arithmetic: str, threads: int) -> float | None:
    """The best rate of matrix products that a precision may use on so many threads."""
    rates: dict[int, float] = {}
    for one in measured.products:
        if one.precision in MAY_USE.get(arithmetic, ()):
            rates[one.threads] = max(rates.get(one.threads, 0.0), one.ops_per_s)
    return _at(rates, threads)


def bytes_per_s(measured: CeilingsMeasurement, set_bytes: float, threads: int) -> float | None:
    """The best rate of reading a working set of that size again and again with so many threads.

    The next smaller set that was measured stands for it, or a larger one that was read faster: noise only slows.
    """
    reads = [one for one in measured.bandwidths if one.operation == "read"]
    least = max((one.set_bytes for one in reads if one.set_bytes <= set_bytes), default=0)
    rates: dict[int, float] = {}
    for one in reads:
        if one.set_bytes >= least:
            rates[one.threads] = max(rates.get(one.threads, 0.0), one.bytes_per_s)
    return _at(rates, threads)


def share_of_throughput(
    measured: CeilingsMeasurement, work: Mapping[str, Any], batch: int, threads: int, instances: int, rows_per_s: float
) -> tuple[Floor, float] | None:
    """The floor of one call of each instance, and the share of the limit that rows per second over all reach."""
    found = floor(measured, work["arithmetic"], work["ops_mean"], work["bytes_mean"], threads, instances)
    return None if found is None else (found, found.seconds * rows_per_s / (batch * instances))


def results(views: Iterable[ResultView], known: Known) -> list[ResultView]:
    """The results with their floors and shares, where their hardware has ceilings and the model's work is known."""
    floors = _once()
    return [_changed_view(view, **found) if (found := _limits(view, known, None, floors)) else view for view in views]


def comparisons(rows: Sequence[Comparison], views: Iterable[ResultView], known: Known) -> list[Comparison]:
    """The same for compared rows, whose latencies may be medians over several jobs: the newest job's work counts."""
    if not known:
        return list(rows)
    by_id, floors = {view.job_id: view for view in views}, _once()
    return [_compared(row, by_id[row.job_ids[0]], known, floors) for row in rows]


def _once() -> Callable[..., Floor | None]:
    """`floor`, computed once for each call on each machine: many rows are of the same one."""
    known: dict[tuple[Any, ...], Floor | None] = {}

    def once(measured: CeilingsMeasurement, *asked: Any) -> Floor | None:
        key = (id(measured), *asked)  # the caller holds them all meanwhile
        if key not in known:
            known[key] = floor(measured, *asked)
        return known[key]

    return once


def _compared(row: Comparison, view: ResultView, known: Known, floors: Callable[..., Floor | None]) -> Comparison:
    found = _limits(view, known, row, floors)
    if not found:
        return row
    if "disturbed" in known[row.hardware_key].measurement.flags:
        return changed(row, **found, notes=(*row.notes, DISTURBED))
    return changed(row, **found)


def _limits(
    view: ResultView,
    known: Known,
    shown: ResultView | Comparison | None = None,
    floors: Callable[..., Floor | None] = floor,
) -> dict[str, Any]:
    """The fields of a row; `shown`: whose latencies count, the view's own where it is not given."""
    ceilings, shown = known.get(view.hardware_key or ""), shown or view
    if ceilings is not None and view.kind == "throughput":
        return _under_load(view, ceilings.measurement, shown)
    if ceilings is None or view.kind != "latency" or view.threads is None or shown.latency_p50_s is None:
        return {}
    own, other = (_side_floor(view, side, ceilings.measurement, floors) for side in ("strategy", "baseline"))
    return {
        "floor_s": own and own.seconds,
        "limit_share": _share(own, shown.latency_p50_s),
        "bound": own and own.bound,
        "baseline_limit_share": _share(other, shown.baseline_latency_p50_s),
    }


def _under_load(view: ResultView, measured: CeilingsMeasurement, shown: ResultView | Comparison) -> dict[str, Any]:
    """The same of rows per second: what one call takes at least while every instance is at work."""
    own = _side_under_load(view, "strategy", measured, shown.throughput_per_s)
    other = _side_under_load(view, "baseline", measured, shown.baseline_throughput_per_s)
    return {
        "floor_s": own and own[0].seconds,
        "limit_share": own and own[1],
        "bound": own and own[0].bound,
        "baseline_limit_share": other and other[1],
    }


def _side_under_load(
    view: ResultView, side: str, measured: CeilingsMeasurement, rows_per_s: float | None
) -> tuple[Floor, float] | None:
    facts, load = view.document.get(side) or {}, view.document.get(f"{side}_load") or {}
    work = (facts.get("facts") or {}).get("work")
    if work is None or not rows_per_s:
        return None
    instances = len(load["each_per_s"])
    return share_of_throughput(measured, work, view.batch or 1, facts["threads_set"], instances, rows_per_s)


def _side_floor(
    view: ResultView, side: str, measured: CeilingsMeasurement, floors: Callable[..., Floor | None]
) -> Floor | None:
    """The floor of a side's middle call; None for results of older versions, or where a model could not be probed."""
    work = ((view.document.get(side) or {}).get("facts") or {}).get("work")
    if work is None or view.threads is None:
        return None
    return floors(measured, work["arithmetic"], work["ops"], work["bytes"], view.threads)


def _share(found: Floor | None, seconds: float | None) -> float | None:
    return None if found is None or not seconds else found.seconds / seconds


def _at(rates: Mapping[int, float], threads: int) -> float | None:
    """An upper bound of the rate of so many threads, from those that were measured.

    More threads never lower a ceiling: they may rest. Between two counts neither that many single threads nor the
    next larger count are exceeded.
    """
    if not rates:
        return None
    best = {count: max(rate for other, rate in rates.items() if other <= count) for count in sorted(rates)}
    if threads in best:
        return best[threads]
    above = [count for count in best if count > threads]
    most = best[min(above)] if above else max(best.values())
    least = min(best)
    return min(most, best[least] * threads / least) if above else most
