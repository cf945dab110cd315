"""The live display of jobs being measured: a bar, what each host is doing, and a line for each job that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from scheduler.cli.tables import clean
from storage import metrics, queries

REFRESH = 1
"""Redraws a second: drawing takes CPU on a machine that may be measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What there is to show."""

    total: int
    done: int  # jobs that have come to their end
    ended: Sequence[queries.JobView]  # those of them that may not have been told yet
    running: Sequence[queries.JobView]
    below: Sequence[RenderableType] = ()  # what else to show under the bar
    left: str | None = None  # how long it may take; None: as long a job as so far
    hosts: bool = False  # whether to name the host of each job


class Display:
    """Shows news on a terminal; on a pipe it prints a line for each job that ends. The first news are the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]jobs"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            auto_refresh=False,
            console=console,
        )
        self._task = self._bar.add_task("jobs", total=0, left="")
        self._live = Live(console=console, refresh_per_second=REFRESH, transient=True, auto_refresh=False)
        self._told: set[str] | None = None
        self._began = time.monotonic()
        self._at_start = 0

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, value, trace)

    def update(self, news: News) -> None:
        """Show the newest state of the jobs."""
        for job in self.untold(news):
            self._console.print(ended_line(job, host=news.hosts), soft_wrap=True)
        left = news.left if news.left is not None else self._left(news)
        self._bar.update(self._task, completed=news.done, total=news.total, left=left)
        running = [Text.from_markup(running_line(job, host=news.hosts)) for job in news.running]
        self._live.update(Group(self._bar, *running, *news.below), refresh=True)

    def untold(self, news: News) -> list[queries.JobView]:
        """The jobs that ended since the last news, each once; none of those that had ended at the start."""
        ended = {job.id for job in news.ended}
        if self._told is None:
            self._told, self._at_start = ended, news.done
        found = [job for job in news.ended if job.id not in self._told]
        self._told |= ended
        return found

    def _left(self, news: News) -> str:
        here = news.done - self._at_start
        if here < 1 or news.done == news.total:
            return ""
        seconds = (time.monotonic() - self._began) / here * (news.total - news.done)
        return f"about {metrics.seconds(seconds)} left"


def case_name(job: queries.JobView) -> str:
    """A job in a few words: `minilm torch/int8-dynamic · 1 thread · b1×l16`."""
    parts = [f"{job.model} {job.strategy}".strip()]  # a job about the machine itself has no strategy
    if job.threads is not None:
        parts.append(metrics.counted(job.threads, "thread"))
    parts.append(job.input or job.kind)
    return " · ".join(parts)


def running_line(job: queries.JobView, *, host: bool = False) -> str:
    """What a running job has so far."""
    where = f"{escape(job.host or '?')}: " if host else ""
    return f"  {where}[cyan]{escape(case_name(job))}[/cyan]  {so_far(job.progress or {})}"


def ended_line(job: queries.JobView, *, host: bool = False) -> str:
    """One line for a job that has come to its end."""
    colour = {"done": "green", "unsupported": "yellow"}.get(job.state, "red")
    where = f" on {escape(job.host)}" if host and job.host else ""
    took = f" in {metrics.seconds(job.wall_s)}" if job.wall_s is not None else ""
    tail = f": {escape(clean(job.message))}" if job.message and job.state != "done" else ""
    return f"  [{colour}]{job.state}[/{colour}] {escape(case_name(job))}{where}{took}{tail}"


def so_far(progress: Mapping[str, Any]) -> str:
    """A running job's progress in a few words."""
    phase = progress.get("phase")
    if phase == "measuring":
        band = ""
        if progress.get("gain_low") is not None:
            band = f" [{metrics.ratio(progress['gain_low'])} – {metrics.ratio(progress['gain_high'])}]"
        return (
            f"{metrics.ratio(progress['gain'])}{band.replace('[', chr(92) + '[')}, "
            f"{metrics.counted(progress['pairs'], 'pair')}, {metrics.counted(progress['rounds'], 'round')}"
        )
    if phase == "accuracy":
        return f"accuracy {progress['done']} of {progress['total']} rows"
    return escape(str(phase or "starting")) + _steps(progress)


def _steps(progress: Mapping[str, Any]) -> str:
    """How far a preparation is: ` step 120 of 900, loss 0.31, about 2 min left`, as far as it says so."""
    parts: list[str] = []
    for done, total, what in (("step", "steps", "step "), ("done", "total", "")):
        if progress.get(total):
            parts.append(f" {what}{progress.get(done, 0)} of {progress[total]}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3g}")
    if progress.get("eta_s") is not None:
        parts.append(f"about {metrics.seconds(progress['eta_s'])} left")
    return ", ".join(parts)
