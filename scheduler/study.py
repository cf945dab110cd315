"""The study file: read, validated, with file, line and field in each error.

`load` gives a `Study` or raises one StudyError with every problem of the file, one a line. Nothing but the
study file is read here; models and datasets are looked at by `scheduler.resolve`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import pydantic.json_schema

from scheduler import study_errors, study_lines, study_spec
from scheduler.study_errors import Problem, listed
from scheduler.study_lines import Document, Place
from scheduler.study_spec import StudyFile
from storage import errors, records, strategies

MAX_CASES = 1_000_000
"""Largest matrix, before platforms and replicas."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|KEY|QUANTFLEET_(DATABASE|BROKER)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A valid study: what it asks for, and where it was written."""

    spec: StudyFile  # variables in paths replaced, strategies in normal form, overrides applied
    path: Path  # of the study file
    document: Document  # for messages about the file

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    @property
    def text(self) -> str:
        """The file as it was written."""
        return self.document.text

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.parent

    @property
    def inputs(self) -> tuple[records.InputSpec, ...]:
        """Every input, lists spread out, duplicates merged."""
        return tuple(dict.fromkeys(spec for entry in self.spec.inputs for spec in entry.specs()))

    def dataset_of(self, model: str) -> study_spec.Dataset | None:
        """The dataset that serves a model: its own or the study's; None for random weights."""
        spec = self.spec.models[model]
        return None if spec.random else spec.dataset or self.spec.dataset

    def message(self, place: Place, text: str) -> str:
        """`file:line: field: text`."""
        return self.document.message(place, text)


def load(
    path: Path | str,
    *,
    models: Mapping[str, str] | None = None,
    dataset: str | None = None,
    datasets: Mapping[str, str] | None = None,
) -> Study:
    """The study in a file; StudyError with all its problems.

    `models` (name → folder), `dataset` (file) and `datasets` (name → file) replace what the file says about where they
    are, and start at the working folder; everything else about them stays as written.
    """
    document = study_lines.read(Path(path))
    data, problems = _replaced(document, models or {}, dataset)
    problems += list(_replaced_datasets(data, datasets or {}))
    problems += list(_expand(data))
    spec = _validated(data, problems)
    if spec is not None and not problems:
        problems += _across(spec)
    if spec is None or problems:
        raise _error(document, problems)
    return Study(spec=spec, path=Path(path), document=document)


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a study file, a description with every field."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **StudyFile.model_json_schema(schema_generator=_Schema),
        "title": "quantfleet study",
    }


class _Schema(pydantic.json_schema.GenerateJsonSchema):
    """Without what only repeats the field's name, and without null, which nobody writes."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        inner: dict[str, Any] = self.generate_inner(schema["schema"])
        return inner

    def default_schema(self, schema: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().default_schema(schema)
        return {k: v for k, v in found.items() if k != "default" or v is not None}


def overrides(pairs: Sequence[str], option: str = "--model", example: str = "minilm=./models/minilm") -> dict[str, str]:
    """`NAME=PATH` options as a mapping; StudyError for one without a `=` or given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise errors.StudyError(f"{option} {pair}: expected NAME=PATH, such as {example}")
        if name in found:
            raise errors.StudyError(f"{option} {name} is given twice")
        found[name] = path
    return found


def _error(document: Document, problems: Sequence[Problem]) -> errors.StudyError:
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: document.line(problem[0]))
    return errors.StudyError("\n".join(document.message(place, text) for place, text in ordered))


def _replaced(
    document: Document, models: Mapping[str, str], dataset: str | None
) -> tuple[dict[str, Any], list[Problem]]:
    data: dict[str, Any] = json.loads(json.dumps(document.data))
    problems: list[Problem] = []
    written: Any = data.get("models")
    written = written if isinstance(written, dict) else {}
    for name, path in models.items():
        if not isinstance(written.get(name), dict):
            near = errors.nearest(name, written)
            problems.append(
                (("models",), f"--model {name}: the study has no such model{near} (it has {listed(written)})")
            )
            continue
        kept = {k: v for k, v in written[name].items() if k in ("allow_pickle", "dataset")}
        written[name] = {"path": str(Path(path).expanduser().absolute()), **kept}
    if dataset is not None:
        data["dataset"] = _moved(data.get("dataset"), dataset) | _rows(data.get("dataset"))
    return data, problems


def _replaced_datasets(data: dict[str, Any], files: Mapping[str, str]) -> Iterator[Problem]:
    """Replaces where named datasets are, in place; a name that the study lacks is added when its strategies use it."""
    if not files:
        return
    written = data.get("datasets")
    data["datasets"] = written = dict(written) if isinstance(written, dict) else {}
    used = _used_names(data)
    for name, path in files.items():
        if name not in written and name not in used:
            near = errors.nearest(name, [*written, *used])
            yield ("datasets",), f"--data {name}: no strategy reads data={name}{near} (they read {listed(used)})"
        else:
            written[name] = _moved(written.get(name) or data.get("dataset"), path) | _rows(written.get(name))


