"""Which CPUs a measured process runs on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path


def sibling_group(cpu: int, root: Path = Path("/sys/devices/system/cpu")) -> str:
    """A name shared by the hardware threads of one core."""
    try:
        return (root / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def choose(threads: int, allowed: Collection[int], group: Callable[[int], str] = sibling_group) -> list[int]:
    """CPUs for `threads` threads: one hardware thread of each core first, the highest numbers first.

    CPU 0 serves most interrupts, and low numbers are where other programs settle. Baseline and strategy get the
    same CPUs. With more threads than CPUs all of them are returned.
    """
    first: list[int] = []
    second: list[int] = []
    seen: set[str] = set()
    for cpu in sorted(allowed, reverse=True):
        name = group(cpu)
        (second if name in seen else first).append(cpu)
        seen.add(name)
    return sorted((first + second)[:threads])


def layout(
    instances: int, threads: int, allowed: Collection[int], group: Callable[[int], str] = sibling_group
) -> list[list[int]]:
    """CPUs of each of several processes side by side, `threads` for each; no two share a CPU.

    Whole cores as far as they suffice; beyond that the hardware threads of one core go to one process rather than
    to two. ValueError when there are not enough CPUs.
    """
    if instances * threads > len(allowed):
        raise ValueError(f"{instances} × {threads} threads are more than {len(allowed)} CPUs")
    chosen = sorted(choose(instances * threads, allowed, group), key=lambda cpu: (group(cpu), cpu))
    return [sorted(chosen[number * threads : (number + 1) * threads]) for number in range(instances)]
