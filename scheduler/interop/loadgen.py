"""MLPerf LoadGen: `mlperf_log_summary.txt` and `mlperf_log_detail.txt` of one run, every time in nanoseconds.

The detail log has a JSON object a line behind `:::MLLOG`; the summary has `name : value` for people, from which the
same numbers are read again, so that logs of two runs are never taken for one. LoadGen keeps no samples in them, and
nothing of the machine. Its percentiles are order statistics without interpolation.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.interop import entries
from scheduler.interop.entries import Entry
from storage import errors, records

TOOL = "loadgen"

SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"

MARK = ":::MLLOG "

Detail = Mapping[str, Any]

_CHECKS = {
    "result_min_duration_met": "shorter than its least duration",
    "result_min_queries_met": "fewer queries than its least number",
    "result_perf_constraints_met": "its latency bound is not kept",
    "early_stopping_met": "too few queries to be sure of its percentile",
}
"""Key of the detail log → what it means where it is false."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """How a scenario's numbers are to be read."""

    kind: records.Kind
    query: bool  # latencies are of a query of several samples, not of a sample
    rate: str | None  # the key of samples per second; None: from the mean latency


SCENARIOS: Mapping[str, Scenario] = {
    "SingleStream": Scenario(kind="latency", query=False, rate=None),
    "MultiStream": Scenario(kind="latency", query=True, rate=None),
    "Server": Scenario(kind="server", query=False, rate="result_completed_samples_per_sec"),
    "Offline": Scenario(kind="throughput", query=False, rate="result_samples_per_second"),
}


def mine(path: Path) -> bool:
    """Whether this is a folder of this tool's logs, or one of them."""
    return (path.is_dir() and any((path / name).exists() for name in (SUMMARY, DETAIL))) or is_log(path)


def is_log(path: Path) -> bool:
    """Whether a file has the name of one of the logs."""
    return path.name in (SUMMARY, DETAIL)


def read(path: Path) -> list[Entry]:
    """The run of a folder, or of the folder that one of its logs is in.

    Raises ForeignError for a missing log, for logs that are cut off or of two runs, and for an accuracy run.
    """
    folder = path if path.is_dir() else path.parent
    for name, other in ((SUMMARY, DETAIL), (DETAIL, SUMMARY)):
        if not (folder / name).is_file():
            raise errors.ForeignError(f"{folder}: {name} is missing beside {other}; both logs of a run are needed")
    detail = _detail(folder / DETAIL)
    summary = _summary(folder / SUMMARY)
    name = str(_told(folder, detail, "effective_scenario", str))
    scenario = SCENARIOS.get(name)
    if scenario is None:
        known = ", ".join(SCENARIOS)
        raise errors.ForeignError(f"{folder / DETAIL}: scenario {name!r} is unknown (LoadGen has {known})")
    _same_run(folder, name, summary, detail)
    return [_entry(folder, name, scenario, summary, detail)]


def _detail(path: Path) -> dict[str, Any]:
    """The newest value of each key."""
    found: dict[str, Any] = {}
    for number, line in enumerate(entries.text(path).splitlines(), start=1):
        if not line.startswith(MARK):
            continue
        try:
            told = json.loads(line[len(MARK) :])
            found[told["key"]] = told["value"]
        except (json.JSONDecodeError, KeyError, TypeError) as exc:
            # git's log message stands there unescaped in some builds; the numbers come after it
            if number > 12 or "git" not in line:
                raise errors.ForeignError(f"{path}: line {number} is cut off or damaged") from exc
    if not found:
        raise errors.ForeignError(f"{path}: no line begins with {MARK.strip()}: not LoadGen's detail log of version 1")
    if "result_validity" not in found:
        raise errors.ForeignError(f"{path}: no result_validity: the run did not end, or was of another mode")
    return found


def _summary(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in entries.text(path).splitlines())
    found = {" ".join(name.split()): value.strip() for name, colon, value in lines if colon}
    if "Scenario" not in found or "Result is" not in found:
        raise errors.ForeignError(f"{path}: no scenario and result: cut off, or not LoadGen's summary")
    return found


def _told(folder: Path, detail: Detail, key: str, kind: type[Any]) -> Any:
    return entries.part(folder / DETAIL, "", detail, key, kind)


def _same_run(folder: Path, scenario: str, summary: Mapping[str, str], detail: Detail) -> None:
    """ForeignError where the two logs tell different things, or other units than nanoseconds."""
    words = [name for name in summary if "latency" in name and "(" in name and name != "target_latency (ns)"]
    strange = [name for name in words if "(ns)" not in name]
    if strange:
        raise errors.ForeignError(f"{folder / SUMMARY}: {strange[0]!r} is not in nanoseconds, as LoadGen writes")
    if summary["Scenario"] != scenario:
        raise _two_runs(folder, "the scenario", summary["Scenario"], scenario)
    for name, key in (
        ("Mean latency (ns)", _key("mean", query=scenario == "MultiStream")),
        *_percentile_names(scenario),
    ):
        own, other = summary.get(name), detail.get(key)
        if own is not None and other is not None and own != str(other):
            raise _two_runs(folder, name, own, other)