def _used_names(data: Mapping[str, Any]) -> list[str]:
    """Names of the datasets that the strategies read, as far as they can be parsed."""
    asked = data.get("strategies")
    found: list[str] = []
    for text in [*(asked if isinstance(asked, list) else ()), data.get("baseline")]:
        with contextlib.suppress(errors.StrategyError):
            found += strategies.parse(text).datasets if isinstance(text, str) else ()
    return list(dict.fromkeys(found))


def _rows(asked: Any) -> dict[str, Any]:
    return {"rows": asked["rows"]} if isinstance(asked, dict) and "rows" in asked else {}


def _moved(asked: Any, path: str) -> dict[str, Any]:
    """A dataset's fields with another place: a file, looked for from the working folder."""
    kept = asked if isinstance(asked, dict) else {}
    kept = {k: v for k, v in kept.items() if k not in ("path", "hub", "config", "split", "revision", "rows")}
    return {"path": str(Path(path).expanduser().absolute()), **kept}


def _expand(data: dict[str, Any]) -> Iterator[Problem]:
    """Replaces `${NAME}` in every path of the data, in place; yields what is not set."""
    models = data.get("models")
    named = models.items() if isinstance(models, dict) else ()
    places: list[tuple[Place, Any, str]] = [((), data, "--dataset PATH")]
    places += [(("models", name), model, f"--model {name}=PATH") for name, model in named]
    more = data.get("datasets")
    named = more.items() if isinstance(more, dict) else ()
    places += [(("datasets", name), dataset, f"--data {name}=PATH") for name, dataset in named]
    for place, holder, option in places:
        if not isinstance(holder, dict):
            continue
        yield from _expand_path((*place, "path"), holder, option)
        if isinstance(holder.get("dataset"), dict):
            yield from _expand_path(
                (*place, "dataset", "path"), holder["dataset"], "--dataset PATH" if not place else ""
            )


def _expand_path(place: Place, holder: dict[str, Any], option: str) -> Iterator[Problem]:
    text = holder.get("path")
    if not isinstance(text, str):
        return
    unset: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = None if _SECRET.search(name) else os.environ.get(name)
        if not found and default is None:
            unset.append(name)
        return found or default or "unset"

    holder["path"] = _VARIABLE.sub(value, text)
    for name in unset:
        yield place, _unset(name, option)


def _unset(name: str, option: str) -> str:
    if _SECRET.search(name):
        return f"the variable {name} is not read, its name looks like a secret's"
    give = f", or give {option}" if option else ""
    return f"the environment variable {name} is not set; export {name}=PATH{give}, or write ${{{name}:-default}}"


def _validated(data: dict[str, Any], found: list[Problem]) -> StudyFile | None:
    try:
        return StudyFile.model_validate_json(json.dumps(data))
    except pydantic.ValidationError as exc:
        found += study_errors.problems(exc)
        return None


def _across(spec: StudyFile) -> list[Problem]:
    """What is wrong between fields that are right by themselves."""
    whole = [
        *_kind_problems(spec),
        *_data_problems(spec),
        *_dataset_problems(spec),
        *_random_problems(spec),
        *_exclude_problems(spec),
        *_size_problems(spec),
    ]
    return [*whole, *(any_problems(spec) if spec.targets == "any" else ())]


def any_problems(spec: StudyFile) -> Iterator[Problem]:
    """Why a study cannot be planned for whichever host comes first: what only a machine can say."""
    why = "is another number on each machine, and any plans for no machine in particular"
    if "threads" not in spec.model_fields_set:
        yield ("targets",), f"threads is physical unless it is given, which {why}; add threads: with numbers"
    else:
        for index, word in enumerate(spec.threads):
            if isinstance(word, str):
                yield ("threads", index), f"{word} {why}; expected a number with targets: any"
    if spec.has_instances:
        for index, word in enumerate(spec.instances):
            if isinstance(word, str):
                yield ("instances", index), f"{word} {why}; expected a number with targets: any"
    for name, value in spec.baseline_layout or ():
        if isinstance(value, str):
            yield ("baseline_layout", name), f"{value} {why}; expected a number with targets: any"
    for index, entry in enumerate(spec.exclude):
        if isinstance(entry.threads, str) and entry.threads != "all":
            yield ("exclude", index, "threads"), f"{entry.threads} {why}; expected a number with targets: any"


def _kind_problems(spec: StudyFile) -> Iterator[Problem]:
    """Kinds without what they need, and what no kind asks for."""
    if not spec.strategies and set(spec.kinds) != {"tensor"}:
        description = StudyFile.model_fields["strategies"].description
        yield ("strategies",), f"is missing. {description}"
    if "tensor" in spec.kinds and not spec.tensors:
        yield ("kinds",), "tensor needs tensors, and there is none; add tensors: [{layer: NAME}]"
    if spec.tensors and "tensor" not in spec.kinds:
        yield ("tensors",), "no kind asks for them; add tensor to kinds"
    if "server" in spec.kinds and not spec.serving:
        yield ("kinds",), "server needs serving, and there is none; add serving: [{rate: 50}] or [{bound: 20ms}]"
    if spec.serving and "server" not in spec.kinds:
        yield ("serving",), "no kind asks for it; add server to kinds"
    if "instances" in spec.model_fields_set and not spec.has_instances:
        yield ("instances",), "no kind asks for them; add throughput or server to kinds"
    if spec.baseline_layout is not None and "throughput" not in spec.kinds:
        yield ("baseline_layout",), "no kind asks for it; add throughput to kinds"
    yield from _mix_problems(spec)


