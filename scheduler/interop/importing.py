"""Entries of other tools' files → foreign results: named, brought together by case, with unpaired gains (pure)."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from scheduler.interop import entries as reading
from scheduler.interop import unpaired
from scheduler.interop.entries import Entry
from storage import errors, foreign, keys, lifecycle, records
from storage.foreign import UNKNOWN, ForeignMeasurement, ForeignResult, ForeignSide, Known, Origin

NO_BASELINE = "no baseline"
"""What stands where a foreign result has none: no strategy is called so."""

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """What the person says of the files, beyond what they tell. None: what they tell."""

    model: str | None = None
    strategies: tuple[str, ...] = ()  # NAME for all, or FILE=NAME, BENCHMARK=NAME
    baseline: str | None = None  # a strategy of the files
    threads: int | None = None
    batch: int | None = None
    length: int | None = None
    host: str | None = None  # of the machine


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    """An entry with everything that a case needs."""

    entry: Entry
    case: records.Case
    label: str
    platform: records.Platform

    @property
    def beside(self) -> tuple[object, ...]:
        """What a baseline and a strategy must share."""
        case = self.case
        return self.platform.key, case.kind, case.model.name, case.threads, self.label


def results(found: Sequence[Entry], names: Names) -> list[ForeignResult]:
    """One result for each case: runs of one case in several files are processes of one result.

    Raises ForeignError where names fit no entry, contradict a file, or make one case of two benchmarks of a file.
    """
    strategies = _strategies(found, names.strategies)
    if names.baseline is not None and names.baseline not in strategies.values():
        known = ", ".join(sorted(set(strategies.values())))
        near = errors.nearest(names.baseline, strategies.values())
        raise errors.ForeignError(f"--baseline: no file holds {names.baseline!r}{near} (they hold {known})")
    unknown = keys.digest(sorted(entry.digest for entry in found if not _tells_machine(entry)))
    named = [_named(entry, strategies[entry.digest], names, unknown) for entry in found]
    groups: dict[tuple[object, ...], list[_Named]] = {}
    for one in named:
        groups.setdefault((*one.beside, one.case.strategy), []).append(one)
    for group in groups.values():
        _check_apart(group)
    return [_result(group, groups.get((*group[0].beside, names.baseline)), names) for group in groups.values()]


def study(found: Sequence[Entry], name: str | None) -> lifecycle.StudyText:
    """The study that holds the results: what was imported, a line each."""
    tools = "+".join(sorted({entry.tool for entry in found}))
    lines = [
        json.dumps({"tool": _tool(entry), "file": entry.file, "benchmark": entry.name, "digest": entry.digest})
        for entry in sorted(found, key=lambda entry: entry.digest)
    ]
    text = "\n".join(["# imported results of other tools; not a study that can be run", *lines, ""])
    return lifecycle.StudyText(name=f"{foreign.STUDY}{name or tools}", text=text)


def check(results: Iterable[ForeignResult], known: Sequence[Known]) -> list[str]:
    """Job ids of the results that are stored already, as they are; ForeignError for one stored otherwise."""
    there = {digest: one for one in known for digest in one.digests}
    same = []
    for result in results:
        origin, case = result.measurement.origin, result.case
        stored = next((there[digest] for digest in origin.digests if digest in there), None)
        if stored is None:
            continue
        named = (case.model.name, case.strategy, case.baseline, case.threads, result.label)
        measured = (sorted(stored.digests), sorted(stored.baseline_digests))
        if stored.named != named or measured != (sorted(origin.digests), sorted(origin.baseline_digests)):
            raise errors.ForeignError(_other(origin, stored, named))
        same.append(stored.job_id)
    return same


def _other(origin: Origin, stored: Known, named: tuple[object, ...]) -> str:
    fields = ("model", "strategy", "baseline", "threads", "input")
    pairs = [(field, a, b) for field, a, b in zip(fields, stored.named, named, strict=True) if a != b]
    differs = "; ".join(f"{field} was {a or UNKNOWN}, now {b or UNKNOWN}" for field, a, b in pairs)
    return (
        f"{', '.join(origin.files)}: imported before, into {stored.study}, "
        f"{differs or 'together with other files'}; `quantfleet interop remove {stored.study}` takes it back, "
        "then import it anew"
    )


def _strategies(found: Sequence[Entry], wanted: Iterable[str]) -> dict[str, str]:
    """Digest of each entry → its strategy's name."""
    chosen = {entry.digest: entry.strategy for entry in found}
    for text in wanted:
        word, equals, name = text.partition("=")
        meant = [entry for entry in found if _means(word, entry)] if equals and name else []
        if not meant and equals and ":" not in word:
            words = [word for entry in found for word in _words(entry)]
            near = errors.nearest(word, words)
            raise errors.ForeignError(f"--strategy {text}: no file or benchmark is called {word!r}{near}")
        chosen |= {entry.digest: name if meant else text for entry in (meant or found)}
    return chosen


