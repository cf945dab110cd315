from __future__ import annotations

import pytest

from storage import errors, options
from storage.catalogue import registry
from storage.catalogue.descriptions import Part
from storage.options import Option

KIND = Option(name="kind", type="choice", default="plain", choices=("plain", "1:4", "2:4"), help="")
SHARE = Option(
    name="share",
    type="float",
    default="0.5",
    low=0,
    high=1,
    inside=True,
    positional=True,
    only_with={"kind": ("plain",)},
    help="",
)
WEIGHT = Option(name="weight", type="float", default="0", low=0, high=1, help="")
FLAG = Option(name="careful", type="flag", default="false", help="")
ROWS = Option(name="rows", type="int", default="half", choices=("half",), low=1, high=2**32 - 1, help="")
DATA = Option(name="data", type="name", default="train", help="")
FREE = Option(name="free", type="float", default="1", help="")
ALL = (SHARE, KIND, WEIGHT, FLAG, ROWS, DATA, FREE)


@pytest.mark.parametrize(
    ("option", "written", "normal"),
    [
        (SHARE, "0.30", "0.3"),
        (SHARE, "30%", "0.3"),
        (SHARE, "30 %", "0.3"),
        (SHARE, "3e-1", "0.3"),
        (SHARE, ".3", "0.3"),
        (SHARE, "+0.3", "0.3"),
        (SHARE, "0.1234567890123456", "0.123456789012"),
        (SHARE, "0.00005", "5e-05"),
        (WEIGHT, "1", "1"),
        (WEIGHT, "100%", "1"),
        (WEIGHT, "-0", "0"),
        (FREE, "1e20", "1e20"),  # never 1e+20: `+` begins another part
        (FREE, "-2.50", "-2.5"),
        (FLAG, None, "true"),
        (FLAG, "True", "true"),
        (FLAG, "false", "false"),
        (ROWS, "007", "7"),
        (ROWS, "4294967295", "4294967295"),
        (ROWS, "half", "half"),
        (KIND, "2:4", "2:4"),
        (DATA, "CLINC-150.v2", "CLINC-150.v2"),
    ],
)
def test_a_value_has_one_spelling(option: Option, written: str | None, normal: str) -> None:
    assert option.normal("it", written) == normal
    assert option.normal("it", normal) == normal


@pytest.mark.parametrize(
    ("option", "written", "said"),
    [
        (SHARE, "0", "it: share is a number between 0 and 1, both excluded, not '0'"),
        (SHARE, "1", "both excluded, not '1'"),
        (SHARE, "100%", "both excluded, not '100%'"),
        (SHARE, "0.9999999999999999", "both excluded"),  # would be written 1, which is none
        (SHARE, "nan", "not 'nan'"),
        (SHARE, "inf", "not 'inf'"),
        (SHARE, "", "not ''"),
        (SHARE, "%", "not '%'"),
        (SHARE, "half", "not 'half'"),
        (SHARE, None, "it: share needs a value: share=…, a number between 0 and 1"),
        (WEIGHT, "1.1", "it: weight is a number from 0 to 1, not '1.1'"),
        (ROWS, "0", "it: rows is a whole number from 1 to 4294967295, or half, not '0'"),
        (ROWS, "1.0", "not '1.0'"),
        (ROWS, "1e3", "not '1e3'"),
        (ROWS, "1_000", "not '1_000'"),
        (ROWS, "-1", "not '-1'"),
        (ROWS, "50%", "not '50%'"),
        (ROWS, "9" * 400, "a whole number from 1"),
        (ROWS, "haf", "did you mean 'half'?"),
        (FLAG, "yes", "it: careful is true or false, not 'yes'"),
        (FLAG, "", "not ''"),
        (KIND, "plan", "it: kind is one of plain, 1:4, 2:4, not 'plan'; did you mean 'plain'?"),
        (KIND, "Plain", "did you mean 'plain'?"),
        (KIND, None, "it: kind needs a value: kind=…, one of plain, 1:4, 2:4"),
        (DATA, "../secret", "it: data is a name of letters, digits"),
        (DATA, "", "not ''"),
        (DATA, "x" * 65, "a name of letters"),
    ],
)
def test_what_is_no_value_says_what_would_be_one(option: Option, written: str | None, said: str) -> None:
    with pytest.raises(errors.StrategyError) as caught:
        option.normal("it", written)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "read", "written"),
    [
        ("", {"share": "0.5"}, "0.5"),  # the positional one is always shown
        ("0.5", {"share": "0.5"}, "0.5"),
        ("share=50%", {"share": "0.5"}, "0.5"),
        (" rows = 5 , careful ,0.2", {"careful": "true", "rows": "5", "share": "0.2"}, "0.2,careful=true,rows=5"),
        ("careful=false,rows=half,data=train", {"share": "0.5"}, "0.5"),  # defaults are left out
        ("kind=2:4", {"kind": "2:4"}, "kind=2:4"),  # where the positional one has no meaning, it is left out
        (",,rows=5,", {"rows": "5", "share": "0.5"}, "0.5,rows=5"),
    ],
)
def test_options_are_read_sorted_without_defaults(text: str, read: dict[str, str], written: str) -> None:
    found = options.read("it", ALL, text)
    assert dict(found) == read
    assert [name for name, _ in found] == sorted(read)
    assert options.written(ALL, found) == written
    assert options.read("it", ALL, written) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row=5", "it has no option 'row'; did you mean 'rows'? (it accepts share, kind, weight, careful, rows"),
        ("=5", "it has no option ''"),
        ("rows=5,rows=5", "it: option 'rows' is given twice in 'rows=5,rows=5'"),
        ("0.3,share=0.3", "it: option 'share' is given twice"),
        ("0.3,0.4", "it: option 'share' is given twice"),
        ("0.3,kind=2:4", "it: share goes with kind=plain only, not with kind=2:4"),
        ("rows", "it: rows needs a value"),
    ],
)
def test_options_that_cannot_stand_are_refused(text: str, said: str) -> None:
    with pytest.raises(errors.StrategyError) as caught:
        options.read("it", ALL, text)
    assert said in str(caught.value)


def test_a_bare_word_is_no_option_where_none_is_positional() -> None:
    with pytest.raises(errors.StrategyError, match=r"it has no option '0\.3' \(it accepts careful\)"):
        options.read("it", (FLAG,), "0.3")
    with pytest.raises(errors.StrategyError, match=r"it has no option 'x' \(it accepts none\)"):
        options.read("it", (), "x=1")


@pytest.mark.parametrize("part", registry.parts(), ids=lambda part: part.name)
def test_the_catalogue_spells_its_own_options_rightly(part: Part) -> None:
    names = [option.name for option in part.options]
    assert len(set(names)) == len(names)
    assert sum(option.positional for option in part.options) <= 1
    for option in part.options:
        assert option.normal("", option.default) == option.default
        assert option.type != "choice" or option.default in option.choices
        assert {*option.needs_isa, *option.needs_arch} <= set(option.choices)
        for other, values in option.only_with.items():
            found = options.find("", part.options, other)
            assert all(found.normal("", value) == value for value in values)
    # what it is compared with may be no value of the option: then the dataset is always read
    assert set(part.data_unless or {}) <= set(names)
    assert part.data_unless is None or "data" in names