def _percentile_names(scenario: str) -> list[tuple[str, str]]:
    query = scenario == "MultiStream"
    return [(f"{100 * q:.2f} percentile latency (ns)", _key(q, query=query)) for q in entries.QUANTILES]


def _two_runs(folder: Path, what: str, own: Any, other: Any) -> errors.ForeignError:
    return errors.ForeignError(
        f"{folder}: the logs are of two runs, or one was edited: {what} is {own} in {SUMMARY}, {other} in {DETAIL}"
    )


def _key(what: float | str, *, query: bool) -> str:
    """The detail log's key of a latency: `result_90.00_percentile_latency_ns`, `result_mean_query_latency_ns`."""
    if isinstance(what, str):
        return f"result_{what}_{'query_' if query else ''}latency_ns"
    return f"result_{100 * what:.2f}_percentile_{'per_query_' if query else ''}latency_ns"


def _seconds(folder: Path, detail: Detail, key: str) -> float:
    """A latency in seconds; ForeignError for one that is missing or not whole nanoseconds."""
    value = _told(folder, detail, key, int)
    return entries.positive(folder / DETAIL, key, value) * 1e-9


def _entry(folder: Path, name: str, scenario: Scenario, summary: Mapping[str, str], detail: Detail) -> Entry:
    waits = scenario.kind == "throughput"  # latencies count from the start of all
    mean_s = _seconds(folder, detail, _key("mean", query=scenario.query))
    batch = (entries.whole(detail.get("effective_samples_per_query")) or 1) if scenario.query else 1
    rate = batch / mean_s if scenario.rate is None else _rate(folder, detail, scenario.rate)
    found = {} if waits else {q: _seconds(folder, detail, _key(q, query=scenario.query)) for q in entries.QUANTILES}
    centre: Mapping[records.Kind, Callable[[], float | None]] = {
        "latency": lambda: found[0.5],
        "throughput": lambda: 1 / rate,
        "server": lambda: mean_s if detail["result_validity"] == "VALID" else None,
    }
    version = entries.word(detail.get("loadgen_version"))
    return Entry(
        tool=TOOL,
        version=None if version is None else version.split()[0],
        file=folder.resolve().name,
        name=entries.word(detail.get("sut_name")) or name,
        digest=entries.digest(TOOL, _measured(detail)),
        machine=entries.Machine(),
        kind=scenario.kind,
        strategy=folder.resolve().name or TOOL,
        batch=None if waits else batch,
        input=_label(name, detail),
        quantiles_s=found,
        centre_s=centre[scenario.kind](),
        count=_told(folder, detail, "result_query_count", int),
        throughput_per_s=rate,
        measured_at=_epoch(detail.get("test_datetime")),
        facts=_facts(summary, detail),
        notes=tuple(_notes(name, detail)),
    )


def _rate(folder: Path, detail: Detail, key: str) -> float:
    return entries.positive(folder / DETAIL, key, _told(folder, detail, key, (int, float)))  # type: ignore[arg-type]


def _label(name: str, detail: Detail) -> str:
    """`SingleStream`, or `Server, 100/s`: runs at two rates are two cases."""
    rate = detail.get("effective_target_qps")
    return f"{name}, {rate:g}/s" if name == "Server" and isinstance(rate, (int, float)) else name


def _measured(detail: Detail) -> dict[str, Any]:
    """What makes a run itself: its results, and when it was."""
    return {key: value for key, value in detail.items() if key.startswith(("result_", "test_datetime"))}


def _facts(summary: Mapping[str, str], detail: Detail) -> dict[str, str]:
    found = {
        "scenario": summary["Scenario"],
        "mode": summary.get("Mode"),
        "result": detail.get("result_validity"),
        "sut": detail.get("sut_name"),
        "qsl": detail.get("qsl_name"),
        "loadgen_version": detail.get("loadgen_version"),
    }
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def _notes(name: str, detail: Detail) -> list[str]:
    """What LoadGen itself objects to, and what the numbers are of."""
    notes = []
    if detail["result_validity"] != "VALID":
        failed = [words for key, words in _CHECKS.items() if detail.get(key) is False]
        reason = " ".join(str(detail.get("result_invalid_reason", "")).split()) or ", ".join(failed)
        notes.append(f"LoadGen calls this run {detail['result_validity']}" + (f": {reason}" if reason else ""))
    if name == "Offline":
        notes.append("Offline: a rate only; its latencies count from the start of the whole run")
    if math.isfinite(count := float(detail.get("num_errors") or 0)) and count:
        notes.append(f"LoadGen logged {count:g} errors")
    return notes


def _epoch(date: Any) -> float | None:
    """Epoch seconds of `2026-01-31T12:00:00Z`; None for what is none."""
    if not isinstance(date, str) or not re.match(r"\d{4}-\d\d-\d\dT", date):
        return None
    try:
        when = datetime.datetime.fromisoformat(date)
    except ValueError:
        return None
    return when.replace(tzinfo=when.tzinfo or datetime.UTC).timestamp()
