"""Short names that tell platforms apart, and in what their software differs (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from storage import foreign, records

Platforms = Sequence[records.Platform]

KERNEL = "kernel"
"""The one fact of `software` that every machine has another of, and that moves few numbers."""

_LEVELS = (
    ("amx_int8", "AMX"),
    ("avx512_bf16", "AVX-512 BF16"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx512f", "AVX-512"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx2", "AVX2"),
    ("avx", "AVX"),
    ("sse4_1", "SSE4"),
    ("sme", "SME"),
    ("sve2", "SVE2"),
    ("sve", "SVE"),
    ("i8mm", "I8MM"),
    ("asimddp", "NEON dot product"),
    ("asimd", "NEON"),
)
"""Instruction set → what it is called, the most capable first."""

_CAPPED = {
    "ATEN_CPU_CAPABILITY": "ATen",
    "ONEDNN_MAX_CPU_ISA": "oneDNN",
    "DNNL_MAX_CPU_ISA": "oneDNN",
    "FBGEMM_ENABLE_INSTRUCTIONS": "FBGEMM",
    "MKL_ENABLE_INSTRUCTIONS": "MKL",
}
"""A setting that hides instruction sets → the library that it hides them from."""

_MAIN_PACKAGES = ("torch", "onnxruntime", "openvino", "transformers")
"""Packages that move most: named first where software differs."""

_NO_NAME = re.compile(
    r"^(intel|amd|cpu|processor|gen|\d+(st|nd|rd|th)|\d+-core|(dual|quad|six|eight)-core|platinum|gold|silver|bronze)$",
    re.IGNORECASE,
)
"""Words of a CPU's name that tell nothing beside its number."""


def labels(platforms: Iterable[records.Platform]) -> dict[str, tuple[str, ...]]:
    """Platform key → lines of a heading: the CPU's short name, and as little more as tells it from the others.

    A machine whose instruction sets are capped always says so: its gains are not those of its CPU. One that only
    another tool's files tell of says which tool.
    """
    known = {platform.key: platform for platform in platforms}
    lines = {key: [short_cpu(one.hardware.cpu), *_cap(one), *_told_by(one)] for key, one in known.items()}
    alike: dict[tuple[str, ...], list[records.Platform]] = {}
    for key, platform in known.items():
        alike.setdefault(tuple(lines[key]), []).append(platform)
    for group in alike.values():
        _tell_apart(group, lines)
    return {key: tuple(found) for key, found in lines.items()}


def short_cpu(name: str) -> str:
    """A CPU's name without what tells nothing: `AMD EPYC 7B12 64-Core Processor` → `EPYC 7B12`."""
    shorts = (_short_part(part) for part in name.split(" + "))
    text = " + ".join(dict.fromkeys(short for short in shorts if short)) or name.strip()
    return "unknown CPU" if text in {"", "unknown"} else text


def level(hardware: records.Hardware) -> str:
    """The most capable instruction set in words: `AVX-512 VNNI`."""
    return next((word for flag, word in _LEVELS if flag in hardware.isa), "no vector sets")


def software(environment: records.Environment) -> dict[str, str]:
    """Every fact of an environment by its name: Python, packages, preloaded runtimes, settings, kernel."""
    packages = environment.packages
    names = sorted(packages, key=lambda name: (name not in _MAIN_PACKAGES, name))
    preloaded = {"OpenMP": environment.openmp, "allocator": environment.allocator}
    return {
        **{name: packages[name] for name in names},
        "Python": environment.python,
        **{name: value for name, value in preloaded.items() if value},
        **dict(sorted(environment.settings.items())),
        KERNEL: environment.kernel,
    }


def software_differences(environments: Mapping[str, records.Environment]) -> list[str]:
    """`torch: 2.13.0 on A, B; 2.12.1 on C` for each fact in which the named environments differ."""
    facts = {name: software(environment) for name, environment in environments.items()}
    found = []
    for fact in _facts_of(facts.values()):
        owners: dict[str, list[str]] = {}
        for name, known in facts.items():
            owners.setdefault(known.get(fact, "none"), []).append(name)
        if len(owners) > 1:
            found.append(f"{fact}: " + "; ".join(f"{value} on {', '.join(names)}" for value, names in owners.items()))
    return found