def _means(word: str, entry: Entry) -> bool:
    return word in _words(entry) or word.endswith(f"/{entry.file}")


def _words(entry: Entry) -> tuple[str, ...]:
    """What an entry may be called by in `--strategy WORD=NAME`."""
    folder = entry.file.rpartition("/")[0]
    return tuple(word for word in (entry.file, folder, entry.name, entry.strategy) if word)


def _named(entry: Entry, strategy: str, names: Names, unknown: str) -> _Named:
    batch = _told(entry, "batch", names.batch, entry.batch)
    length = _told(entry, "length", names.length, entry.length)
    spec = None if batch is None or length is None else records.InputSpec(batch=batch, length=length)
    model = names.model or entry.model or UNKNOWN
    case = records.Case(
        kind=entry.kind,
        model=records.ModelRef(name=model, source="none", location=f"{entry.tool}: {model}"),
        strategy=strategy,
        baseline=names.baseline or NO_BASELINE,
        threads=_told(entry, "threads", names.threads, entry.threads),
        input=spec,
    )
    return _Named(entry=entry, case=case, label=_label(entry, spec, batch), platform=_platform(entry, names, unknown))


def _label(entry: Entry, spec: records.InputSpec | None, batch: int | None) -> str:
    """As ours where batch and length are known; the tool's words tell rates and scenarios apart."""
    words = entry.input or entry.name
    if spec is None:
        return f"{words}, batch {batch}" if batch and batch > 1 else words
    return spec.label() if entry.kind == "latency" else f"{spec.label()}, {words}"


def _told(entry: Entry, what: str, given: int | None, told: int | None) -> int | None:
    if given is not None and told is not None and given != told:
        raise errors.ForeignError(f"--{what} {given}: {entry.file} says {told}")
    return given if told is None else told


def _tells_machine(entry: Entry) -> bool:
    return entry.machine.cpu is not None or entry.machine.host is not None


def _tool(entry: Entry) -> str:
    return entry.tool if entry.version is None else f"{entry.tool} {entry.version}"


def _platform(entry: Entry, names: Names, unknown: str) -> records.Platform:
    """What the file tells of its machine. Two machines of which nothing is told are one only within an import."""
    told = entry.machine
    settings = {foreign.TOLD_BY: _tool(entry)}
    if told.device is not None:
        settings["device"] = told.device
    if not _tells_machine(entry):
        settings["machine"] = names.host or f"{UNKNOWN}, import {unknown[:8]}"
    hardware = records.Hardware(
        cpu=told.cpu or UNKNOWN,
        vendor=UNKNOWN,
        family=None,
        model=None,
        stepping=None,
        architecture=told.architecture or UNKNOWN,
        isa=(),
        physical_cores=0,
        logical_cores=told.logical_cores or 0,
        memory_gib=0 if told.memory_bytes is None else round(told.memory_bytes / GIB),
        virtualization=UNKNOWN,
    )
    environment = records.Environment(
        python=told.python or UNKNOWN,
        packages=told.packages,
        kernel=told.kernel or UNKNOWN,
        settings=settings,
    )
    return foreign.platform(hardware, environment)


def _check_apart(group: Sequence[_Named]) -> None:
    """ForeignError where two benchmarks would become one case: their calls get different things."""
    first = group[0].entry
    for one in group:
        if one.entry.input != first.input:
            raise errors.ForeignError(
                f"{one.entry.file}: {first.name!r} and {one.entry.name!r} would both be "
                f"{one.case.strategy}, {one.label}; tell them apart: --strategy '{one.entry.name}=NAME'"
            )


def _result(group: Sequence[_Named], base: Sequence[_Named] | None, names: Names) -> ForeignResult:
    first = group[0]
    itself = names.baseline == first.case.strategy
    other = None if itself or base is None else [one.entry for one in base]
    own = [one.entry for one in group]
    gain, said = _gain(own, other, names, itself)
    measurement = ForeignMeasurement(
        origin=_origin(own, other or ()),
        strategy=_side(own, first.case.strategy),
        baseline=None if other is None else _side(other, names.baseline or ""),
        gain=gain,
        notes=tuple(dict.fromkeys([_by(own), *said, *_told_of(own, names)])),
    )
    starts = [entry.measured_at for entry in own if entry.measured_at is not None]
    return ForeignResult(
        case=first.case,
        label=first.label,
        platform=first.platform,
        host=names.host or own[0].machine.host or UNKNOWN,
        measurement=measurement,
        legs=tuple(_legs(own)),
        measured_at=max(starts, default=None),
    )


