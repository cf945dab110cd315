"""Which few cases to measure first on a new host, so that they tell most about all the others (pure).

Log gains of a host are taken as one draw from a multivariate normal distribution over the cases; its mean and
covariance are estimated from the known hosts. These are few, so the covariance is shrunk towards equal variances
without correlation by the oracle approximating estimator (Chen, Wiesel, Eldar & Hero, "Shrinkage algorithms for MMSE
covariance estimation", IEEE Transactions on Signal Processing 58, 2010, equation 23). What was measured narrows the
rest by the normal distribution's conditional (Rasmussen & Williams, "Gaussian processes for machine learning", 2006,
A.6), measurements having the variance of their own intervals.

Cases are chosen greedily: each time the one that leaves the least variance over all cases (the A-optimal choice;
Krause, Singh & Guestrin, "Near-optimal sensor placements in Gaussian processes", JMLR 9, 2008, compare criteria).
A case that a known host lacks counts as the mean of those that have it, which understates how much it tells.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler import ratios
from scheduler.transfer import Case, Gains

HOSTS = 3
"""Hardware that must be known: two tell a difference between hosts, three how differences go together."""

DRAWS = 200
"""Random choices that a chosen one is checked against, on each host that is left out."""

MOST = 400
"""Cases that a model takes, those that most hosts have: time grows with their square."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A case worth measuring, after those before it."""

    case: Case
    hosts: int  # platforms that its gain is known on
    mean_gain: float  # geometric mean of these
    left: float  # share of the variance over all cases that is left when it is measured too
    uncertainty: float  # typical relative error of all gains that is then expected: exp(root mean square) − 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What leaving each hardware out says: typical relative errors over its cases, measured ones counted as known."""

    count: int  # cases that are measured
    chosen: float  # error with the chosen cases
    at_random: float  # with as many random ones, root mean square over DRAWS of them
    mean_of_others: float  # with none: the mean gain of the other hosts
    hardware: int  # that were left out, one after the other
    cells: int  # gains that were predicted


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Log gains, hosts × cases; NaN where a host lacks a case."""

    logs: Numbers  # [hosts, cases]
    noise: Numbers  # [hosts, cases], variances of the log gains; NaN likewise

    @property
    def cases(self) -> int:
        """Number of cases."""
        return int(self.logs.shape[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A normal distribution of a host's log gains."""

    mean: Numbers  # [cases]
    covariance: Numbers  # [cases, cases]
    noise: Numbers  # [cases], variance of a measurement


def first(known: Gains, count: int) -> list[Choice]:
    """The cases to measure first, at most `count`; none where fewer than HOSTS hardware are known."""
    cases = _usable(known)
    if hardware(known) < HOSTS or not cases:
        return []
    found = table(known, cases)
    model = fit(found)
    chosen = choose(model, count)
    start = float(np.trace(model.covariance))
    return [_choice(model, found, cases, chosen[: number + 1], start) for number in range(len(chosen))]


def check(known: Gains, counts: Sequence[int], *, seed: int = 0) -> list[Check]:
    """Errors with so many chosen cases, each hardware left out in turn; none with fewer than HOSTS + 1 hardware.

    All platforms of one hardware are left out together: they are too alike to be new to one another.
    """
    if hardware(known) <= HOSTS:
        return []
    cases = _usable(known)
    keys = [column.platform.hardware_key for column in known.columns]
    groups = [[at for at, key in enumerate(keys) if key == one] for one in dict.fromkeys(keys)]
    return left_out(table(known, cases), groups, counts, seed=seed)


def hardware(known: Gains) -> int:
    """How many hardware have comparable gains."""
    return len({where[0] for rows in known.rows.values() for where in rows})


def table(known: Gains, cases: Sequence[Case]) -> Table:
    """Log gains and their variances; a gain without an interval has the median variance."""
    logs = np.full((len(known.columns), len(cases)), np.nan)
    noise = np.full_like(logs, np.nan)
    for at, column in enumerate(known.columns):
        for number, case in enumerate(cases):
            row = known.rows[case].get(column.where)
            estimate = None if row is None else ratios.gain(row)
            if estimate is not None:
                logs[at, number] = estimate.log
                noise[at, number] = np.nan if estimate.variance is None else estimate.variance
    middle = float(np.nanmedian(noise)) if np.isfinite(noise).any() else 0.0
    return Table(logs=logs, noise=np.where(np.isnan(noise) & ~np.isnan(logs), middle, noise))


def fit(known: Table) -> Model:
    """Mean, shrunk covariance and noise; every case must be known on a host."""
    mean = np.nanmean(known.logs, axis=0)
    centred = np.where(np.isnan(known.logs), 0.0, known.logs - mean)
    return Model(mean=mean, covariance=shrunk(centred), noise=np.nanmean(known.noise, axis=0))


