from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import errors, records, strategies
from storage.catalogue import registry
from tests import distributions
from tests.unit.storage.test_strategies import ALL, X86

CATALOGUE = """
from storage.catalogue.descriptions import Description, Transform
from storage.options import Option

EXACT = Description(
    runtime="mylab",
    precision="exact",
    summary="exactly",
    implementation="mylab_engine:Exact",
    packages=("mykernels",),
    options=(Option(name="deep", type="flag", default="false", help="deeper"),),
)
MORE = Description(
    runtime="torch", precision="fp64", summary="more digits", implementation="mylab_engine:More", packages=("torch",)
)
SWAP = Transform(name="swap", summary="swap layers", implementation="mylab_engine:Swap", packages=("torch",))
IMPOSTOR = Description(
    runtime="torch", precision="fp32", summary="not the real one", implementation="mylab_engine:Exact", packages=()
)
PLUS = Transform(name="a+b", summary="cannot be written", implementation="mylab_engine:Swap", packages=())
BLANK = Description(
    runtime="my lab", precision="exact", summary="neither can this", implementation="mylab_engine:Exact", packages=()
)
OTHER = "no description"
"""

ENTRIES = {
    "exact": "mylab_catalogue:EXACT",
    "more": "mylab_catalogue:MORE",
    "swap": "mylab_catalogue:SWAP",
    "impostor": "mylab_catalogue:IMPOSTOR",
    "plus": "mylab_catalogue:PLUS",
    "blank": "mylab_catalogue:BLANK",
    "other": "mylab_catalogue:OTHER",
    "gone": "mylab_catalogue:GONE",
    "broken": "mylab_broken:ANYTHING",
}


@pytest.fixture
def mylab(tmp_path: Path) -> Iterator[None]:
    files = {"mylab_catalogue.py": CATALOGUE, "mylab_broken.py": "1 / 0\n"}
    with distributions.installed(tmp_path, "mylab", files, ENTRIES):
        yield


@pytest.mark.usefixtures("mylab")
def test_another_package_adds_pairs_and_transforms() -> None:
    assert str(strategies.parse("swap+mylab/exact:deep")) == "swap+mylab/exact:deep=true"
    assert strategies.parse("swap+torch/fp64").part.summary == "more digits"
    assert [*registry.descriptions()][-2:] == ["mylab/exact", "torch/fp64"]
    assert [*registry.transforms_by_name()][-1] == "swap"
    with pytest.raises(errors.StrategyError, match=r"torch has no precision 'fp65'; did you mean 'fp64'"):
        strategies.parse("torch/fp65")
    with pytest.raises(errors.StrategyError, match=r"no transform 'swapp'; did you mean 'swap'"):
        strategies.parse("swapp+torch/fp32")


@pytest.mark.usefixtures("mylab")
def test_an_added_transform_without_a_training_trains_never() -> None:
    assert strategies.parse("swap+torch/fp32").trained == ()


@pytest.mark.usefixtures("mylab")
def test_packages_of_added_strategies_are_asked_for_by_name_and_belong_to_results() -> None:
    assert strategies.unsupported(strategies.parse("mylab/exact"), X86, ALL) == (
        "mylab/exact needs mykernels, not installed here; pip install mykernels"
    )
    assert registry.packages() == (*registry.PACKAGES, "mykernels")
    found: records.Environment = dataclasses.replace(ALL, packages={"mykernels": "1"})
    assert strategies.unsupported(strategies.parse("mylab/exact"), X86, found) is None


@pytest.mark.usefixtures("mylab")
def test_what_another_package_gets_wrong_is_named_in_the_log_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert registry.describe("torch/fp32").implementation == "worker.engine.strategies.torch_float:Float32"
        assert "a+b" not in registry.transforms_by_name()
    said = [record.getMessage() for record in caplog.records]
    for words in (
        ("mylab_broken:ANYTHING", "cannot be loaded: division by zero"),
        ("mylab_catalogue:GONE", "cannot be loaded"),
        ("mylab_catalogue:OTHER", "is no Description or Transform, but 'no description'"),
        ("mylab_catalogue:PLUS", "has a name that cannot be written: 'a+b'"),
        ("mylab_catalogue:BLANK", "has a name that cannot be written: 'my lab/exact'"),
        ("torch/fp32", "has the name of one that is there, and is left out"),
    ):
        assert any(all(word in line for word in words) for line in said), words
    assert len(said) == 6


def test_nothing_of_another_package_stays_when_it_is_gone(tmp_path: Path) -> None:
    with distributions.installed(tmp_path, "mylab", {"mylab_catalogue.py": CATALOGUE}, ENTRIES):
        assert "swap" in registry.transforms_by_name()
    assert "swap" not in registry.transforms_by_name()


def test_a_package_that_cannot_be_imported_is_absent() -> None:
    part = dataclasses.replace(registry.describe("torch/fp32"), packages=("typer", "no_such_package_of_ours"))
    assert registry.absent(part) == ["no_such_package_of_ours"]
