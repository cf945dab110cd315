"""The live display of a run: one bar for the study, one line for the job that is measured now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from scheduler import local
from storage import metrics, queries, records

REFRESH = 1
"""Redraws a second: drawing takes CPU on a machine that is being measured."""


class Display:
    """Shows updates on a terminal; on a pipe it prints a line for each job that ends."""

    def __init__(self, console: Console, total: int) -> None:
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
        self._task = self._bar.add_task("jobs", total=total, left="")
        self._live = Live(console=console, refresh_per_second=REFRESH, transient=True, auto_refresh=False)
        self._ended: set[str] | None = None
        self._began = time.monotonic()
        self._at_start = 0

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, value, trace)

    def update(self, news: local.Update) -> None:
        """Show the newest state of the jobs."""
        ended = {job.id for job in news.jobs if job.state in records.TERMINAL}
        if self._ended is None:
            self._ended, self._at_start = ended, len(ended)
        for job in news.jobs:
            if job.id in ended - self._ended:
                self._console.print(ended_line(job), soft_wrap=True)
        self._ended = ended
        self._bar.update(self._task, completed=len(ended), left=self._left(len(ended), len(news.jobs)))
        self._live.update(self._picture(news), refresh=True)

    def _left(self, done: int, total: int) -> str:
        here = done - self._at_start
        if here < 1 or done == total:
            return ""
        seconds = (time.monotonic() - self._began) / here * (total - done)
        return f"about {metrics.seconds(seconds)} left"

    def _picture(self, news: local.Update) -> RenderableType:
        lines = [Text.from_markup(running_line(job)) for job in news.jobs if job.state == "running"]
        if news.restarts:
            lines.append(Text(f"the worker died and was started again ({news.restarts})", style="yellow"))
        return Group(self._bar, *lines)


def case_name(job: queries.JobView) -> str:
    """A job in a few words: `minilm torch/int8-dynamic · 1 thread · b1×l16`."""
    parts = [escape(f"{job.model} {job.strategy}")]
    if job.threads is not None:
        parts.append(metrics.counted(job.threads, "thread"))
    parts.append(job.input or job.kind)
    return " · ".join(parts)


def running_line(job: queries.JobView) -> str:
    """What the running job has so far."""
    return f"  [cyan]{case_name(job)}[/cyan]  {_so_far(job.progress or {})}"


def ended_line(job: queries.JobView) -> str:
    """One line for a job that has come to its end."""
    colour = {"done": "green", "unsupported": "yellow"}.get(job.state, "red")
    took = f" in {metrics.seconds(job.wall_s)}" if job.wall_s is not None else ""
    tail = f": {escape(job.message)}" if job.message and job.state != "done" else ""
    return f"  [{colour}]{job.state}[/{colour}] {case_name(job)}{took}{tail}"


def _so_far(progress: Mapping[str, Any]) -> str:
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
    return str(phase or "starting")
