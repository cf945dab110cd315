"""The table of `quantfleet plan`: cases that differ only in threads share a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scheduler.estimate import Estimate
from scheduler.plan import IMPOSSIBLE, PLANNED, Entry, Plan
from storage import metrics, operations, records

COLOURS = {
    "done": "green",
    PLANNED: "cyan",
    IMPOSSIBLE: "yellow",
    "unsupported": "yellow",
    "failed": "red",
    "dead": "red",
}

Row = tuple[str, ...]


def render(plan: Plan, guess: Estimate) -> Iterator[RenderableType]:
    """A table for each model, the reasons under it, and a closing line with counts and the time it may take."""
    for model, entries in _by_model(plan.entries):
        rows = list(_rows(entries))
        table = Table(title=escape(model), title_justify="left", box=None, pad_edge=False, header_style="bold")
        for heading in ("strategy", "input", "threads", "state"):
            table.add_column(heading, overflow="fold")
        for strategy, asked, threads, state in rows:
            table.add_row(escape(strategy), asked, threads, Text(state, style=COLOURS.get(state, "")))
        yield table
        yield from _remarks(entries)
        yield ""
    yield closing(plan, guess)


def _by_model(entries: Iterable[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.case.model.name, []).append(entry)
    yield from found.items()


def _rows(entries: Iterable[Entry]) -> Iterator[Row]:
    merged: dict[Row, list[str]] = {}
    for entry in entries:
        case = entry.case
        asked = case.label or case.kind
        replica = f" (replica {entry.replica})" if entry.replica else ""
        merged.setdefault((_what(case), asked + replica, entry.state), []).append(str(case.threads or "–"))
    for (strategy, asked, state), threads in merged.items():
        yield strategy, asked, ", ".join(dict.fromkeys(threads)), state


def _what(case: records.Case) -> str:
    """The strategy; of tensor operations that are unlike also what it is compared with."""
    unlike = case.kind == "tensor" and not operations.same(case.strategy, case.baseline)
    return f"{case.strategy} over {case.baseline}" if unlike else case.strategy


def _remarks(entries: Iterable[Entry]) -> Iterator[Text]:
    found = list(entries)
    reasons = dict.fromkeys(f"cannot run: {entry.reason}" for entry in found if entry.reason)
    cautions = dict.fromkeys(f"note: {entry.caution}" for entry in found if entry.caution)
    for remark in (*reasons, *cautions):
        yield Text(f"  {remark}", style="yellow")


def closing(plan: Plan, guess: Estimate) -> str:
    """Counts, and the time that it may take with what that rests on."""
    counts = ", ".join(f"{count} {state}" for state, count in plan.counts().items())
    if not guess.known + guess.guessed:
        return f"{counts}; nothing left to measure"
    basis = "from earlier jobs" if not guess.guessed else "from the study's max_seconds"
    if guess.known and guess.guessed:
        basis = f"{guess.known} jobs from earlier ones, {guess.guessed} from max_seconds"
    return f"{counts}; about {metrics.seconds(guess.seconds)} to measure ({basis})"