def shrunk(centred: Numbers) -> Numbers:
    """Covariance [cases, cases] of centred rows [hosts, cases], shrunk by Chen et al. (2010), equation 23.

    Their n is the degrees of freedom, hosts − 1, for the mean was taken out. One degree shrinks all the way: two hosts
    tell nothing of how cases go together.
    """
    df, size = len(centred) - 1, centred.shape[1]
    sample = centred.T @ centred / max(1, df)
    trace, square = float(np.trace(sample)), float((sample**2).sum())
    if df < 2 or size < 2 or square <= trace**2 / size:
        share = 1.0
    else:
        top = (1 - 2 / size) * square + trace**2
        share = min(1.0, top / ((df + 1 - 2 / size) * (square - trace**2 / size)))
    target: Numbers = np.eye(size) * trace / size
    return (1 - share) * sample + share * target


def choose(model: Model, count: int) -> list[int]:
    """Indices of at most `count` cases, each leaving the least variance over all; the first of equals."""
    covariance, chosen = model.covariance.copy(), list[int]()
    while len(chosen) < min(count, len(model.mean)):
        variance = np.maximum(np.diag(covariance) + model.noise, 1e-12)
        reduction = (covariance**2).sum(axis=0) / variance
        reduction[chosen] = -1.0
        best = int(np.argmax(reduction))
        chosen.append(best)
        covariance = _measured(covariance, best, float(variance[best]))
    return chosen


def predict(model: Model, chosen: Sequence[int], logs: Numbers) -> Numbers:
    """Log gains of all cases of a host from those of the chosen ones, `logs` [cases]; these stay as measured."""
    if not chosen:
        return model.mean
    at = np.array(chosen)
    own = model.covariance[np.ix_(at, at)] + np.diag(np.maximum(model.noise[at], 1e-12))
    weights = np.linalg.solve(own, logs[at] - model.mean[at])
    found: Numbers = model.mean + model.covariance[:, at] @ weights
    found[at] = logs[at]
    return found


def left_out(known: Table, groups: Sequence[Sequence[int]], counts: Sequence[int], *, seed: int = 0) -> list[Check]:
    """As `check`, on a table; each group of rows is left out together. A fold predicts what its rest knows.

    Chosen and random cases are of those that the left-out host has; a host with no more of them is predicted with all.
    """
    draw = random.Random(seed)  # noqa: S311 - a sample, not a secret
    sums: dict[int, list[Numbers]] = {count: [] for count in counts}
    for group in groups:
        rest = np.array([at for at in range(len(known.logs)) if at not in group], dtype=np.intp)
        for host in group:
            here = np.flatnonzero(~np.isnan(known.logs[host]) & ~np.isnan(known.logs[rest]).all(axis=0))
            if len(here) and len(rest):
                part = Table(logs=known.logs[np.ix_(rest, here)], noise=known.noise[np.ix_(rest, here)])
                _fold(fit(part), known.logs[host, here], sums, draw)
    return [_checked(count, sums[count], len(groups)) for count in counts if sums[count]]


def _fold(model: Model, logs: Numbers, sums: dict[int, list[Numbers]], draw: random.Random) -> None:
    """Add squared errors of one host: chosen, random, mean, and the number of cases."""
    order = choose(model, max(sums))
    for count, found in sums.items():
        chosen = _squares(model, order[:count], logs)
        size = min(count, len(logs))
        draws = [_squares(model, draw.sample(range(len(logs)), size), logs) for _ in range(DRAWS)]
        found.append(np.array([chosen, float(np.mean(draws)), _squares(model, [], logs), len(logs)]))


def _squares(model: Model, chosen: Sequence[int], logs: Numbers) -> float:
    return float(((predict(model, chosen, logs) - logs) ** 2).sum())


def _checked(count: int, found: Sequence[Numbers], hardware: int) -> Check:
    chosen, at_random, mean, cells = np.sum(found, axis=0).tolist()
    errors = [math.expm1(math.sqrt(total / cells)) for total in (chosen, at_random, mean)]
    return Check(
        count=count,
        chosen=errors[0],
        at_random=errors[1],
        mean_of_others=errors[2],
        hardware=hardware,
        cells=int(cells),
    )


def _usable(known: Gains) -> list[Case]:
    """Cases that at least two hardware have, those that most have first where there are too many."""
    counts = {case: len({where[0] for where in rows}) for case, rows in known.rows.items()}
    cases = [case for case, count in counts.items() if count > 1]
    return sorted(cases, key=lambda case: -counts[case])[:MOST]


def _measured(covariance: Numbers, at: int, variance: float) -> Numbers:
    """What is left of a covariance when a case is measured with this variance, noise included."""
    column = covariance[:, at]
    left: Numbers = covariance - np.outer(column, column) / variance
    return left


def _choice(model: Model, known: Table, cases: Sequence[Case], chosen: Sequence[int], start: float) -> Choice:
    covariance = model.covariance
    for at in chosen:
        covariance = _measured(covariance, at, max(float(covariance[at, at] + model.noise[at]), 1e-12))
    left = max(0.0, float(np.trace(covariance)))
    at = chosen[-1]
    return Choice(
        case=cases[at],
        hosts=int((~np.isnan(known.logs[:, at])).sum()),
        mean_gain=math.exp(float(model.mean[at])),
        left=left / start if start > 0 else 0.0,
        uncertainty=math.expm1(math.sqrt(left / len(cases))),
    )
