"""Hub ids without a hub: what is cached is found, what is not gets a message that says what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage import records
from tests.integration.engine.conftest import NAMES, TEXTS
from worker.engine import models, readers

COMMIT = "a" * 40

PROGRAM = """
import json
from storage import errors, records
from worker.engine import models, readers
def refusal(kind, call):
    try:
        call()
    except kind as exc:
        return str(exc)
found = models.identify(records.ModelRef(name="m", source="hub", location="some/classifier"))
model = records.ModelRef(name="m", source="hub", location="some/absent")
data = records.DatasetRef(source="hub", location="some/absent", config="plus", split="validation")
print(json.dumps({
    "found": found,
    "model": refusal(errors.ModelError, lambda: models.load(model)),
    "dataset": refusal(errors.DatasetError, lambda: readers.read(data)),
}))
"""


@pytest.mark.slow
def test_offline_the_cache_serves_and_what_it_lacks_is_explained(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--some--classifier"
    shutil.copytree(tiny_bert.location, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    told = json.loads(done.stdout)
    assert told["found"] == models.identify(tiny_bert)
    assert "'some/absent' is not in this host's hub cache" in told["model"]
    assert "hf download some/absent" in told["model"]
    assert "some/absent/plus is not in this host's cache" in told["dataset"]
    assert done.stderr == ""


def test_a_hub_dataset_with_configurations_and_splits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader takes a folder that is laid out as on the hub for a hub id."""
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: plus\n  data_files:\n  - split: validation\n    path: plus/validation.jsonl\n"
        "- config_name: small\n  data_files:\n  - split: validation\n    path: small/validation.jsonl\n---\n"
    )
    for name, rows in (("plus", TEXTS), ("small", TEXTS[:2])):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"text": text, "intent": label}) for text, label in rows]
        (tmp_path / name / "validation.jsonl").write_text("\n".join(lines) + "\n")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    dataset = records.DatasetRef(
        source="hub", location=str(tmp_path), config="plus", split="validation", label="intent"
    )
    read = readers.read(dataset)
    assert list(zip(read.texts, read.labels, strict=True)) == list(TEXTS)
    assert set(read.labels) == set(NAMES)
    assert readers.identity(dataset) is None  # without a revision only its content identifies it
