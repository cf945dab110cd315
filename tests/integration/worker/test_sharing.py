"""Prepared once, run everywhere: two hosts with caches of their own, and a store between them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage import errors, keys, records, settings, strategies
from worker import environment, hardware, prepare, preparing, station

Host = Callable[..., station.Station]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Makes hosts of a fleet; each has a cache of its own."""
    made: list[station.Station] = []
    platform = keys.platform(hardware.probe(os.environ), environment.probe())

    def make(name: str, store: Path | None = tmp_path / "store") -> station.Station:
        config = settings.load(
            cache=tmp_path / name, lock=tmp_path / f"{name}.lock", host=name, broker="redis://nowhere:6379/0"
        ).model_copy(update={"store": str(store or "")})
        made.append(station.Station(config, platform))
        return made[-1]

    (tmp_path / "store").mkdir()
    yield make
    for one in made:
        one.close()


def nothing() -> None:
    pass


def untold(_progress: object) -> None:
    pass


def case(model: records.ModelRef, strategy: str = "torch/bf16", kind: records.Kind = "prepare") -> records.Case:
    return records.Case(kind=kind, model=model, strategy=strategy, baseline=strategy, prepare="once")


def prepared(place: station.Station, wanted: records.Case) -> prepare.Prepared:
    with place.exclusive(nothing):
        return prepare.model(place, wanted, wanted.strategy, nothing, untold)


@pytest.mark.slow
def test_what_one_host_prepared_runs_on_another_byte_for_byte(model: records.ModelRef, host: Host) -> None:
    first, second = host("first"), host("second")
    wanted = case(model)
    with first.exclusive(nothing):
        measured, _ = preparing.measure(first, wanted, nothing, untold)
    assert measured.prepared_s > 0
    assert measured.strategy.resident_loaded_bytes > 0, "it was opened, to see that it loads"

    taken = prepared(second, dataclasses.replace(wanted, kind="latency"))

    assert taken.artifact.key == measured.strategy.artifact.key
    assert taken.artifact.prepare_s == pytest.approx(measured.strategy.artifact.prepare_s)
    ours = first.artifacts.folder(taken.artifact.key)
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == {
        path.name: path.read_bytes() for path in taken.folder.iterdir()
    }
    assert second._nurseries == {}, "nothing was prepared here"


@pytest.mark.slow
def test_of_two_hosts_that_prepare_at_once_the_first_ones_bytes_count(model: records.ModelRef, host: Host) -> None:
    first, second = host("first"), host("second")
    early = prepared(first, case(model))
    # as if the second had looked before the first one gave, and made something else
    other = prepared(second, records.Case(kind="latency", model=model, strategy="torch/fp32", baseline="torch/fp32"))

    wins = second.sharing.give(case(model), strategies.parse("torch/bf16"), other.artifact, nothing)

    assert wins == early.artifact.key


def test_what_should_come_from_a_store_is_declined_where_there_is_none(model: records.ModelRef, host: Host) -> None:
    lonely = host("lonely", store=None)
    with pytest.raises(errors.Unsupported, match="QUANTFLEET_STORE"):
        prepared(lonely, case(model))


def test_what_was_never_prepared_is_told_to_whoever_waits_for_it(model: records.ModelRef, host: Host) -> None:
    with pytest.raises(errors.Unsupported, match="what became of its prepare job"):
        prepared(host("late"), case(model, kind="latency"))


@pytest.mark.slow
def test_a_store_that_is_away_stops_only_what_needs_it(model: records.ModelRef, host: Host, tmp_path: Path) -> None:
    place = host("here", store=tmp_path / "gone" / "store")
    alone = records.Case(kind="latency", model=model, strategy="torch/bf16", baseline="torch/fp32")
    assert prepared(place, alone).artifact.size_bytes > 0

    with pytest.raises((errors.Unreachable, errors.SettingsError), match="gone"):
        prepared(place, case(model))


@pytest.mark.slow
def test_a_shipped_artifact_that_was_changed_on_its_way_is_refused_by_name(
    model: records.ModelRef, host: Host, tmp_path: Path
) -> None:
    first = prepared(host("first"), case(model))
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file() and path.stat().st_size == (first.folder / "model.safetensors").stat().st_size:
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.chmod(0o644)
            path.write_bytes(bytes(content))

    with pytest.raises(errors.SettingsError, match=first.artifact.key):
        prepared(host("second"), case(model, kind="latency"))
