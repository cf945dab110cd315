"""Content keys: the same thing gets the same key on every host, whoever computes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from storage import records

KEY_LENGTH = 16
"""Hex digits of a key: 64 bits, a collision among a million keys is 3 in 10^8."""


def digest(document: Any) -> str:
    """SHA-256 of the canonical JSON of plain data, as `KEY_LENGTH` hex digits."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def hardware_key(hardware: records.Hardware) -> str:
    """The fingerprint that decides comparability; every field counts."""
    return digest(records.to_document(hardware))


def environment_key(environment: records.Environment) -> str:
    """The identity of the software that a host runs."""
    return digest(records.to_document(environment))


def platform(hardware: records.Hardware, environment: records.Environment) -> records.Platform:
    """Hardware and environment with their keys."""
    hardware_id, environment_id = hardware_key(hardware), environment_key(environment)
    return records.Platform(
        key=digest([hardware_id, environment_id]),
        hardware_key=hardware_id,
        environment_key=environment_id,
        hardware=hardware,
        environment=environment,
    )


def model_identity(model: records.ModelRef) -> dict[str, Any]:
    """What makes a model the same elsewhere: its content where known, otherwise where it comes from."""
    if model.source == "random":
        return {"random": model.location, "config": dict(model.config), "seed": model.seed}
    if model.digest is not None:
        return {"digest": model.digest}
    return {model.source: model.location, "revision": model.revision}


def dataset_identity(dataset: records.DatasetRef | None) -> dict[str, Any] | None:
    """What makes a dataset the same elsewhere, with the columns and rows that are read of it."""
    if dataset is None:
        return None
    where: dict[str, Any] = {"digest": dataset.digest}
    if dataset.digest is None:
        where = {
            dataset.source: dataset.location,
            "config": dataset.config,
            "split": dataset.split,
            "revision": dataset.revision,
        }
    columns = {"text": dataset.text, "label": dataset.label, "rows": dataset.rows, "batch": dataset.batch}
    return {**where, **columns}


def job_key(case: records.Case, platform_key: str, replica: int, wanted_host: str | None = None) -> str:
    """Case, model's and dataset's identity, platform, host where one is named, protocol version and replica."""
    return replica_key(job_identity(case, platform_key, wanted_host), replica)


def replica_key(identity: Mapping[str, Any], replica: int) -> str:
    """The key of one of the jobs that have a `job_identity`."""
    return digest({**identity, "replica": replica})


def job_identity(case: records.Case, platform_key: str, wanted_host: str | None = None) -> dict[str, Any]:
    """What makes a job the same job, but for its replica."""
    spec = None if case.input is None else _given(records.to_document(case.input))
    where = {} if wanted_host is None else {"host": wanted_host}
    return {
        **where,
        **_preparation(case),
        **_more(case),
        "kind": case.kind,
        "model": model_identity(case.model),
        "strategy": case.strategy,
        "baseline": case.baseline if case.kind in records.PAIRED else None,
        "threads": case.threads,
        "input": spec,
        "dataset": dataset_identity(case.dataset),
        "platform": platform_key,
        "protocol": records.PROTOCOL_VERSION,
    }


def _given(document: dict[str, Any]) -> dict[str, Any]:
    """Without what is None: a field that came later leaves the keys of what does not use it as they were."""
    return {name: value for name, value in document.items() if value is not None}


def _more(case: records.Case) -> dict[str, Any]:
    """What only some kinds have; nothing for the others, whose keys are as ever."""
    found: dict[str, Any] = {} if case.instances is None else {"instances": case.instances}
    if case.baseline_layout is not None:
        found["baseline_layout"] = list(case.baseline_layout)
    if case.tensor is not None:
        found["tensor"] = _given(records.to_document(case.tensor))
    if case.serving is not None:
        found["serving"] = _given(records.to_document(case.serving))
    return found


def prepared_key(model: records.ModelRef, strategy: str, data: Mapping[str, records.DatasetRef]) -> str:
    """What is prepared, whoever does it: a model, a strategy in normal form, and the datasets that it reads."""
    read = {name: dataset_identity(dataset) for name, dataset in data.items()}
    return digest({"model": model_identity(model), "strategy": strategy, "data": read})


def _preparation(case: records.Case) -> dict[str, Any]:
    """What of a case's preparation makes it another job; nothing where strategies read no data, as ever."""
    found: dict[str, Any] = {"prepare": case.prepare} if case.prepare != "host" else {}
    if case.data:
        found["data"] = {name: dataset_identity(dataset) for name, dataset in case.data.items()}
    return found


def artifact_key(model_digest: str, recipe: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """A prepared model: the source's content, the recipe, and the libraries that followed it."""
    return digest({"model": model_digest, "recipe": dict(recipe), "versions": dict(versions)})
