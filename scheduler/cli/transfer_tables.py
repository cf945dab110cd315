"""What `transfer` prints: platforms by pairs, signs that flip, and the cases to measure first on a new host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler import compare, placing
from scheduler.cli import paging, tables
from scheduler.placing import Check, Choice
from scheduler.transfer import FEWEST, Flip, Gains, Held, Pair
from storage import metrics

SOFTWARE, HARDWARE = "§", "="
"""Marks of a pair: its software differs; its hardware is the same."""

PAIRS, LINES = 60, 40
"""Pairs of platforms, and cases that flip, that are listed at most; `--json` has all."""

WORST = 6
"""Pairs whose worst case is listed, those with the largest errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class First:
    """What is worth measuring first on a new host, and how that choice did on known ones."""

    wanted: bool = False
    choices: tuple[Choice, ...] = ()
    checks: tuple[Check, ...] = ()  # none: too few hardware to leave one out
    hardware: int = 0  # that are known


def render(known: Gains, pairs: Sequence[Pair], flips: Sequence[Flip], first: First, width: int) -> RenderableType:
    """Everything that the command prints."""
    shared = sum(len(rows) > 1 for rows in known.rows.values())
    what = f"{metrics.counted(len(known.columns), 'platform')}, {metrics.counted(shared, 'case')} on two or more"
    parts: list[RenderableType] = [Text(f"does a gain there hold here? {what}", style="bold"), Text()]
    parts += tables.folded(_PAIR, _PAIRS, [("", pairs[:PAIRS])], width)
    parts += _left(len(pairs) - PAIRS, "pair", "--json has all")
    parts += tables.listed("the worst errors", _worst(known, pairs))
    lines = _flips(flips)
    parts += tables.listed("a gain there, a loss here", lines[:LINES])
    parts += _left(len(lines) - LINES, "line", "narrow with --model, --strategy or --threads; --json has all")
    if first.wanted:
        parts += [Text(), *_first(first, width)]
    return Group(*parts, Text(), *_legend(known, pairs))


def _left(left: int, noun: str, hint: str) -> list[RenderableType]:
    text = paging.more(left, noun, hint)
    return [] if text is None else [_plain(text)]


def _worst(known: Gains, pairs: Iterable[Pair]) -> list[str]:
    """`torch/bf16 (b1×l16, 1 thread): ×1.41 on A, ×0.51 on B` of the pairs with the largest errors."""
    lines = []
    for pair in sorted(pairs, key=lambda pair: -(pair.worst_error or 0.0))[:WORST]:
        if pair.worst is not None:
            rows = known.rows[pair.worst]
            sides = (f"{metrics.ratio(rows[one.where].gain)} on {one.name}" for one in (pair.one, pair.other))
            lines.append(f"{pair.worst.text}: {', '.join(sides)}")
    return lines


def _flips(flips: Iterable[Flip]) -> list[str]:
    """One line for all cases of a strategy that flip on the same platforms."""
    found: dict[tuple[str, str, str], list[Flip]] = {}
    for flip in flips:
        found.setdefault((flip.case.strategy, ", ".join(flip.faster), ", ".join(flip.slower)), []).append(flip)
    return [
        f"{strategy}: {_range(one.faster[name].gain for one in some for name in one.faster)} on {faster}; "
        f"{_range(one.slower[name].gain for one in some for name in one.slower)} on {slower} "
        f"({'; '.join(compare.shape(one.case) for one in some)})"
        for (strategy, faster, slower), some in found.items()
    ]


def _range(gains: Iterable[float | None]) -> str:
    values = [gain for gain in gains if gain is not None]
    low, high = metrics.ratio(min(values)), metrics.ratio(max(values))
    return low if low == high else f"{low} to {high}"


def _first(first: First, width: int) -> Iterator[RenderableType]:
    yield Text("a new host: what to measure first", style="bold")
    yield Text()
    yield from tables.folded(_CASE, _CHOICES, [("", list(enumerate(first.choices, 1)))], width)
    yield Text()
    if not first.checks:
        needed = placing.HOSTS + 1
        yield _plain(f"not checked by leaving a machine out: that takes {needed} hardware, there are {first.hardware}")
        return
    cells, hardware = first.checks[0].cells, first.checks[0].hardware
    yield _plain(
        f"checked by leaving each of {hardware} hardware out: typical error over its gains ({cells} in all; measured "
        "ones have none)"
    )
    yield Text()
    yield from tables.folded(_COUNT, _CHECKS, [("", first.checks)], width)


