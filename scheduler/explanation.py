"""What the parts of strategies do and need, and what a machine makes of them, as plain documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from storage import records, strategies
from storage.catalogue import registry
from storage.catalogue.descriptions import Description, Part, Transform
from storage.options import Option

State = Literal["given", "default", "unused"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """The machine that is asked about."""

    hardware: records.Hardware
    environment: records.Environment


def catalogue(here: Here, *, runtime: str | None = None) -> list[dict[str, Any]]:
    """Every pair, runtime by runtime, then every transform; those of one `runtime` alone have no transforms."""
    pairs = registry.descriptions().values()
    names = dict.fromkeys(description.runtime for description in pairs)
    ordered = [pair for name in names for pair in pairs if name == pair.runtime and runtime in (None, name)]
    others = registry.transforms_by_name().values() if runtime is None else ()
    return [entry(part, here) for part in (*ordered, *others)]


def entry(part: Description | Transform, here: Here) -> dict[str, Any]:
    """One pair or transform with its defaults; `here` is "yes", "slow" or "no", `why` the reason."""
    chosen = _plain(part)
    return {
        "name": part.name,
        "kind": "pair" if isinstance(part, Description) else "transform",
        "summary": part.summary,
        **_standing(chosen, here),
        "needs": _needs(part, here),
        "cost": part.cost,
        "means": part.means,
        "data": chosen.data is not None,
        "extra": part.extra,
        "options": [_option(chosen, option, here) for option in part.options],
    }


def explain(strategy: strategies.Strategy, here: Here) -> dict[str, Any]:
    """What each part of a strategy does, with the options in force, and what the whole is on this machine."""
    reason = strategies.unsupported(strategy, here.hardware, here.environment)
    warning = strategies.caution(strategy, here.hardware)
    return {
        "strategy": str(strategy),
        "here": "no" if reason else "slow" if warning else "yes",
        "why": reason or warning,
        "datasets": list(strategy.datasets),
        "trained": [str(before) for before in strategy.trained],
        "parts": [_part(part, here) for part in (*strategy.steps, strategy.untransformed)],
    }


def _part(chosen: strategies.Chosen, here: Here) -> dict[str, Any]:
    part = chosen.part
    return {
        "part": str(chosen),
        "name": chosen.name,
        "kind": "transform" if isinstance(chosen, strategies.Step) else "pair",
        "summary": part.summary,
        **_standing(chosen, here),
        "options": [_in_force(chosen, option) for option in part.options],
        "needs": _needs(part, here) | {"of_options": list(_needs_of_options(chosen))},
        "data": chosen.data,
        "trains": isinstance(chosen, strategies.Step) and chosen.trains,
        "cost": part.cost,
        "means": part.means,
    }


def _plain(part: Description | Transform) -> strategies.Chosen:
    return strategies.parse(part.name) if isinstance(part, Description) else strategies.parse_step(part.name)


def _standing(chosen: strategies.Chosen, here: Here) -> dict[str, Any]:
    reason = strategies.unsupported_part(chosen, here.hardware, here.environment)
    warning = strategies.caution(chosen, here.hardware) if isinstance(chosen, strategies.Strategy) else None
    return {"here": "no" if reason else "slow" if warning else "yes", "why": reason or warning}


def _needs(part: Part, here: Here) -> dict[str, Any]:
    """Packages with the versions that are here; of instruction sets and architectures one suffices."""
    found = {package: here.environment.packages.get(package) for package in part.packages}
    return {
        "packages": found,
        "install": None if all(found.values()) else part.install,
        "architecture": list(part.needs_arch),
        "isa": list(part.needs_isa),
        "isa_for_speed": list(part.slow_without),
        "other": part.needs,
    }


def _needs_of_options(chosen: strategies.Chosen) -> Iterator[str]:
    """`engine=x86: avx2; x86_64`: what the values in force ask of a CPU."""
    for option in chosen.part.options:
        value = chosen.option(option.name)
        wanted = [" or ".join(table[value]) for table in (option.needs_isa, option.needs_arch) if table.get(value)]
        if wanted:
            yield f"{option.name}={value}: {'; '.join(wanted)}"


def _option(chosen: strategies.Chosen, option: Option, here: Here) -> dict[str, Any]:
    values = option.choices if option.type == "choice" else ("true", "false") if option.type == "flag" else ()
    asked = {value: dataclasses.replace(chosen, options=((option.name, value),)) for value in values}
    refused = {value: strategies.unsupported_part(one, here.hardware, here.environment) for value, one in asked.items()}
    return {
        "name": option.name,
        "values": list(values) or [option.accepts],
        "default": option.default,
        "help": option.help,
        "not_here": {value: reason for value, reason in refused.items() if reason},
    }


def _in_force(chosen: strategies.Chosen, option: Option) -> dict[str, Any]:
    value = chosen.option(option.name)
    return {
        "name": option.name,
        "value": value,
        "state": _state(chosen, option),
        "default": option.default,
        "accepts": option.accepts,
        "help": option.help,
    }


def _state(chosen: strategies.Chosen, option: Option) -> State:
    """Unused: another option leaves it without a meaning, or it names a dataset that is not read."""
    fits = all(chosen.option(other) in values for other, values in option.only_with.items())
    if not fits or (option.name == "data" and chosen.part.data_unless is not None and chosen.data is None):
        return "unused"
    return "default" if chosen.option(option.name) == option.default else "given"
