"""Queueing: the search for the highest rate against an M/D/1 queue, whose answer is known by formula.

    python -m benchmarks.queueing [--service 5] [--bound 15] [--percentile 95] [--requests 600] [--searches 3]

The real dispatcher sends real requests to a real process that is busy for a fixed time with each (it spins, it does not
sleep). What the dispatcher costs is part of the service time here: it is measured first, by requests back to back, and
the formula gets the sum.
"""

from __future__ import annotations

import argparse
import functools
import math

from benchmarks import common
from tests import queues
from tests.spinners import Spinner
from worker import arrivals, dispatch, search, serving


def main() -> None:
    """Print a row for each search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", type=float, default=5.0, help="ms")
    parser.add_argument("--bound", type=float, default=15.0, help="ms")
    parser.add_argument("--percentile", type=float, default=95.0)
    parser.add_argument("--requests", type=int, default=600, help="in a run, at least")
    parser.add_argument("--searches", type=int, default=3)
    asked = parser.parse_args()
    spinner = Spinner(asked.service / 1e3)
    try:
        _table(asked, spinner)
    finally:
        spinner.close()


def _table(asked: argparse.Namespace, spinner: Spinner) -> None:
    bound_s, q = asked.bound / 1e3, asked.percentile / 100
    service_s = _back_to_back(spinner, 300)
    known = queues.highest_rate(bound_s, q, service_s)
    print(common.machine())
    print(f"service {1e3 * service_s:.3f} ms, of it {1e3 * service_s - asked.service:.3f} ms beyond the call itself")
    print(f"p{asked.percentile:g} ≤ {asked.bound:g} ms by formula: {known:.1f} requests/s")
    for number in range(asked.searches):
        attempt = functools.partial(_trial, spinner, asked.requests, bound_s, 100 * number)
        found = search.highest(attempt, bound_s=bound_s, q=q, first=0.5 / service_s)
        rate = math.nan if found.holds is None else found.holds.rate_per_s
        print(f"search {number + 1}: {rate:.1f}/s, {rate / known:.3f} of the formula's ({len(found.probes)} rates)")


def _back_to_back(spinner: Spinner, count: int) -> float:
    """Seconds that a request holds the server when the next one waits already.

    Not the latency of a lone request: this one finds a sleeping process, whose waking is in no queue's way.
    """
    desk = dispatch.Crew([spinner], lambda: None, within_s=60.0)
    began = desk.now()
    for _ in range(count):
        desk.begin(0, [0])
        while not desk.wait(desk.now() + 1.0):
            pass
    return (desk.now() - began) / count


def _trial(spinner: Spinner, count: int, bound_s: float, seed: int, rate: float, repeat: int) -> search.Trial:
    served = _run(spinner, rate, max(count, math.ceil(rate * bound_s / search.WIDTH)), seed + repeat)
    return search.Trial(latencies_s=served.latency_s[served.settled].tolist(), overloaded=served.overloaded)


def _run(spinner: Spinner, rate: float, count: int, seed: int) -> serving.Served:
    times, items = arrivals.poisson(rate, count, seed), arrivals.mix(1, None, count, seed)
    desk = dispatch.Crew([spinner], lambda: None, within_s=60.0)
    return serving.run(times, items, serving.Rules(), 1, desk)


if __name__ == "__main__":
    main()
