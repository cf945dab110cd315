"""Which hosts are alike, and what tells those apart that should be (pure).

Hosts of one platform share their results. Hosts of one hardware with other software do not, and that is seldom
meant: one missed upgrade makes every case be measured twice, and nothing be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scheduler import labels
from storage.views import HostView


def shares_with(host: HostView, hosts: Sequence[HostView]) -> tuple[str, ...]:
    """Names of the other hosts of the same platform."""
    return tuple(other.name for other in _others(host, hosts) if other.platform.key == host.platform.key)


def differs_from(host: HostView, hosts: Sequence[HostView]) -> tuple[str, ...]:
    """What tells a host's software from that of others of its hardware: `torch 2.13.0 here, 2.12.1 on b, c`."""
    alike = [other for other in _others(host, hosts) if other.platform.hardware_key == host.platform.hardware_key]
    own = labels.software(host.platform.environment)
    theirs = {other.name: labels.software(other.platform.environment) for other in alike}
    names = dict.fromkeys(name for found in (own, *theirs.values()) for name in found)
    return tuple(text for name in names if (text := _difference(name, own, theirs)))


def isa_summary(names: Sequence[str]) -> tuple[str, ...]:
    """Instruction sets in a few words: families with their members, without what a later one implies."""
    families: dict[str, list[str]] = {}
    for name in names:
        family = next((start for start in _FAMILIES if name.startswith(start)), name)
        families.setdefault(family, []).append(name.removeprefix(family).strip("_"))
    implied = _IMPLIED_BY_AVX2 if "avx2" in families else frozenset[str]()
    return tuple(_family(name, members) for name, members in families.items() if name not in implied)


_FAMILIES = ("avx512", "avx_", "amx", "sve", "sme")
_IMPLIED_BY_AVX2 = frozenset({"sse4_1", "avx", "fma", "f16c"})


def _family(name: str, members: Sequence[str]) -> str:
    more = [member for member in members if member]
    return f"{name.strip('_')} ({' '.join(more)})" if more else name


def _others(host: HostView, hosts: Sequence[HostView]) -> list[HostView]:
    return [other for other in hosts if other.name != host.name]


def _difference(name: str, own: Mapping[str, str], theirs: Mapping[str, Mapping[str, str]]) -> str | None:
    here = own.get(name)
    elsewhere: dict[str | None, list[str]] = {}
    for host, found in theirs.items():
        if found.get(name) != here:
            elsewhere.setdefault(found.get(name), []).append(host)
    if not elsewhere:
        return None
    parts = [f"{value or 'none'} on {', '.join(hosts)}" for value, hosts in elsewhere.items()]
    return f"{name} {here or 'none'} here, {', '.join(parts)}"