def _plain(text: str) -> Text:
    return Text(text, overflow="fold")


def _error(ratio: float | None) -> str:
    return tables.NOTHING if ratio is None else metrics.percent(ratio - 1, 0)


def _held(held: Held) -> str:
    """`17 of 20`, and how many of the others are losses."""
    text = f"{held.held} of {held.gains}"
    return f"{text}, {held.lost} lost" if held.lost else text


def _marks(pair: Pair) -> str:
    software = SOFTWARE if pair.one.libraries != pair.other.libraries else ""
    return software + (HARDWARE if pair.same_hardware else "")


def _names(pair: Pair) -> str:
    return f"{pair.one.name}\n↔ {pair.other.name} {_marks(pair)}".rstrip()


def _correlation(pair: Pair) -> str:
    return tables.NOTHING if pair.correlation is None else f"{pair.correlation:.2f}"


_PAIR: tuple[tables.Column[Pair], ...] = (tables.Column(title="platforms", cell=_names, left=True),)
_PAIRS: tuple[tables.Column[Pair], ...] = (
    tables.Column(title="cases", cell=lambda pair: str(pair.cases)),
    tables.Column(title="rank\ncorrelation", cell=_correlation, always=True),
    tables.Column(title="error\nmedian", cell=lambda pair: _error(pair.median_error)),
    tables.Column(title="\nworst", cell=lambda pair: _error(pair.worst_error)),
    tables.Column(title="\ndiffer", cell=lambda pair: f"{pair.differ} of {pair.tested}"),
    tables.Column(title="gains held\n→", cell=lambda pair: _held(pair.there), left=True),
    tables.Column(title="\n←", cell=lambda pair: _held(pair.back), left=True),
)

Numbered = tuple[int, Choice]

_CASE: tuple[tables.Column[Numbered], ...] = (
    tables.Column(title="", cell=lambda one: str(one[0])),
    tables.Column(title="case", cell=lambda one: _case(one[1]), left=True),
)
_CHOICES: tuple[tables.Column[Numbered], ...] = (
    tables.Column(title="platforms\nthat have it", cell=lambda one: str(one[1].hosts)),
    tables.Column(title="their mean\ngain", cell=lambda one: metrics.ratio(one[1].mean_gain)),
    tables.Column(title="variance\nleft", cell=lambda one: metrics.percent(one[1].left, 0)),
    tables.Column(title="expected\nerror", cell=lambda one: metrics.percent(one[1].uncertainty, 0)),
)
_COUNT: tuple[tables.Column[Check], ...] = (tables.Column(title="cases measured", cell=lambda check: str(check.count)),)
_CHECKS: tuple[tables.Column[Check], ...] = (
    tables.Column(title="these", cell=lambda check: metrics.percent(check.chosen, 1)),
    tables.Column(title="random ones", cell=lambda check: metrics.percent(check.at_random, 1)),
    tables.Column(title="none: mean of the others", cell=lambda check: metrics.percent(check.mean_of_others, 1)),
)


def _case(choice: Choice) -> str:
    case = choice.case
    return f"{tables.strategy_lines(case.strategy)}\n  {case.model}, {compare.shape(case)}"


def _legend(known: Gains, pairs: Sequence[Pair]) -> Iterator[Text]:
    yield _dim("error: of taking one's gain for the other's, a ratio on log scale (25 %: off by ×1.25 or ÷1.25)")
    yield _dim("differ: gains whose difference their 95 % intervals do not explain (1 of 20 by chance)")
    yield _dim("gains held: of the significant gains of the first, those that are significant gains on the second (→)")
    if any(pair.correlation is None for pair in pairs):
        yield _dim(f"{tables.NOTHING} no rank correlation of fewer than {FEWEST} cases, nor of equal gains")
    marks = {mark for pair in pairs for mark in _marks(pair)}
    if SOFTWARE in marks:
        yield _dim(f"{SOFTWARE} their software differs too (`quantfleet compare` says in what)")
    if HARDWARE in marks:
        yield _dim(f"{HARDWARE} one hardware, with two kinds of software")
    if known.left_out:
        counted = metrics.counted(known.left_out, "gain")
        yield _dim(f"{counted} on another content of a model or input left out (`quantfleet compare` shows them)")


def _dim(text: str) -> Text:
    return Text(text, style="dim", overflow="fold")
