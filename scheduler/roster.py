"""The fleet's hosts, each with what it measures, what waits for it and whom it is like (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler import alike, progress
from storage.queries import HostView, JobGroup, JobView


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One host with what it does and whom it is like."""

    host: HostView
    measuring: JobView | None
    waiting: int  # jobs that it may run, and perhaps others too
    shares: tuple[str, ...]  # hosts of the same platform
    differs: tuple[str, ...]  # in what its software differs from that of others of its hardware


def rows(known: Sequence[HostView], running: Sequence[JobView], groups: Sequence[JobGroup]) -> tuple[Row, ...]:
    """Each host with what it measures, how many jobs wait for it, and whom it is like; by name."""
    measuring = {job.host: job for job in running}
    waiting = [group for group in groups if group.state == "queued"]
    return tuple(
        Row(
            host=host,
            measuring=measuring.get(host.name),
            waiting=sum(
                group.count for group in waiting if progress.serves(host, group.platform_key, group.wanted_host)
            ),
            shares=alike.shares_with(host, known),
            differs=alike.differs_from(host, known),
        )
        for host in known
    )
