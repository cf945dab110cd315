"""What a study names, found and identified: models and datasets with their content digests.

Torch-free, so it refuses early only what is certain: what is missing or damaged, a pickled checkpoint, a
model of another kind, a length that no position of the model holds. The worker looks closer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from scheduler import local_files, study_spec
from scheduler.study import Study
from scheduler.study_lines import Place
from storage import digests, errors, records

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One model of a study, ready for planning."""

    ref: records.ModelRef
    dataset: records.DatasetRef | None  # its own or the study's; None for random weights
    positions: int | None  # most tokens in a row, None where that is not certain


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A study with everything that it names."""

    study: Study
    models: tuple[Model, ...]  # in the file's order
    datasets: Mapping[str, records.DatasetRef] = field(default_factory=dict)  # the study's `datasets`
    notices: tuple[str, ...] = ()  # sentences about what could not be looked at here


def resolve(study: Study, *, folders: Sequence[Path] = (), elsewhere: bool = False) -> Resolved:
    """Finds models and datasets; hashes local ones (reads them once, whole).

    `folders` are those that local models and datasets may lie in, symbolic links followed; empty: anywhere.
    `elsewhere`: the study is for other machines, so that an absolute path need not exist on this one; each host then
    takes its own. Raises ModelError or DatasetError with every problem found, one a line, each with file, line and
    field.
    """
    finder = _Finder(study, tuple(folder.resolve() for folder in folders), elsewhere)
    models = tuple(model for name in study.spec.models if (model := finder.model(name)) is not None)
    datasets = finder.named()
    if finder.errors:
        raise type(finder.errors[0])("\n".join(dict.fromkeys(str(error) for error in finder.errors)))
    resolved = Resolved(study=study, models=models, datasets=datasets, notices=tuple(dict.fromkeys(finder.notices)))
    problems = list(_too_long(resolved))
    if problems:
        raise errors.StudyError("\n".join(study.message(place, text) for place, text in problems))
    return resolved


def impossible_input(model: Model, spec: records.InputSpec) -> str | None:
    """Why a model cannot take an input, as far as that is certain; None where it can."""
    if spec.length == records.DATASET_LENGTH:
        if model.ref.source == "random":
            return "random weights have no tokenizer"
        if model.dataset is None:
            return "there is no dataset for this model"
    tokens = _tokens(spec)
    if model.positions is not None and tokens is not None and tokens > model.positions:
        return f"{tokens} tokens are more than the {model.positions} positions of {model.ref.name}"
    return None


def _tokens(spec: records.InputSpec) -> int | None:
    """The most tokens that a row surely has, padding included."""
    wide = [int(way[4:]) for way in (spec.padding, spec.baseline_padding) if way and way.startswith("max:")]
    fixed = [] if spec.length == records.DATASET_LENGTH else [int(spec.length)]
    return max((*wide, *fixed), default=None)


def _too_long(resolved: Resolved) -> Iterator[tuple[Place, str]]:
    """Inputs that no model can take, and models that can take no input: surely a slip, not a gap to live with."""
    study = resolved.study
    if not study.spec.calls_models:
        return
    for index, entry in enumerate(study.spec.inputs):
        for spec in entry.specs():
            reasons = [impossible_input(model, spec) for model in resolved.models]
            if all(reasons):
                yield ("inputs", index), f"no model of the study can take {spec.label()}: {reasons[0]}"
    for model in resolved.models:
        reasons = [impossible_input(model, spec) for spec in study.inputs]
        if all(reasons):
            yield ("models", model.ref.name), f"can take none of the inputs: {reasons[0]}"


class _Finder:
    """Resolves one study; collects what is wrong."""

    def __init__(self, study: Study, folders: tuple[Path, ...], elsewhere: bool) -> None:
        self.study = study
        self.folders = folders
        self.elsewhere = elsewhere
        self.errors: list[errors.UserError] = []
        self.notices: list[str] = []
        self._datasets: dict[Place, records.DatasetRef | None] = {}

    def model(self, name: str) -> Model | None:
        spec = self.study.spec.models[name]
        place: Place = ("models", name)
        found = self._guarded((*place, _source(spec)), lambda: self._reference(name, spec))
        dataset = self.dataset_of(name)
        if found is None:
            return None
        ref, positions = found
        return Model(ref=ref, dataset=dataset, positions=positions)

    def named(self) -> dict[str, records.DatasetRef]:
        found: dict[str, records.DatasetRef] = {}
        for name, spec in self.study.spec.datasets.items():
            place: Place = ("datasets", name, "hub" if spec.hub else "path")
            dataset = self._guarded(place, functools.partial(self._dataset, spec))
            if dataset is not None:
                found[name] = dataset
        return found

    def dataset_of(self, name: str) -> records.DatasetRef | None:
        spec = self.study.dataset_of(name)
        if spec is None:
            return None
        own = self.study.spec.models[name].dataset is not None
        place: Place = ("models", name, "dataset") if own else ("dataset",)
        if place not in self._datasets:
            field = "hub" if spec.hub else "path"
            self._datasets[place] = self._guarded((*place, field), lambda: self._dataset(spec))
        return self._datasets[place]

    def _guarded(self, place: Place, find: Callable[[], T]) -> T | None:
        try:
            return find()
        except errors.UserError as exc:
            self.errors.append(type(exc)(self.study.message(place, str(exc))))
            return None

    def _reference(self, name: str, spec: study_spec.Model) -> tuple[records.ModelRef, int | None]:
        if spec.random is not None:
            ref = records.ModelRef(name=name, source="random", location=spec.random, config=spec.config, seed=spec.seed)
            return ref, local_files.positions(spec.config, spec.random)
        if spec.hub is not None:
            ref = records.ModelRef(
                name=name, source="hub", location=spec.hub, revision=spec.revision, allow_pickle=spec.allow_pickle
            )
            return ref, None
        return self._local(name, spec)

    def _local(self, name: str, spec: study_spec.Model) -> tuple[records.ModelRef, int | None]:
        folder = self._path(spec.path or "", errors.ModelError)
        if self._only_elsewhere(spec.path or "", folder):
            given = str(Path(spec.path or ""))
            return records.ModelRef(name=name, source="local", location=given, allow_pickle=spec.allow_pickle), None
        config = local_files.read_config(folder)
        local_files.check_weights(folder, allow_pickle=spec.allow_pickle)
        ref = records.ModelRef(
            name=name,
            source="local",
            location=str(folder),
            allow_pickle=spec.allow_pickle,
            digest=digests.model_digest(folder),
        )
        return ref, local_files.positions(config, str(config.get("model_type", "")))

    def _dataset(self, spec: study_spec.Dataset) -> records.DatasetRef:
        columns: dict[str, Any] = {"text": spec.text, "label": spec.label, "rows": spec.rows, "batch": spec.batch}
        if spec.hub is not None:
            return records.DatasetRef(
                source="hub", location=spec.hub, config=spec.config, split=spec.split, revision=spec.revision, **columns
            )
        file = self._path(spec.path or "", errors.DatasetError)
        if self._only_elsewhere(spec.path or "", file):
            return records.DatasetRef(source="local", location=str(Path(spec.path or "")), **columns)
        local_files.check_file(file, (spec.text, spec.label))
        return records.DatasetRef(source="local", location=str(file), digest=digests.file_digest(file), **columns)

    def _only_elsewhere(self, text: str, path: Path) -> bool:
        """Whether a path is one of the other machines; a relative one can only mean a place on this machine."""
        if not self.elsewhere or path.exists() or not Path(text).is_absolute():
            return False
        self.notices.append(f"{text} is not on this machine: each host takes its own, whatever it holds")
        return True

    def _path(self, text: str, error: type[errors.UserError]) -> Path:
        try:
            path = (self.study.folder / Path(text).expanduser()).resolve()
            path.exists()  # a name that is too long, or a folder that may not be looked into, raises here
        except (OSError, RuntimeError, ValueError) as exc:
            raise error(f"{text!r} is no path: {exc}") from exc
        if self.folders and not any(path.is_relative_to(folder) for folder in self.folders):
            allowed = ", ".join(map(str, self.folders))
            raise error(f"{path} lies outside the allowed folders ({allowed}; QUANTFLEET_FOLDERS sets them)")
        return path


def _source(spec: study_spec.Model) -> str:
    return "random" if spec.random else "hub" if spec.hub else "path"
