"""What a study is planned for: from what it asks for, or the command line, to hosts and targets (pure).

A target is one platform, one host by its name, or whichever host comes first. Which of them a selector makes
follows from what it names:

- What a platform *is* (instruction sets, CPU, cores, memory, software) is the same on all its hosts: each case is
  planned once for each platform that fits, and any host of it may run it.
- A host's name and labels differ between hosts of one platform: each case is planned for each host that fits, by
  name. Were it planned for their platform, a host with other labels could take it; and a host that joins would make
  the same study mean another job, so that submitting it again would measure again what is measured.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pydantic

from scheduler import study as studies
from scheduler import study_errors, study_lines
from scheduler.study import Study
from scheduler.study_spec import Selector, StudyFile
from scheduler.study_values import LABEL, SOFTWARE, TARGET_WORDS
from storage import errors, records
from storage.views import HostView

Each = Literal["platform", "host", "any"]

Route = tuple[str, str | None]
"""Platform key and wanted host of a job."""

NEAREST = 5
"""Most hosts that are shown when none fits."""

START = "start one with `quantfleet worker` on each machine that is to measure"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a case is planned for."""

    platform_key: str  # or records.ANY_PLATFORM
    platforms: tuple[records.Platform, ...]  # that may run it: the one, or all that are known
    hosts: tuple[str, ...]  # names of the known hosts that may run it
    host: str | None = None  # the one host that it is for

    @property
    def route(self) -> Route:
        """What makes it this target, and its jobs' queue."""
        return self.platform_key, self.host


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What somebody asks to be measured on."""

    each: Each  # a case is measured once for each of these
    selector: Selector | None = None  # hosts that count; None: all
    study: Study | None = None  # whose file asks; None: the command line does


def of_study(study: Study) -> Wanted:
    """What a study's file asks for."""
    asked = study.spec.targets
    if isinstance(asked, Selector):
        return Wanted(each=_each_of(asked), selector=asked, study=study)
    return Wanted(each=_each(asked), study=study)


def of_options(study: Study, target: str | None, where: Sequence[str]) -> Wanted:
    """What the command line asks for instead of the study; without options what the study asks for.

    Raises QueryError for an unknown word or field, and for words and conditions that do not go together.
    """
    if target is None and not where:
        return of_study(study)
    if target is not None and target not in TARGET_WORDS:
        near = errors.nearest(target, TARGET_WORDS)
        raise errors.QueryError(f"--target {target}: expected {', '.join(TARGET_WORDS)}{near}")
    selector = _selected_by(where) if where else None
    each = _each(target) if target is not None else _each_of(selector)
    if each == "any":
        _check_any(study.spec, selector)
    if each == "platform" and selector is not None and selector.names_hosts:
        raise errors.QueryError(
            "--target every-platform: hosts of one platform differ in name and labels, so a condition on these plans "
            "for each host; leave --target out, or write --target every-host"
        )
    return Wanted(each=each, selector=selector)


def targets(wanted: Wanted, hosts: Sequence[HostView]) -> tuple[Target, ...]:
    """The targets among the known hosts, in the order of their names; each platform once.

    Raises StudyError or QueryError when no host fits, with those that come nearest.
    """
    found = select(wanted, hosts)
    if wanted.each == "host":
        return tuple(
            Target(platform_key=host.platform.key, platforms=(host.platform,), hosts=(host.name,), host=host.name)
            for host in found
        )
    platforms = {host.platform.key: host.platform for host in found}
    if wanted.each == "any":
        names = tuple(host.name for host in found)
        return (Target(platform_key=records.ANY_PLATFORM, platforms=tuple(platforms.values()), hosts=names),)
    return tuple(
        Target(
            platform_key=key,
            platforms=(platform,),
            hosts=tuple(host.name for host in hosts if host.platform.key == key),
        )
        for key, platform in platforms.items()
    )


