"""A worker's place on this host with a lock and a cache of its own, and a tiny real model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import keys, records, settings
from tests.integration.engine.conftest import NAMES, make_model
from worker import environment, hardware, station


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("station")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> records.ModelRef:
    return make_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> records.DatasetRef:
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    lines = [f"hello my friend {NAMES[i % 4]},{NAMES[i % 4]}" for i in range(40)]
    file.write_text("\n".join(["text,label", *lines]))
    return records.DatasetRef(source="local", location=str(file))


@pytest.fixture(scope="session")
def place(folder: Path) -> Iterator[station.Station]:
    """Its nurseries import torch once for all tests of this pytest process."""
    platform = keys.platform(hardware.probe(os.environ), environment.probe())
    config = settings.load(cache=folder / "cache", lock=folder / "lock", host="testhost", heartbeat=0.2)
    made = station.Station(config, platform)
    yield made
    made.close()
