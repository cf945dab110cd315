"""Strategies: strings parsed into one normal form, and what a platform can make of them.

A strategy is `[transform[:option,…]+…]runtime/precision[:option=value,…]`. What its parts are is described by
`storage.catalogue`, torch-free; implementations are dotted targets that only `worker.engine` loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from storage import errors, options, records
from storage.catalogue import registry
from storage.catalogue.descriptions import ARITHMETIC, Arithmetic, Description, Part, Transform
from storage.options import Option

EVALUATION = "evaluation"
"""The value of an option `data` that stands for the rows that accuracy is taken on."""

PREPARER = "torch"
"""The runtime in whose processes models and inputs are prepared for all: only torch's have transformers at hand."""

MAX_STEPS = 8
"""Most transforms in a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The options of one part: those that differ from their defaults, sorted by name."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def part(self) -> Part:
        """What describes it."""
        raise NotImplementedError

    def option(self, name: str) -> str:
        """The value in force: the one given, or the default."""
        given = dict(self.options)
        return given[name] if name in given else options.find(self.name, self.part.options, name).default

    def flag(self, name: str) -> bool:
        """A flag's value."""
        return self.option(name) == "true"

    def whole(self, name: str) -> int:
        """A whole number's value; ValueError where a word stands for it."""
        return int(self.option(name))

    def number(self, name: str) -> float:
        """A number's value."""
        return float(self.option(name))

    @property
    def data(self) -> str | None:
        """The name of the dataset that this part reads; None when it reads none."""
        unless = self.part.data_unless
        if unless is None or all(self.option(name) == value for name, value in unless.items()):
            return None
        return self.option("data")

    def __str__(self) -> str:
        """The one spelling."""
        text = options.written(self.part.options, self.options)
        return f"{self.name}:{text}" if text else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Chosen):
    """One transform, with its options."""

    @property
    def part(self) -> Transform:
        """What describes it."""
        return registry.transform(self.name)

    @property
    def trains(self) -> bool:
        """Whether it trains: minutes to hours, and other weights each time and place."""
        return bool(self.part.training) and self.option(self.part.training) != "0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy(Chosen):
    """A parsed strategy; `name` is its `runtime/precision`, `str()` the normal form of all of it."""

    steps: tuple[Step, ...] = ()  # transforms, in the order in which they are applied

    @property
    def part(self) -> Description:
        """What describes its runtime and precision."""
        return registry.describe(self.name)

    @property
    def runtime(self) -> str:
        """What executes it."""
        return self.name.partition("/")[0]

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self.name.partition("/")[2]

    @property
    def arithmetic(self) -> Arithmetic | None:
        """What its products are computed in, its options considered; None where nobody says."""
        part = self.part
        found = part.arithmetic or ARITHMETIC.get(part.precision)
        if found is None or not found.by_option:
            return found
        return replace(found, products=found.by_value[self.option(found.by_option)])

    @property
    def parts(self) -> tuple[Chosen, ...]:
        """Transforms, then runtime and precision."""
        return (*self.steps, self)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that preparing it reads, without repeats."""
        return tuple(dict.fromkeys(part.data for part in self.parts if part.data is not None))

    @property
    def trained(self) -> tuple[Strategy, ...]:
        """Its beginnings that end in a training step, shortest first, each to be prepared before it."""
        return tuple(
            Strategy(name=PLAIN, steps=self.steps[: at + 1]) for at, step in enumerate(self.steps) if step.trains
        )

    @property
    def untransformed(self) -> Strategy:
        """The same runtime, precision and options, on whatever model."""
        return Strategy(name=self.name, options=self.options)

    def __str__(self) -> str:
        """The one spelling of this strategy."""
        return "+".join([*map(str, self.steps), Chosen.__str__(self)])


PLAIN = "torch/fp32"
"""What a transformed model is prepared for when only the transform matters."""


def parse(text: str) -> Strategy:
    """A strategy string in its normal form; raises StrategyError, which names the nearest valid word."""
    *before, last = (piece.strip() for piece in text.split("+"))
    if last.partition(":")[0].strip() in registry.transforms_by_name():
        raise errors.StrategyError(f"{text!r} ends in a transform; a runtime must follow, such as {text}+{PLAIN}")
    if len(before) > MAX_STEPS:
        raise errors.StrategyError(f"{text!r} has {len(before)} transforms, at most {MAX_STEPS} are allowed")
    steps = tuple(_step(piece) for piece in before)
    name, _, tail = last.partition(":")
    description = registry.describe(name.strip())
    chosen = options.read(description.name, description.options, tail)
    return Strategy(name=description.name, options=chosen, steps=steps)


def parse_step(text: str) -> Step:
    """One transform with its options; StrategyError as `parse`."""
    return _step(text.strip())


def unsupported(strategy: Strategy, hardware: records.Hardware, environment: records.Environment) -> str | None:
    """Why a platform cannot run a strategy, with what would help; None where it can."""
    for chosen in strategy.parts:
        reason = unsupported_part(chosen, hardware, environment)
        if reason is not None:
            return reason
    return None


def caution(strategy: Strategy, hardware: records.Hardware) -> str | None:
    """What a person should know before running it there; None for nothing."""
    wanted = strategy.part.slow_without
    if wanted and not set(wanted) & set(hardware.isa):
        return f"this CPU has none of {', '.join(wanted)}: {strategy.name} runs emulated, expect a loss"
    return None


def meanings(strategy: Strategy) -> tuple[str, ...]:
    """What a person should know of results of this strategy."""
    return tuple(f"{chosen.name}: {chosen.part.means}" for chosen in strategy.parts if chosen.part.means)


def unsupported_part(chosen: Chosen, hardware: records.Hardware, environment: records.Environment) -> str | None:
    """As `unsupported`, of one part alone."""
    part = chosen.part
    missing = [package for package in part.packages if package not in environment.packages]
    if missing:
        return f"{chosen.name} needs {', '.join(missing)}, not installed here; {part.install}"
    if part.needs_arch and hardware.architecture not in part.needs_arch:
        return f"{chosen.name} exists on {', '.join(part.needs_arch)} only, this is {hardware.architecture}"
    if part.needs_isa and not set(part.needs_isa) & set(hardware.isa):
        return f"{chosen.name} needs {' or '.join(part.needs_isa)}, which this CPU lacks"
    reasons = (_value_unsupported(option, chosen.option(option.name), hardware) for option in part.options)
    return next((f"{chosen}: {reason}" for reason in reasons if reason), None)


def _value_unsupported(option: Option, value: str, hardware: records.Hardware) -> str | None:
    architectures = option.needs_arch.get(value, ())
    if architectures and hardware.architecture not in architectures:
        return f"{option.name}={value} exists on {', '.join(architectures)} only, this is {hardware.architecture}"
    isa = option.needs_isa.get(value, ())
    if isa and not set(isa) & set(hardware.isa):
        return f"{option.name}={value} needs {' or '.join(isa)}, which this CPU lacks"
    return None


def _step(text: str) -> Step:
    name, _, tail = text.partition(":")
    description = registry.transform(name.strip())
    return Step(name=description.name, options=options.read(description.name, description.options, tail))


def data_of(strategy: Strategy, case: records.Case) -> dict[str, records.DatasetRef]:
    """The datasets of a case that preparing a strategy reads, by name."""
    return {name: case.data[name] for name in strategy.datasets if name in case.data}


def all_options() -> Iterator[Option]:
    """The options of everything in the catalogue, repeats and all."""
    for part in registry.parts():
        yield from part.options