def _mix_problems(spec: StudyFile) -> Iterator[Problem]:
    """A mix or a cache over a single call."""
    lengths = {length for entry in spec.inputs for length in entry.length}
    for index, entry in enumerate(spec.serving):
        for name in ("cache", "zipf"):
            if getattr(entry, name) is not None and lengths != {records.DATASET_LENGTH}:
                yield (
                    ("serving", index, name),
                    "needs distinct calls: every input of length: dataset; a length in tokens is one call",
                )


def _data_problems(spec: StudyFile) -> Iterator[Problem]:
    """Strategies that read datasets which the study does not name."""
    if strategies.EVALUATION in spec.datasets:
        yield ("datasets", strategies.EVALUATION), "means the rows that accuracy is taken on; choose another name"
    own = spec.dataset is not None or any(model.dataset is not None for model in spec.models.values())
    known = [*spec.datasets, *([strategies.EVALUATION] if own else [])]
    texts = [(("strategies", index), text) for index, text in enumerate(spec.strategies)]
    for place, text in [*texts, (("baseline",), spec.baseline)]:
        strategy = strategies.parse(text)
        for step in strategy.steps:
            if step.trains and step.data == strategies.EVALUATION:
                yield (
                    place,
                    f"{step} would train on the very rows that accuracy is taken on; name other rows with data=",
                )
        for name in strategy.datasets:
            if name not in known:
                yield place, _no_dataset(text, name, known)


def _no_dataset(text: str, name: str, known: Sequence[str]) -> str:
    return (
        f"{text} reads data={name}, and the study has no such dataset{errors.nearest(name, known)}; add "
        f"datasets: {{{name}: {{path: …, text: …, label: …}}}}, or choose another with data= (there is {listed(known)})"
    )


def _dataset_problems(spec: StudyFile) -> Iterator[Problem]:
    real = [name for name, model in spec.models.items() if model.random is None]
    lacking = [name for name in real if spec.dataset is None and spec.models[name].dataset is None]
    if not lacking:
        return
    whose = f" for {listed(lacking)}" if len(lacking) < len(real) else ""
    for index, entry in enumerate(spec.inputs):
        if records.DATASET_LENGTH in entry.length and spec.calls_models:
            yield ("inputs", index, "length"), f"dataset needs a dataset, and there is none{whose}; add dataset:"
    if "accuracy" in spec.kinds and "kinds" in spec.model_fields_set and not whose:
        yield ("kinds",), "accuracy needs a dataset, and there is none; add dataset:"


def _random_problems(spec: StudyFile) -> Iterator[Problem]:
    lengths = {length for entry in spec.inputs for length in entry.length}
    for name, model in spec.models.items():
        if model.random is None:
            continue
        if set(spec.kinds) == {"accuracy"}:
            yield ("models", name), "random weights have no accuracy, and kinds asks for nothing else"
        elif spec.calls_models and lengths == {records.DATASET_LENGTH}:
            yield (
                ("models", name),
                "random weights have no tokenizer, and every input is of length: dataset; add an input with a number",
            )


def _exclude_problems(spec: StudyFile) -> Iterator[Problem]:
    single = (name for entry in spec.tensors for name in entry.operations)
    known = {"model": list(spec.models), "strategy": list(dict.fromkeys((*spec.strategies, spec.baseline, *single)))}
    for index, entry in enumerate(spec.exclude):
        for field, names in known.items():
            asked = getattr(entry, field)
            if asked is not None and not any(matches(asked, name) for name in names):
                near = errors.nearest(asked, names)
                text = f"matches no {field} of this study: {asked!r}{near} (it has {listed(names)})"
                yield ("exclude", index, field), text
        if entry.threads == "all":
            yield ("exclude", index, "threads"), "all is every count; leave the field out to match any"


def _size_problems(spec: StudyFile) -> Iterator[Problem]:
    inputs = sum(len(entry.batch) * len(entry.length) for entry in spec.inputs)
    calls = (
        len(spec.strategies) * inputs * (1 + len(spec.instances) * (("throughput" in spec.kinds) + len(spec.serving)))
    )
    single = sum(len(entry.specs()) for entry in spec.tensors)
    cases = len(spec.models) * len(spec.threads) * (calls + single)
    if cases > MAX_CASES:
        yield (), f"the matrix has {cases} cases, at most {MAX_CASES} are allowed"


def matches(pattern: str, name: str) -> bool:
    """Whether a name, or a strategy in any spelling, fits a glob."""
    if fnmatch.fnmatchcase(name, pattern):
        return True
    try:
        return str(strategies.parse(pattern)) == name
    except errors.StrategyError:
        return False
