"""The cases of a study on one kind of machine: the matrix written out, without what the study excludes (pure)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from scheduler import study as study_module
from scheduler import study_kinds, study_spec
from scheduler.resolve import Model, Resolved
from storage import operations, records, strategies


def cases(resolved: Resolved, hardware: records.Hardware | None) -> Iterator[records.Case]:
    """The cases of a study on one kind of machine, possible or not, without what it excludes.

    None: whichever machine comes first, for a study that names threads by numbers only.
    """
    spec = resolved.study.spec
    for model in resolved.models:
        found = [
            *_latency(resolved, model, hardware),
            *_throughput(resolved, model, hardware),
            *_server(resolved, model, hardware),
            *_tensor(resolved, model.ref, hardware),
            *_accuracy(resolved, model),
        ]
        yield from (case for case in found if not _is_excluded(spec, case, hardware))
    numbers = _tensor(resolved, records.NUMBERS, hardware)
    yield from (case for case in numbers if not _is_excluded(spec, case, hardware))


def thread_counts(asked: Sequence[int | str], hardware: records.Hardware | None) -> tuple[int, ...]:
    """Thread counts on a machine, in the order asked for, duplicates merged; numbers are never clipped.

    Without a machine words have no meaning (`study.any_problems` refuses them before).
    """
    words: dict[int | str, list[int]] = {}
    if hardware is not None:
        words = {
            "physical": [hardware.physical_cores],
            "logical": [hardware.logical_cores],
            "all": list(range(1, hardware.logical_cores + 1)),
        }
    found = (words.get(item, [int(item)] if isinstance(item, int) else []) for item in asked)
    return tuple(dict.fromkeys(count for counts in found for count in counts))


def instance_counts(asked: Sequence[int | str], threads: int, hardware: records.Hardware | None) -> tuple[int, ...]:
    """Numbers of instances on a machine, `auto` being as many as fill its physical cores, duplicates merged."""
    full = 1 if hardware is None else max(1, hardware.physical_cores // threads)
    return tuple(dict.fromkeys(full if isinstance(item, str) else item for item in asked))


def _latency(resolved: Resolved, model: Model, hardware: records.Hardware | None) -> Iterator[records.Case]:
    if "latency" in resolved.study.spec.kinds:
        yield from _calls(resolved, model, hardware)


def _throughput(resolved: Resolved, model: Model, hardware: records.Hardware | None) -> Iterator[records.Case]:
    spec = resolved.study.spec
    if "throughput" not in spec.kinds:
        return
    for case in _calls(resolved, model, hardware):
        for instances in instance_counts(spec.instances, case.threads or 1, hardware):
            layout = _baseline_layout(spec, hardware)
            same = layout == (instances, case.threads)
            yield dataclasses.replace(
                case, kind="throughput", instances=instances, baseline_layout=None if same else layout
            )


def _baseline_layout(spec: study_spec.StudyFile, hardware: records.Hardware | None) -> tuple[int, int] | None:
    if spec.baseline_layout is None:
        return None
    (threads,) = thread_counts([spec.baseline_layout.threads], hardware)
    (instances,) = instance_counts([spec.baseline_layout.instances], threads, hardware)
    return instances, threads


def _server(resolved: Resolved, model: Model, hardware: records.Hardware | None) -> Iterator[records.Case]:
    spec = resolved.study.spec
    if "server" not in spec.kinds:
        return
    for case in _calls(resolved, model, hardware):
        for instances in instance_counts(spec.instances, case.threads or 1, hardware):
            for asked in dict.fromkeys(entry.spec() for entry in spec.serving):
                yield dataclasses.replace(case, kind="server", instances=instances, serving=asked)


def _calls(resolved: Resolved, model: Model, hardware: records.Hardware | None) -> Iterator[records.Case]:
    """A latency case for each input, thread count and strategy."""
    spec = resolved.study.spec
    read = {strategy: _data(resolved, model, strategy, spec.baseline) for strategy in spec.strategies}
    for asked in resolved.study.inputs:
        for threads in thread_counts(spec.threads, hardware):
            for strategy in spec.strategies:
                yield records.Case(
                    kind="latency",
                    model=model.ref,
                    strategy=strategy,
                    baseline=spec.baseline,
                    threads=threads,
                    input=asked,
                    dataset=model.dataset if asked.length == records.DATASET_LENGTH else None,
                    data=read[strategy],
                    prepare=spec.prepare,
                )


def _tensor(resolved: Resolved, model: records.ModelRef, hardware: records.Hardware | None) -> Iterator[records.Case]:
    """Each operation against the same one in fp32, and the article's pair where both of it are asked for."""
    spec = resolved.study.spec
    if "tensor" not in spec.kinds:
        return
    for entry in spec.tensors:
        if (entry.shape is None) == (model == records.NUMBERS):
            continue
        for threads in thread_counts(spec.threads, hardware):
            for operand, pair in _pairs(entry):
                yield records.Case(
                    kind="tensor", model=model, strategy=pair[1], baseline=pair[0], threads=threads, tensor=operand
                )


def _pairs(entry: study_kinds.Tensor) -> Iterator[tuple[records.TensorSpec, tuple[str, str]]]:
    """Operands with baseline and strategy."""
    specs = entry.specs()
    for operand, name in specs:
        yield operand, (operations.parse(name).reference, name)
    if set(operations.ARTICLE) <= set(entry.operations):
        for operand in dict.fromkeys(operand for operand, name in specs if name in operations.ARTICLE):
            yield operand, operations.ARTICLE


def _accuracy(resolved: Resolved, model: Model) -> Iterator[records.Case]:
    spec = resolved.study.spec
    if "accuracy" not in spec.kinds or model.dataset is None:
        return
    for strategy in dict.fromkeys((spec.baseline, *spec.strategies)):
        yield records.Case(
            kind="accuracy",
            model=model.ref,
            strategy=strategy,
            baseline=spec.baseline,
            dataset=model.dataset,
            data=_data(resolved, model, strategy),
            prepare=spec.prepare,
        )


def _data(resolved: Resolved, model: Model, *texts: str) -> dict[str, records.DatasetRef]:
    """The datasets that strategies read, by the names that they use."""
    known: dict[str, records.DatasetRef | None] = {**resolved.datasets, strategies.EVALUATION: model.dataset}
    names = dict.fromkeys(name for text in texts for name in strategies.parse(text).datasets)
    return {name: dataset for name in names if (dataset := known.get(name)) is not None}


def _is_excluded(spec: study_spec.StudyFile, case: records.Case, hardware: records.Hardware | None) -> bool:
    return any(_excluded(entry, case, hardware) for entry in spec.exclude)


def _excluded(entry: study_spec.Exclude, case: records.Case, hardware: records.Hardware | None) -> bool:
    """Whether a case matches every field that an exclude names."""
    asked = case.input
    if entry.threads is not None and case.threads not in thread_counts([entry.threads], hardware):
        return False
    if entry.model is not None and not study_module.matches(entry.model, case.model.name):
        return False
    if entry.strategy is not None and not study_module.matches(entry.strategy, case.strategy):
        return False
    return (
        entry.kind in (None, case.kind)
        and (entry.batch is None or (asked is not None and asked.batch == entry.batch))
        and (entry.length is None or (asked is not None and asked.length == entry.length))
        and (entry.padding is None or (asked is not None and asked.padding == entry.padding))
    )
