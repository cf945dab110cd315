"""A resolved study as a JSON document and back: stored with the study, so that hosts that join later can be planned
for without its files.

The document holds the file's fields, what they were resolved to (folders, digests, positions), and the targets that
were asked for, the command line's included. `VERSION` rises when an older program could misread it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pydantic

from scheduler import study_errors, study_lines
from scheduler.resolve import Model, Resolved
from scheduler.study import Study
from scheduler.study_spec import Selector, StudyFile
from scheduler.targets import Each, Wanted
from storage import errors, lifecycle, records

VERSION = 3
"""Version of the document."""


def text_of(resolved: Resolved, wanted: Wanted) -> lifecycle.StudyText:
    """A study as `lifecycle.submit` stores it."""
    study = resolved.study
    return lifecycle.StudyText(name=study.name, text=study.text, document=document(resolved, wanted))


def document(resolved: Resolved, wanted: Wanted) -> dict[str, Any]:
    """Everything that planning needs, as plain JSON types."""
    study = resolved.study
    found: dict[str, Any] = {
        "version": VERSION,
        "file": str(study.path),
        "spec": _spec(study.spec),
        "models": [_model(model) for model in resolved.models],
        "datasets": {name: records.to_document(dataset) for name, dataset in resolved.datasets.items()},
        "targets": {
            "each": wanted.each,
            "selector": None if wanted.selector is None else wanted.selector.model_dump(exclude_unset=True),
            "by": "command line" if wanted.study is None else "study",
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))  # tuples become lists, as they will in the database
    return plain


def restore(name: str, text: str, stored: Mapping[str, Any] | None) -> tuple[Resolved, Wanted]:
    """What `document` was made of; StudyError for one that this version cannot read, or none at all."""
    if stored is None:
        raise errors.StudyError(f"study {name} was submitted by an older version, without what planning it again needs")
    try:
        return _restored(name, text, stored)
    except pydantic.ValidationError as exc:
        what = "; ".join(f"{study_lines.dotted(place)}: {said}" for place, said in study_errors.problems(exc))
        raise errors.StudyError(
            f"study {name} was submitted by another version, which means something else: {what}"
        ) from exc
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise errors.StudyError(f"study {name} cannot be read from the database ({type(exc).__name__}: {exc})") from exc


def _spec(spec: StudyFile) -> dict[str, Any]:
    # defaults of the study's own fields are written down: they may change, what was asked for does not; inside of
    # its sections a field that is given means something else than its default
    return {**spec.model_dump(), **spec.model_dump(exclude_unset=True)}


def _model(model: Model) -> dict[str, Any]:
    return {
        "ref": records.to_document(model.ref),
        "dataset": None if model.dataset is None else records.to_document(model.dataset),
        "positions": model.positions,
    }


def _restored(name: str, text: str, stored: Mapping[str, Any]) -> tuple[Resolved, Wanted]:
    if stored["version"] > VERSION:
        raise errors.StudyError(f"study {name} was submitted by a newer version of quantfleet; update this one")
    spec = StudyFile.model_validate_json(json.dumps(stored["spec"]))
    written = _written(f"study {name}", text)
    study = Study(spec=spec, path=Path(stored["file"]), document=written)
    asked, chosen = stored["targets"], stored["targets"]["selector"]
    wanted = Wanted(
        each=cast(Each, asked["each"]),
        selector=None if chosen is None else Selector.model_validate_json(json.dumps(chosen)),
        study=study if asked["by"] == "study" else None,
    )
    datasets = {
        name: records.from_document(records.DatasetRef, found) for name, found in stored.get("datasets", {}).items()
    }
    return Resolved(
        study=study, models=tuple(_model_of(model) for model in stored["models"]), datasets=datasets
    ), wanted


def _written(name: str, text: str) -> study_lines.Document:
    """The text with its lines, for messages; without lines when it cannot be read any more."""
    try:
        return study_lines.parse(text, file=name)
    except errors.StudyError:
        return study_lines.Document(file=name, text=text, data={}, lines={})


def _model_of(stored: Mapping[str, Any]) -> Model:
    dataset = stored["dataset"]
    return Model(
        ref=records.from_document(records.ModelRef, stored["ref"]),
        dataset=None if dataset is None else records.from_document(records.DatasetRef, dataset),
        positions=stored["positions"],
    )