def of_platform(platform: records.Platform, host: str) -> Target:
    """The target of a run on one machine."""
    return Target(platform_key=platform.key, platforms=(platform,), hosts=(host,))


def select(wanted: Wanted, hosts: Sequence[HostView]) -> tuple[HostView, ...]:
    """The hosts that fit every condition, in the order of their names; raises as `targets`."""
    if not hosts:
        raise errors.QueryError(f"no host is registered: {START}")
    conditions = wanted.selector.conditions if wanted.selector is not None else {}
    ordered = sorted(hosts, key=lambda host: host.name)
    found = tuple(host for host in ordered if not _missed(conditions, host))
    if not found:
        raise _no_host(wanted, conditions, ordered)
    return found


def _each(word: str) -> Each:
    each: Mapping[str, Each] = {"every-platform": "platform", "every-host": "host", "any": "any"}
    return each[word]


def _each_of(selector: Selector | None) -> Each:
    return "host" if selector is not None and selector.names_hosts else "platform"


def _check_any(spec: StudyFile, selector: Selector | None) -> None:
    if selector is not None:
        raise errors.QueryError("--target any: whichever host comes first runs it, whatever it fits; leave --where out")
    for place, text in studies.any_problems(spec):
        raise errors.QueryError(f"--target any: {study_lines.dotted(place)}: {text}")


def _selected_by(where: Sequence[str]) -> Selector:
    """`FIELD=VALUE` options as a selector; a field may come several times, instruction sets with commas."""
    found: dict[str, Any] = {}
    for pair in where:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise errors.QueryError(f"--where {pair}: expected FIELD=VALUE, such as isa=avx512_vnni or label.region=eu")
        values = [part for part in value.split(",") if part] if name == "isa" else [value]
        found.setdefault(name, []).extend(values)
    plain = {name: _number(name, values) for name, values in found.items()}
    try:
        return Selector.model_validate(plain)
    except pydantic.ValidationError as exc:
        place, text = next(study_errors.problems(exc, within=("targets",)))
        name = study_lines.dotted(place[1:])
        raise errors.QueryError(f"--where {name}: {text}" if name else f"--where: {text}") from None


def _number(name: str, values: list[str]) -> Any:
    """The values of a field as a study file would hold them; what is no number is left for the check to tell."""
    if name not in {"min_cores", "max_cores", "min_memory"}:
        return values
    if len(values) > 1:
        raise errors.QueryError(f"--where {name} is given twice")
    try:
        return float(values[0]) if name == "min_memory" else int(values[0])
    except ValueError:
        return values[0]


def _missed(conditions: Mapping[str, Any], host: HostView) -> dict[str, Any]:
    """The conditions that a host does not fit."""
    return {name: wanted for name, wanted in conditions.items() if not _fits(name, wanted, host)}


def _fits(name: str, wanted: Any, host: HostView) -> bool:
    hardware = host.platform.hardware
    if name == "min_cores":
        return bool(hardware.physical_cores >= wanted)
    if name == "max_cores":
        return bool(hardware.physical_cores <= wanted)
    if name == "min_memory":
        return bool(hardware.memory_gib >= wanted)
    has = _has(name, host)
    if name in {"hardware", "platform"}:
        return any(text.startswith(start) for text in has for start in wanted)
    every = all if name == "isa" else any
    return every(any(_like(pattern, text) for text in has) for pattern in wanted)


def _like(pattern: str, text: str) -> bool:
    return fnmatch.fnmatchcase(text.lower(), pattern.lower())


_FACTS: Mapping[str, Callable[[HostView], Iterable[object]]] = {
    "isa": lambda host: host.platform.hardware.isa,
    "cpu": lambda host: [host.platform.hardware.cpu],
    "architecture": lambda host: [host.platform.hardware.architecture],
    "virtualization": lambda host: [host.platform.hardware.virtualization or "none"],
    "min_cores": lambda host: [host.platform.hardware.physical_cores],
    "max_cores": lambda host: [host.platform.hardware.physical_cores],
    "min_memory": lambda host: [f"{host.platform.hardware.memory_gib} GiB"],
    "hardware": lambda host: [host.platform.hardware_key],
    "platform": lambda host: [host.platform.key],
    "host": lambda host: [host.name],
    "python": lambda host: [host.platform.environment.python],
    "kernel": lambda host: [host.platform.environment.kernel],
}


