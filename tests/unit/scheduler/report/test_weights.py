from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.report import weights
from storage import errors
from storage.views import ResultView
from tests import fleets
from tests.unit.scheduler.report.weights import document, outlined


def test_histograms_are_read_as_inspect_prints_them(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(document()))
    found = weights.read(tmp_path / "w.json")
    assert (found.layer, found.shape, [one.name for one in found.schemes]) == (
        "classifier",
        (4, 8),
        ["article", "symmetric", "per channel"],
    )
    assert found.schemes[0].integers[0][:2] == (-128, -127)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1, 2]", '{"layer": "a", "type": "Linear", "shape": 3}', "null"])
def test_what_is_no_weight_is_told_with_the_command_that_makes_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(errors.SettingsError, match="quantfleet model inspect"):
        weights.read(tmp_path / "w.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match=r"none\.json: No such file"):
        weights.read(tmp_path / "none.json")


def test_what_tensor_jobs_stored_is_shown_once_for_each_weight() -> None:
    def operation(digest: str, **more: object) -> ResultView:
        told = {"weight": outlined(**more), "weight_digest": digest}
        return fleets.latency(fleets.EPYC, kind="tensor", document=told)

    views = [operation("w1", layer="a"), operation("w1", layer="a"), operation("w2", layer="b")]
    views += [operation("w3", shape=3), fleets.latency(fleets.EPYC, kind="tensor")]  # damaged, and random numbers
    first, second = weights.stored(views)
    assert (first.name, second.name) == ("a of minilm", "b of minilm")
    assert first.edges == pytest.approx((-1.0, -0.5, 0.0, 0.5))
    assert first.error_edges == pytest.approx((-0.01, 0.0, 0.01))
    assert first.schemes[0].integers == ((-127.5, -125.5), (7, 9))
    assert first.schemes[1].integers == ((), ())
