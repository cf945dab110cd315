"""Filter expressions: what they keep, and where an error is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scheduler import predicate
from scheduler.cli import listing
from storage import errors
from tests.factories import accuracy_view, failed_view, latency_view

FAST = latency_view(strategy="onnxruntime/int8-dynamic", gain=3.0, threads=1, host="one", flags=("wide",))
SLOW = latency_view(strategy="torch/int8-dynamic", gain=0.5, threads=2, host="two", latency_p95_s=0.05)
REAL = latency_view(strategy="torch/bf16", gain=1.5, length="dataset", flags=("disturbed", "wide"))
RIGHT = accuracy_view(strategy="torch/int8-dynamic", host="it's")
FAILED = failed_view(strategy="openvino/fp32")
EVERY = {"fast": FAST, "slow": SLOW, "real": REAL, "right": RIGHT, "failed": FAILED}


def kept(where: str) -> set[str]:
    test = predicate.compiled(where, listing.FIELDS)
    return {name for name, view in EVERY.items() if test(view)}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("gain > 2", {"fast"}),
        ("gain>=1.5 and threads == 1", {"fast", "real"}),
        ("gain > 2 AND threads = 1 And strategy ~ 'ONNXruntime/*'", {"fast"}),
        ("gain < 1 or kind == 'accuracy'", {"slow", "right"}),
        ("gain < 1 or gain > 2 and host == 'two'", {"slow"}),  # `and` binds closer
        ("(gain < 1 or gain > 2) and host == 'one'", {"fast"}),
        ("not (gain > 1)", {"slow"}),  # what has no gain is not above 1, and not its opposite either
        ("gain != 3", {"slow", "real"}),
        ("gain is null", {"right", "failed"}),
        ("not gain is null and gain is not null", {"fast", "slow", "real"}),
        ("state in ('failed', \"unsupported\")", {"failed"}),
        ("strategy not in ('torch/bf16', 'torch/int8-dynamic') and state == 'done'", {"fast"}),
        ("threads in (2, 4)", {"slow"}),
        ("strategy !~ 'torch/*'", {"fast", "failed"}),
        ("host == 'it''s'", {"right"}),
        ('host == "it\'s"', {"right"}),
        ("flags == 'disturbed'", {"real"}),
        ("flags ~ 'w*'", {"fast", "real"}),
        ("flags !~ 'dist*' and gain > 0", {"fast", "slow"}),  # of no flag, rather than of some other one
        ("flags != 'wide' and gain > 0", {"slow"}),
        ("flags is null and gain > 0", {"slow"}),
        ("latency_p95_s < 20ms and gain > 0", {"fast", "real"}),
        ("latency_p95_s >= 5e-2", {"slow"}),
        ("latency_p95_s >= 50000μs and artifact_bytes < 1TiB", {"slow"}),
        ("artifact_bytes > 55MiB and artifact_bytes < 0.06GB and accuracy == 90%", {"right"}),
        ("latency_p50_s < baseline_latency_p50_s and latency_p95_s > baseline_latency_p95_s", {"slow"}),
        ("length == 16 and gain > 0", {"fast", "slow"}),
        ("length != 16", set()),  # real rows have no length to compare
        ("finished_at > '2023-11-14' and finished_at < '2023-11-15T00:00:00+00:00' and gain > 2", {"fast"}),
        ("gain > -1 and gain < .6", {"slow"}),
    ],
)
def test_an_expression_keeps_what_it_says(where: str, expected: set[str]) -> None:
    assert kept(where) == expected


@pytest.mark.parametrize(
    ("where", "said", "at", "carets"),
    [
        ("gian > 2", "there is no field 'gian'; did you mean 'gain'?", 0, 4),
        ("gain >> 2", "a number or a text in quotes is expected, not '>'", 6, 1),
        ("gain > 2 and", "the name of a field is expected, not 'the end'", 12, 1),
        ("gain > 2 threads == 1", "`and`, `or` or the end is expected, not 'threads'", 9, 7),
        ("1 < gain", "the name of a field is expected, not '1'", 0, 1),
        ("gain > 1 < 2", "one comparison ends before this; join two with `and`", 9, 1),
        ("(gain > 2", "this bracket is not closed", 0, 1),
        ("gain > 2)", "`and`, `or` or the end is expected, not ')'", 8, 1),
        ("gain > 'two'", "gain is a number, not a text", 7, 5),
        ("state == failed", "there is no field 'failed'", 9, 6),
        ("state == 'failed", "this text has no closing quote", 9, 1),
        ("strategy < 'a'", "strategy is a text, which ==, !=, ~, !~ and `in` compare", 9, 1),
        ("threads ~ '1*'", "threads is a number; a pattern (~) is for texts", 8, 1),
        ("state == 3", "state is a text, not a number; texts stand in quotes", 9, 1),
        ("gain > 2 && threads == 1", "'&' means nothing here; say `and`", 9, 1),
        ("latency_p50_s < 20MB", "latency_p50_s is given without a unit, or in ns, us, µs", 16, 4),
        ("gain == null", "nothing equals null; say `is null`", 8, 4),
        ("gain is 3", "`null` is expected after `is`, not '3'", 8, 1),
        ("state in ()", "a number or a text in quotes is expected, not ')'", 10, 1),
        ("gain not > 3", "`in` is expected after `not`, not '>'", 9, 1),
        ("strategy == gain", "strategy is a text, gain is a number", 12, 4),
        ("finished_at > 'yesterday'", "a time is epoch seconds, or a text such as", 14, 11),
        ("gain.__class__ == 1", "'.' means nothing here", 4, 1),
        ("__class__ == 'x'", "there is no field '__class__'", 0, 9),
        ("document == 'x'", "there is no field 'document'", 0, 8),
    ],
)
def test_an_error_stands_under_its_place(where: str, said: str, at: int, carets: int) -> None:
    with pytest.raises(errors.QueryError) as caught:
        kept(where)
    message, line, pointer = str(caught.value).split("\n")
    assert said in message
    assert line == f"  {where}"
    assert pointer == f"  {' ' * at}{'^' * carets}"


def test_a_place_in_a_long_expression_is_shown_with_what_stands_around_it() -> None:
    where = " or ".join(["gain > 2"] * 40) + " or\tgian > 2 or " + " or ".join(["state == '中文'"] * 40)
    with pytest.raises(errors.QueryError) as caught:
        kept(where)
    _, line, pointer = str(caught.value).split("\n")
    assert max(len(line), len(pointer)) < 90
    assert line[pointer.index("^") : pointer.index("^") + 4] == "gian"
    assert (line[2], line[-1]) == ("…", "…")


@pytest.mark.parametrize(
    "where", ["", "  ", "(" * 5000 + "gain > 1" + ")" * 5000, "not " * 60 + "gain > 1", "a" * 20_000]
)
def test_what_no_person_writes_is_refused(where: str) -> None:
    with pytest.raises(errors.QueryError, match="--where: "):
        kept(where)


def test_what_the_page_tells_to_write_can_be_read() -> None:
    page = (Path(__file__).parents[3] / "docs" / "query.md").read_text()
    table = page[page.index("| write | for |") :].split("\n\n", 1)[0]
    written = [span for row in table.splitlines()[2:] for span in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    typed = re.findall(r'--where "([^"]+)"', page)
    assert len(written) >= 12
    assert len(typed) >= 3
    for where in [*written, *(one for one in typed if "thread ==" not in one)]:
        predicate.compiled(where, listing.FIELDS)
