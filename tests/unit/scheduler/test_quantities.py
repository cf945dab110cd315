from __future__ import annotations

from collections.abc import Callable

import pytest

from scheduler import quantities
from storage import errors


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (quantities.seconds, "20ms", 0.02),
        (quantities.seconds, "0.02s", 0.02),
        (quantities.seconds, " 1.5 s ", 1.5),
        (quantities.seconds, "300us", 0.0003),
        (quantities.points, "0.5pt", 0.005),
        (quantities.seconds, "300μs", 0.0003),  # the Greek letter, for the micro sign
        (quantities.seconds, "0.5h", 1800.0),
        (quantities.points, ".5pp", 0.005),
        (quantities.points, "0.5  pt", 0.005),
        (quantities.points, "0pt", 0.0),
        (quantities.percent, "2.5 %", 0.025),
        (quantities.percent, "0%", 0.0),
        (quantities.size, "1GiB", 1024**3),
        (quantities.size, "100MB", 100e6),
        (quantities.rate, "500/s", 500.0),
        (quantities.rate, "30000/min", 500.0),
    ],
)
def test_a_limit_is_read_with_its_unit(read: Callable[[str, str], float], text: str, value: float) -> None:
    assert read("--x", text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (quantities.seconds, "20", "--x '20': the unit is missing: expected a time above 0 such as 20ms"),
        (quantities.seconds, "20MS", "unknown unit 'MS'; did you mean 'ms'? (units: ns, us, µs, ms, s, min, h)"),
        (quantities.seconds, "0ms", "expected a time above 0"),
        (quantities.seconds, "-5ms", "expected a time above 0"),
        (quantities.seconds, "1e-3s", "unknown unit 'e-3s'"),
        (quantities.seconds, "fast", "expected a time above 0"),
        (quantities.points, "0.5%", "unknown unit '%' (units: pt, pp, points)"),
        (quantities.points, "0.5", "the unit is missing"),
        (quantities.points, "-1pt", "expected percentage points such as 0.5pt"),
        (quantities.percent, "0.03", "the unit is missing: expected a percentage with its sign, such as 3%"),
        (quantities.percent, "3pt", "unknown unit 'pt' (units: %)"),
        (quantities.size, "1G", "unknown unit 'G'"),
        (quantities.size, "1gib", "did you mean 'GiB'?"),
        (quantities.rate, "500", "such as 500/s"),
        (quantities.rate, "500rps", "unknown unit 'rps'"),
    ],
)
def test_what_cannot_be_meant_names_the_option_and_what_would_do(
    read: Callable[[str, str], float], text: str, said: str
) -> None:
    with pytest.raises(errors.QueryError) as error:
        read("--x", text)
    assert str(error.value).startswith("--x ")
    assert said in str(error.value)


def test_prices_are_given_by_host() -> None:
    assert quantities.prices("--price", ["big*=0.34", "a=b=1"]) == {"big*": 0.34, "a=b": 1.0}


@pytest.mark.parametrize("text", ["0.34", "=0.34", "big=", "big=cheap", "big=0", "big=-1"])
def test_a_price_without_host_or_number_is_told(text: str) -> None:
    with pytest.raises(errors.QueryError, match="expected HOST=PRICE an hour, such as --price 'big"):
        quantities.prices("--price", [text])
