"""Results as pyperf's JSON (file format 1.0), a file for each strategy on each platform and one of its baseline (pure).

A run is a measured process, a value the time of one of its legs in seconds of one call, as our own gains take it;
benchmarks are called by their case, so that `pyperf compare_to X.baseline.json X.json` finds the same names on both
sides. pyperf's t test needs as many values on one side as on the other, which holds for legs and not for samples. What
it says of the two is unpaired: the gain from rounds in turn, with its interval, stands in the metadata.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from scheduler import compare
from scheduler.interop.pyperf import FORMAT, OURS, UNIT
from storage import foreign, records
from storage import statistics as estimates
from storage.views import ResultView

KINDS = frozenset({"latency", "throughput", "tensor"})
"""Kinds whose samples are single calls; a server's are of several rates, and count from a request's arrival."""

Legs = Callable[[str], Sequence[records.Leg]]

Document = dict[str, Any]


def usable(view: ResultView) -> bool:
    """Whether a result has samples that pyperf has a place for."""
    return view.state == "done" and view.kind in KINDS


def files(
    views: Iterable[ResultView], platforms: Mapping[str, records.Platform], legs: Legs, *, samples: bool = False
) -> dict[str, Document]:
    """File name → its content; results without stored samples are left out.

    `samples`: every sample is a value; so is it always for results of other tools, which have no legs.
    """
    groups: dict[tuple[str, str, str], list[ResultView]] = {}
    for view in views:
        groups.setdefault((view.platform_key, view.strategy, view.baseline), []).append(view)
    taken: dict[str, Document] = {}
    for (platform_key, strategy, baseline), part in groups.items():
        several = len({key for key in groups if key[:2] == (platform_key, strategy)}) > 1
        stem = f"{platform_key[:8]}.{_slug(strategy)}" + (f".over-{_slug(baseline)}" if several else "")
        sides = {"strategy": (strategy, ""), "baseline": (baseline, ".baseline")}
        for side, (name, tail) in sides.items():
            found = _file(part, side, name, platforms.get(platform_key), legs, samples)
            if found is not None:
                taken[_free(f"{stem}{tail}", taken)] = found
    return taken


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", name).strip("-.") or "unnamed"


def _free(stem: str, taken: Mapping[str, Document]) -> str:
    """A file name that nobody has: two strategies may have one slug."""
    number = 1
    while (name := f"{stem}{f'-{number}' if number > 1 else ''}.json") in taken:
        number += 1
    return name


def _file(
    views: Sequence[ResultView],
    side: str,
    strategy: str,
    platform: records.Platform | None,
    legs: Legs,
    samples: bool,
) -> Document | None:
    cases: dict[str, list[ResultView]] = {}
    for view in views:
        cases.setdefault(_name(view, views), []).append(view)
    found = [one for name, part in cases.items() if (one := _benchmark(name, part, side, legs, samples)) is not None]
    if not found:
        return None
    metadata = {**_machine(platform, views), "unit": UNIT, "quantfleet_strategy": strategy, "quantfleet_side": side}
    return {"version": FORMAT, "metadata": _texts(metadata), "benchmarks": found}


def _name(view: ResultView, beside: Iterable[ResultView]) -> str:
    """`minilm, b1×l16, 1 thread`, with the content's digest where one name stands for several."""
    name = f"{view.model}, {compare.shape(view)}"
    contents = {other.model_digest for other in beside if other.model == view.model}
    return name if len(contents) == 1 else f"{name}, model {view.model_digest or 'unknown'}"


def _benchmark(name: str, views: Sequence[ResultView], side: str, legs: Legs, samples: bool) -> Document | None:
    """The runs of all jobs of a case; None where no samples are stored."""
    runs = [
        run
        for view in views
        for run in _runs([leg for leg in legs(view.job_id) if leg.side == side], samples or foreign.FLAG in view.flags)
    ]
    if not runs:
        return None
    newest = max(views, key=lambda view: view.finished_at or 0.0)
    # no field of these may be empty, and a tool that reads this file must know where it is from
    metadata = {
        "name": name,
        OURS: " ".join(view.job_id for view in views),
        "quantfleet_gain": _gain(newest),
        "quantfleet_model_digest": newest.model_digest,
        "quantfleet_input_digest": newest.input_digest,
        "quantfleet_flags": " ".join(sorted({flag for view in views for flag in view.flags})),
    }
    return {"metadata": _texts(metadata), "runs": runs}


def _runs(legs: Iterable[records.Leg], samples: bool) -> Iterator[Document]:
    """One run for each process: a pair's, and of processes side by side each one's."""
    processes: dict[tuple[int, int], list[records.Leg]] = {}
    for leg in legs:
        processes.setdefault((leg.pair, leg.instance), []).append(leg)
    for part in processes.values():
        values = [value for leg in part for value in (_samples(leg) if samples else _leg(leg))]
        if values:
            yield {"metadata": _run(part), "values": values}


def _samples(leg: records.Leg) -> list[float]:
    return [max(1, value) * 1e-9 / leg.repeats for value in leg.samples_ns]


def _leg(leg: records.Leg) -> list[float]:
    if len(leg.samples_ns) < leg.items:  # it was cut short: not all of its calls came
        return []
    return [max(1.0, estimates.leg_time_ns(leg.samples_ns, leg.items)) * 1e-9 / leg.repeats]


def _run(legs: Sequence[records.Leg]) -> Document:
    started = min(leg.started_at for leg in legs)
    when = datetime.datetime.fromtimestamp(started, datetime.UTC).replace(tzinfo=None)
    repeats = {leg.repeats for leg in legs}
    duration = math.fsum(value * 1e-9 for leg in legs for value in leg.samples_ns)
    dated = {"date": when.isoformat(" ", "microseconds")} if started > 0 else {}
    return {**dated, "duration": duration, "loops": repeats.pop() if len(repeats) == 1 else 1}


def _machine(platform: records.Platform | None, views: Sequence[ResultView]) -> dict[str, Any]:
    """What pyperf calls the machine's facts; unknown ones are left out."""
    hosts = " ".join(sorted({view.host for view in views if view.host}))
    if platform is None:
        return {"hostname": hosts}
    hardware, environment = platform.hardware, platform.environment
    known = {name: f"{name} {version}" for name, version in environment.packages.items()}
    return {
        "hostname": hosts,
        "cpu_model_name": hardware.cpu,
        "cpu_machine": hardware.architecture,
        "cpu_count": hardware.logical_cores or None,
        "platform": f"Linux-{environment.kernel}-{hardware.architecture}",
        "python_version": environment.python,
        "quantfleet_hardware": platform.hardware_key,
        "quantfleet_environment": platform.environment_key,
        "quantfleet_packages": ", ".join(known[name] for name in sorted(known)),
        "quantfleet_origin": foreign.told_by(platform),
    }


def _gain(view: ResultView) -> str | None:
    if view.gain is None:
        return None
    if view.gain_low is None or view.gain_high is None:
        return f"{view.gain:.4g}"
    return f"{view.gain:.4g} [{view.gain_low:.4g}, {view.gain_high:.4g}]"


def _texts(metadata: Mapping[str, Any]) -> Document:
    """Without what is unknown; texts on one line, for pyperf refuses others."""
    lines = {name: " ".join(value.split()) if isinstance(value, str) else value for name, value in metadata.items()}
    return {name: value for name, value in lines.items() if value not in (None, "")}
