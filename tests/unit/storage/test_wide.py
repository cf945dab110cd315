"""What the quick maker makes is what the dataclass makes."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from storage import wide
from storage.views import ResultView


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    x: int
    names: list[str] = dataclasses.field(default_factory=list)
    y: float = 2.0


make = wide.maker(Point)


def test_it_is_the_same_frozen_record() -> None:
    made = make(x=1)
    assert type(made) is Point
    assert (made, hash(dataclasses.replace(made, names=()).x)) == (Point(x=1), hash(1))  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = 2  # type: ignore[misc]
    assert dataclasses.replace(made, y=3.0) == Point(x=1, y=3.0)
    assert copy.deepcopy(made) == made


def test_a_changed_one_is_what_replace_makes() -> None:
    changed, one = wide.changer(Point), Point(x=1, y=3.0)
    assert changed(one, x=2) == dataclasses.replace(one, x=2)
    assert (type(changed(one)), one.x) == (Point, 1)
    with pytest.raises(TypeError):
        changed(one, z=1)


def test_defaults_are_each_ones_own() -> None:
    one, other = make(x=1), make(x=1)
    one.names.append("a")
    assert (one.names, other.names, other.y) == (["a"], [], 2.0)


@pytest.mark.parametrize("given", [{}, {"x": 1, "z": 2}])
def test_wrong_arguments_are_refused_as_ever(given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match=r"x|z"):
        make(**given)


def test_a_view_of_a_result_has_a_twin() -> None:
    given = {one.name: one.name for one in dataclasses.fields(ResultView)}
    assert wide.maker(ResultView)(**given) == ResultView(**given)  # type: ignore[arg-type]


def test_a_class_that_a_twin_would_not_be_like_is_refused() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class More(Point):
        z: int = 1

    @dataclasses.dataclass(frozen=True)
    class Loose:
        x: int

    for cls in (More, Loose):
        with pytest.raises(TypeError, match="no plain dataclass"):
            wide.maker(cls)