def _origin(own: Sequence[Entry], other: Sequence[Entry]) -> Origin:
    return Origin(
        tool=own[0].tool,
        version=own[0].version,
        files=tuple(dict.fromkeys(entry.file for entry in own)),
        digests=tuple(entry.digest for entry in own),
        baseline_digests=tuple(entry.digest for entry in other),
        facts={"benchmark": own[0].name, **own[0].facts},
    )


def _by(own: Sequence[Entry]) -> str:
    files = ", ".join(dict.fromkeys(entry.file for entry in own))
    device = "" if own[0].machine.device is None else f" on {own[0].machine.device}"
    return f"measured by {_tool(own[0])}{device} ({files}), not by quantfleet"


def _told_of(own: Sequence[Entry], names: Names) -> Iterator[str]:
    """What the readers say of the files, and whose word the machine is."""
    yield from (note for entry in own for note in entry.notes)
    if not all(map(_tells_machine, own)) and names.host is None:
        yield "its file does not tell the machine; files that are imported together are taken as of one"


def _gain(
    own: Sequence[Entry], other: Sequence[Entry] | None, names: Names, itself: bool
) -> tuple[records.Interval | None, list[str]]:
    """The unpaired gain, and what is to be said of it or of its absence."""
    if names.baseline is None or itself:
        return None, []
    if other is None:
        return None, [f"no gain: the files hold no {names.baseline} of this case on this machine"]
    base_s, own_s = _centres(other), _centres(own)
    if not base_s or not own_s:
        return None, ["no gain: one side's run was not valid"]
    found = unpaired.gain(base_s, own_s)
    sides = f"{len(own_s)} process{'' if len(own_s) == 1 else 'es'} against {len(base_s)}"
    if found.low is None:
        return found, [f"unpaired gain of {sides}, without an interval: only several processes a side tell one"]
    return found, [f"unpaired gain of {sides}, measured at other times (Welch's interval on log times)"]


def _centres(found: Iterable[Entry]) -> list[float]:
    return [value for entry in found for value in entry.centres_s]


def _side(found: Sequence[Entry], strategy: str) -> ForeignSide:
    processes = [one for entry in found for one in entry.processes]
    whole = found[0] if len(found) == 1 else _together(found)
    return ForeignSide(
        strategy=strategy,
        percentiles=whole.percentiles(),
        processes=len(processes) or len(found),
        count=sum(len(one.samples_ns) for one in processes) or sum(entry.count for entry in found),
        throughput_per_s=_median(found, lambda entry: entry.throughput_per_s),
        resident_peak_bytes=max((entry.resident_peak_bytes or 0 for entry in found), default=0) or None,
        load_s=_median(found, lambda entry: entry.load_s),
        first_answer_s=_median(found, lambda entry: entry.first_answer_s),
    )


def _together(found: Sequence[Entry]) -> Entry:
    """Several entries of a case as one, for its percentiles: pooled samples, or the median of each kept percentile."""
    kept = {q: statistics.median(values) for q in reading.QUANTILES if (values := _quantiles(found, q))}
    return dataclasses.replace(
        found[0],
        processes=tuple(one for entry in found for one in entry.processes),
        quantiles_s=kept,
        count=min(entry.count for entry in found),
    )


def _quantiles(found: Iterable[Entry], q: float) -> list[float]:
    return [entry.quantiles_s[q] for entry in found if q in entry.quantiles_s]


def _median(found: Iterable[Entry], value: Callable[[Entry], float | None]) -> float | None:
    values = [told for entry in found if (told := value(entry)) is not None]
    return statistics.median(values) if values else None


def _legs(found: Iterable[Entry]) -> Iterator[records.Leg]:
    """One leg for each process; what only our worker sees is `foreign.UNWATCHED`."""
    processes = [one for entry in found for one in entry.processes]
    for number, one in enumerate(processes):
        yield records.Leg(
            pair=number,
            round=0,
            position=0,
            side="strategy",
            samples_ns=one.samples_ns,
            items=1,
            started_at=one.started_at or 0.0,
            cpu_ns=foreign.UNWATCHED,
            run_delay_ns=foreign.UNWATCHED,
            foreign_share=foreign.UNWATCHED,
            steal_share=foreign.UNWATCHED,
            threads_burning=foreign.UNWATCHED,
            preemptions=foreign.UNWATCHED,
            repeats=one.repeats,
        )