def same_software(environments: Iterable[records.Environment]) -> list[str]:
    """`torch 2.13.0` for each fact that all environments share."""
    facts = [software(environment) for environment in environments]
    return [f"{fact} {value}" for fact, value in (facts[0] if facts else {}).items()
            if all(known.get(fact) == value for known in facts)]  # fmt: skip


def _facts_of(facts: Iterable[Mapping[str, str]]) -> list[str]:
    """All names, in the order of `software`, the kernel last."""
    names = dict.fromkeys(name for known in facts for name in known)
    return sorted(names, key=lambda name: (name == KERNEL, name not in _MAIN_PACKAGES))


def _short_part(name: str) -> str:
    text = re.sub(r"\((R|TM|C)\)", " ", name, flags=re.IGNORECASE)
    text = re.sub(r"\(with [^)]*\)|\bwith .*|@.*", " ", text)
    text = re.sub(r"\(([^,)]*)[^)]*\)", r"\1", text)  # (Skylake, IBRS): the generation is the name
    return " ".join(word for word in text.split() if not _NO_NAME.match(word))


def _cap(platform: records.Platform) -> list[str]:
    return [f"capped to {level(platform.hardware)}"] if platform.hardware.caps else []


def _told_by(platform: records.Platform) -> list[str]:
    tool = foreign.told_by(platform)
    return [] if tool is None else [f"by {tool}"]


def _tell_apart(group: Platforms, lines: Mapping[str, list[str]]) -> None:
    """Add the first fact in which a group differs to its lines, then what tells each remaining group apart."""
    if len(group) < 2:
        return
    values = next(values for values in _facts(group) if len(set(values)) > 1)
    parts: dict[str, list[records.Platform]] = {}
    for platform, value in zip(group, values, strict=True):
        lines[platform.key].extend([value] if value else [])
        parts.setdefault(value, []).append(platform)
    for part in parts.values():
        _tell_apart(part, lines)


def _facts(group: Platforms) -> Iterator[list[str]]:
    """One list of values after the other, those that a person knows a machine by first; some list differs."""
    yield from _hardware_facts([platform.hardware for platform in group])
    facts = [software(platform.environment) for platform in group]
    for name in _facts_of(facts):
        yield [f"{name} {known[name]}" if name in known else f"no {name}" for known in facts]
    yield [platform.key for platform in group]  # records that print alike


def _hardware_facts(group: Sequence[records.Hardware]) -> Iterator[list[str]]:
    yield [_clock(one.cpu) for one in group]
    yield [level(one) for one in group]
    yield [_caps(one, group) for one in group]
    yield [_cores(one) for one in group]
    yield [f"{one.memory_gib or 'unknown'} GiB" for one in group]
    yield ["no quota" if one.quota_cores is None else f"quota {one.quota_cores:g} cores" for one in group]
    yield [one.virtualization or "bare metal" for one in group]
    yield [_more_isa(one, group) for one in group]
    yield [f"model {one.family}/{one.model}/{one.stepping}" for one in group]
    yield [f"sockets: {one.sockets}" for one in group]
    yield [f"NUMA nodes: {one.numa_nodes}" for one in group]
    for name in sorted({name for one in group for name in one.cache_bytes}, reverse=True):
        yield [f"{name.upper()} {one.cache_bytes.get(name, 0) >> 10:,} KiB" for one in group]
    yield [one.architecture for one in group]
    yield [one.vendor for one in group]
    yield [one.cpu for one in group]


def _clock(cpu: str) -> str:
    found = re.search(r"@ *([\d.]+ *GHz)", cpu)
    return found.group(1) if found else ""


def _cores(hardware: records.Hardware) -> str:
    physical, logical = hardware.physical_cores or hardware.logical_cores, hardware.logical_cores
    text = f"{physical} core{'s' * (physical != 1)}"
    return text if physical == logical else f"{text}, {logical} logical"


def _caps(hardware: records.Hardware, group: Sequence[records.Hardware]) -> str:
    """The caps that not all of the group have, by library: `FBGEMM=AVX512`."""
    own = [cap for cap in hardware.caps if any(cap not in other.caps for other in group)]
    pairs = (cap.partition("=") for cap in own)
    return ", ".join(f"{_CAPPED.get(name, name)}={value}" for name, _, value in pairs)


def _more_isa(hardware: records.Hardware, group: Sequence[records.Hardware]) -> str:
    """The instruction sets that not all of the group have."""
    return " ".join(f"+{flag}" for flag in hardware.isa if any(flag not in other.isa for other in group))