def _has(name: str, host: HostView) -> tuple[str, ...]:
    """What a host has in a field; nothing where it has no such label or package."""
    if name in _FACTS:
        return tuple(str(value) for value in _FACTS[name](host))
    texts = host.labels if name.startswith(LABEL) else host.platform.environment.packages
    value = texts.get(name.removeprefix(LABEL))
    return () if value is None else (value,)


def _no_host(wanted: Wanted, conditions: Mapping[str, Any], hosts: Sequence[HostView]) -> errors.UserError:
    """Why no host fits: what nobody has, and which hosts come nearest, the best first."""
    ranked = sorted(hosts, key=lambda host: len(_missed(conditions, host)))
    lines = [_say(wanted, name, text) for name, text in _unheard_of(conditions, hosts)]
    lines = lines or [_say(wanted, None, "no host fits all of this")]
    lines += ["nearest:" if len(ranked) > 1 else "the one host:"]
    lines += [f"  {host.name} has {_listed_misses(conditions, host)}" for host in ranked[:NEAREST]]
    if len(ranked) > NEAREST:
        lines.append(f"  and {len(ranked) - NEAREST} more (`quantfleet hosts`)")
    kind = errors.QueryError if wanted.study is None else errors.StudyError
    return kind("\n".join(lines))


def _unheard_of(conditions: Mapping[str, Any], hosts: Sequence[HostView]) -> Iterator[tuple[str, str]]:
    """The conditions that no host at all fits, each with the nearest of what there is."""
    for name, asked in conditions.items():
        for one in asked if name == "isa" else [asked]:
            if any(_fits(name, (one,) if name == "isa" else one, host) for host in hosts):
                continue
            there = sorted({text for host in hosts for text in _has(name, host)})
            yield name, f"no host has {_shown(one)}{_near(name, one, there, hosts)}"


def _near(name: str, asked: Any, there: Sequence[str], hosts: Sequence[HostView]) -> str:
    if not there and name.startswith(LABEL):
        labels = sorted({f"{LABEL}{label}" for host in hosts for label in host.labels})
        return f"; no host has this label{errors.nearest(name, labels)} (there is {study_errors.listed(labels)})"
    if not there:
        return f"; {name} is installed on no host" if name in SOFTWARE else ""
    words = [asked] if isinstance(asked, str) else asked if isinstance(asked, tuple) else []
    plain = {text.lower(): text for text in there}  # nobody means a name by its case
    near = next(filter(None, (errors.nearest(str(word).strip("*").lower(), plain) for word in words)), "")
    for lower, text in plain.items():
        near = near.replace(repr(lower), repr(text))
    more = ", …" if len(there) > 8 else ""
    return f"{near} (there is {', '.join(there[:8])}{more})"


def _listed_misses(conditions: Mapping[str, Any], host: HostView) -> str:
    return "; ".join(_miss(name, asked, host) for name, asked in _missed(conditions, host).items())


def _miss(name: str, asked: Any, host: HostView) -> str:
    has = _has(name, host)
    if name == "isa":
        return f"no {', '.join(one for one in asked if not any(_like(one, text) for text in has))}"
    return f"{name} {', '.join(has)}" if has else f"no {name}"


def _shown(asked: Any) -> str:
    return " or ".join(map(repr, asked)) if isinstance(asked, tuple) else repr(asked)


def _say(wanted: Wanted, field: str | None, text: str) -> str:
    if wanted.study is not None:
        return wanted.study.message(("targets",) if field is None else ("targets", field), text)
    return f"--where {field}: {text}" if field is not None else f"--where: {text}"
