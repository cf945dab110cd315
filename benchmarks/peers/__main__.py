"""The same sweep by quantfleet and by its peers, side by side in one run.

    python -m benchmarks.peers [--model FOLDER] [--peers FOLDER] [--repetitions 5]

fp32 and int8-dynamic × threads 1, 2 × three inputs on a local model (after `make assets`, the demo's), by quantfleet
with two and with six pairs of processes and with its default precision, by optimum-benchmark, Olive's evaluator,
pyperf and MLPerf LoadGen. Peers get virtual environments of their own in the folder that --peers names, made at the
first run (TORCH_INDEX names an extra package index, as for make). The first repetition is the whole sweep; the others
repeat one input, for the spread.

Columns: wall time of the sweep, and its numbers an hour; seconds of timed calls behind a number; the reported median
against bare loops in fresh processes of the same environment, run in turn (geometric mean, and the farthest case);
standard deviation over repetitions of the reported median, and of the gain fp32 ÷ int8; machine seconds until the mean
of such gains is within ±5 % (wall time × the repetitions that this spread asks for); threads asked for → seen to use
CPU in the measured process, and cores that the tool's other processes used meanwhile (a parent that spins).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import common, overhead
from benchmarks.peers import bare, columns, environments, ours, tools
from benchmarks.peers.ours import Setting
from benchmarks.peers.sweep import Case, Effort, Outcome, cases
from benchmarks.peers.tools import Tool

NAMES = (*(one.name for one in ours.SETTINGS), *(one.name for one in tools.TOOLS))


@dataclass(slots=True)
class Board:
    """What has come of everything so far."""

    outcomes: dict[str, list[list[Outcome]]] = field(default_factory=dict)  # tool → repetitions
    walls: dict[str, float] = field(default_factory=dict)  # quantfleet's whole sweeps
    truth: dict[Path, dict[Case, list[float]]] = field(default_factory=dict)  # interpreter → bare loops

    def add(self, tool: str, outcome: Outcome) -> None:
        """Into the newest repetition."""
        self.outcomes[tool][-1].append(outcome)
        what = f"{1e3 * outcome.median_s:.2f} ms" if outcome.median_s else outcome.reason
        _say(f"  {tool:20} {outcome.case!s:32} {what}  ({outcome.wall_s:.0f} s)")


def main() -> None:
    """Measure, and print the table."""
    asked = _asked()
    print(common.machine(), flush=True)
    board, pythons = Board(), _interpreters(asked)
    effort = Effort(model=asked.model.resolve(), seconds=asked.seconds, processes=asked.processes)
    whole = cases(asked.lengths, (1, 2))
    again = [case for case in whole if case.length == asked.again]
    began = time.monotonic()
    with common.scratch() as folder:
        for number in range(asked.repetitions):
            _repetition(number, whole if number == 0 else again, effort, pythons, board, asked.tools, folder)
        print(f"{len(whole)} cases once, {len(again)} of them {asked.repetitions} times; {effort.seconds} s of calls "
              f"in each where that can be set; {time.monotonic() - began:.0f} s in all\n")  # fmt: skip
        _report(board, pythons, asked.tools)
        for one in ours.SETTINGS:
            if one.name in asked.tools:
                print(f"\nwhere the time of {one.name!r} went (first sweep):")
                overhead.report(_place(folder, one, 0) / "sweep.db", board.walls[one.name])


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=common.ASSETS / "intents-model")
    parser.add_argument("--peers", type=Path, default=common.ASSETS / "peers", help="folder of peers' environments")
    parser.add_argument("--lengths", type=_numbers, default=(16, 64, 128), help="tokens of the inputs: 16,64,128")
    parser.add_argument("--again", type=int, default=64, help="the input that all repetitions measure")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of timed calls in each case")
    parser.add_argument("--processes", type=int, default=2, help="of pyperf in each case (its own default is 20)")
    some = "; ".join(NAMES).replace("%", "%%")  # as argparse wants it
    parser.add_argument("--tools", type=_words, default=NAMES, help=f"some of: {some}")
    asked = parser.parse_args()
    if asked.again not in asked.lengths:
        parser.error(f"--again {asked.again} is none of the inputs {', '.join(map(str, asked.lengths))}")
    if not (asked.model / "config.json").is_file():
        parser.error(f"--model {asked.model} is no folder of a model: `make assets` makes the demo's")
    if unknown := [name for name in asked.tools if name not in NAMES]:
        parser.error(f"there is no tool {unknown[0]!r}: {'; '.join(NAMES)}")
    return asked


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(";"))


def _interpreters(asked: argparse.Namespace) -> dict[str, Path | str]:
    """Environment → its interpreter, or why there is none."""
    found: dict[str, Path | str] = {}
    for one in dict.fromkeys(tool.environment for tool in tools.TOOLS if tool.name in asked.tools):
        try:
            found[one.name] = environments.ready(asked.peers.resolve(), one)
        except environments.NotInstalled as exc:
            found[one.name] = f"does not install: {exc}"
    return found


def _repetition(
    number: int,
    wanted: Sequence[Case],
    effort: Effort,
    pythons: dict[str, Path | str],
    board: Board,
    names: Sequence[str],
    folder: Path,
) -> None:
    """Everything once; who comes first changes from one repetition and case to the next."""
    _say(f"repetition {number + 1}")
    settings = [one for one in ours.SETTINGS if one.name in names]
    peers = [one for one in tools.TOOLS if one.name in names]
    own = Path(sys.executable)
    for name in names:
        board.outcomes.setdefault(name, []).append([])
    for one in settings[:: 1 if number % 2 else -1]:
        _quantfleet(one, number, wanted, effort, board, folder)
        _loops(own, wanted[settings.index(one) :: len(settings)], effort, board)
    reference = next((python for python in pythons.values() if isinstance(python, Path)), None)
    for place, case in enumerate(wanted):
        if reference is None:
            break
        _loops(reference, [case], effort, board)
        for tool in _turned(peers, place + number):
            _peer(tool, case, effort, pythons[tool.environment.name], board, folder, board.truth[reference][case][-1])


def _turned(peers: Sequence[Tool], by: int) -> Iterator[Tool]:
    for place in range(len(peers)):
        yield peers[(place + by) % len(peers)]


def _quantfleet(
    setting: Setting, number: int, wanted: Sequence[Case], effort: Effort, board: Board, folder: Path
) -> None:
    place = _place(folder, setting, number)
    place.mkdir()
    swept = ours.run(setting, effort, wanted, place)
    board.walls.setdefault(setting.name, swept.wall_s)
    for outcome in swept.outcomes:
        board.add(setting.name, outcome)


def _place(folder: Path, setting: Setting, number: int) -> Path:
    return folder / f"ours-{ours.SETTINGS.index(setting)}-{number}"


def _loops(python: Path, wanted: Sequence[Case], effort: Effort, board: Board) -> None:
    for case in wanted:
        began = time.monotonic()
        median_s = bare.median_s(python, effort, case)
        board.truth.setdefault(python, {}).setdefault(case, []).append(median_s)
        _say(f"  {'bare loop':20} {case!s:32} {1e3 * median_s:.2f} ms  ({time.monotonic() - began:.0f} s)")


def _peer(
    tool: Tool, case: Case, effort: Effort, python: Path | str, board: Board, folder: Path, call_s: float
) -> None:
    if isinstance(python, str):
        board.outcomes[tool.name][-1].append(Outcome(case=case, wall_s=0.0, reason=python))
        return
    place = folder / f"{tool.name}-{len(board.outcomes[tool.name])}-{len(board.outcomes[tool.name][-1])}"
    place.mkdir()
    asked = tools.Asked(case=case, effort=effort, python=python, folder=place, call_s=call_s)
    board.add(tool.name, tools.measure(tool, asked))


def _report(board: Board, pythons: dict[str, Path | str], names: Sequence[str]) -> None:
    reference = next((python for python in pythons.values() if isinstance(python, Path)), Path(sys.executable))
    known = {one.name for one in ours.SETTINGS}
    rows = [
        columns.row(
            name,
            board.outcomes[name],
            board.truth.get(Path(sys.executable) if name in known else reference, {}),
            board.walls.get(name),
        )
        for name in names
    ]
    print(columns.HEAD)
    for one in rows:
        print(columns.text(one))
    for python, found in board.truth.items():
        spread = columns.pooled_spread(list(found.values()))
        if spread is not None:
            whose = "quantfleet's" if python == Path(sys.executable) else "the peers'"
            print(f"a bare loop's own median in {whose} environment spreads by {100 * spread:.1f} %")
    print()
    for setting in (*ours.SETTINGS, *tools.TOOLS):
        if setting.name in names:
            print(f"{setting.name}: {setting.setting}")
    for one in rows:
        for reason in one.reasons:
            print(f"{one.tool}, without a number: {reason}")
    _ratio(rows, known)


def _ratio(rows: Sequence[columns.Row], known: set[str]) -> None:
    """The headline: against the peer that is fastest."""
    others = [one for one in rows if one.tool not in known and one.answered]
    for own in (one for one in rows if one.tool in known):
        if others:
            fastest = max(others, key=lambda one: one.cases_per_hour)
            ratio = own.cases_per_hour / fastest.cases_per_hour
            print(f"\n{own.tool}: ×{ratio:.2f} the numbers an hour of {fastest.tool}, the fastest peer", end="")
            told = [one for one in others if one.target_s is not None]
            if own.target_s is not None and told:
                best = min(told, key=lambda one: one.target_s or 0.0)
                print(f"; ×{(best.target_s or 0.0) / own.target_s:.2f} those of {best.tool} at ±5 % of a gain", end="")
    print()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
