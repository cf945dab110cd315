"""What this machine is: the fingerprint that decides which measurements may be compared.

Read from /proc and /sys, as this process sees them: the CPUs that its affinity or cpuset allows, the quota of its
cgroup, the instruction sets that the environment leaves to the libraries. The same call gives the same record while
nothing of that changes; clocks and loads are no part of it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from storage import records
from worker import isa, procfs

_ARM_VENDORS = {0x41: "ARM", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x61: "Apple", 0xC0: "Ampere"}

_ARM_PARTS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "Kunpeng-920",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}
"""Names of Arm cores by implementer and part number: Arm's /proc/cpuinfo gives numbers only (as util-linux's lscpu)."""

_MACHINES = {
    "QEMU": "qemu",
    "KVM": "kvm",
    "OpenStack": "kvm",
    "Amazon EC2": "amazon",
    "Google": "google",
    "Microsoft Corporation": "microsoft",
    "VMware": "vmware",
    "innotek GmbH": "virtualbox",
    "Xen": "xen",
    "Parallels": "parallels",
    "Apple Inc.": "apple",
    "BHYVE": "bhyve",
}
"""Virtual machines by what their firmware says (the first words of vendor or product, as systemd-detect-virt does)."""

_CLOCKS = {"kvm-clock": "kvm", "hyperv_clocksource_tsc_page": "microsoft", "xen": "xen"}
"""Virtual machines by the clock that their hypervisor offers, where there is no firmware to ask."""

_CONTAINERS = (("docker", "docker"), ("kubepods", "kubernetes"), ("containerd", "containerd"), ("lxc", "lxc"))


def probe(
    environ: Mapping[str, str],
    *,
    root: Path = procfs.ROOT,
    affinity: Collection[int] | None = None,
    architecture: str | None = None,
) -> records.Hardware:
    """This machine's hardware as this process may use it.

    `environ`: the environment that the measured processes get. `root`, `affinity` and `architecture` stand for the
    machine's own in tests that read recorded hosts.
    """
    cpus = sorted(os.sched_getaffinity(0) if affinity is None else affinity)
    processors = _processors(root, cpus)
    first = processors[0] if processors else {}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    arm = "CPU implementer" in first
    return records.Hardware(
        cpu=" + ".join(sorted({_name(one) for one in processors})) or "unknown",
        vendor=_arm_vendor(first) if arm else first.get("vendor_id", "unknown"),
        family=_integer(first, "CPU architecture" if arm else "cpu family"),
        model=_integer(first, "CPU part" if arm else "model"),
        stepping=_arm_revision(first) if arm else _integer(first, "stepping"),
        architecture=architecture or platform.machine(),
        isa=isa.left(flags, environ),
        caps=isa.caps(environ),
        physical_cores=_groups(root, cpus, "thread_siblings_list"),
        logical_cores=len(cpus),
        sockets=_groups(root, cpus, "physical_package_id", alone="0"),
        numa_nodes=_numa_nodes(root, cpus),
        cache_bytes=_caches(root, cpus),
        memory_gib=_memory_gib(root),
        quota_cores=quota(root),
        virtualization=_virtualization(root, flags, arm=arm),
    )


def quota(root: Path = procfs.ROOT) -> float | None:
    """The tightest CPU quota of this process's cgroups in cores, None without one."""
    quotas = (procfs.quota_cores(group) for group in procfs.quota_groups(root))
    return min((cores for cores in quotas if cores is not None), default=None)


def _processors(root: Path, cpus: Collection[int]) -> list[dict[str, str]]:
    """The blocks of /proc/cpuinfo of the given CPUs, in order."""
    found = []
    for block in procfs.read(root / "proc/cpuinfo").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if fields.get("processor", "").isdigit() and int(fields["processor"]) in cpus:
            found.append(fields)
    return found


def _name(processor: Mapping[str, str]) -> str:
    """The model name; on Arm the core's name, or its numbers."""
    if "CPU implementer" not in processor:
        return " ".join(processor.get("model name", "unknown").split())
    implementer, part = _integer(processor, "CPU implementer") or 0, _integer(processor, "CPU part") or 0
    return _ARM_PARTS.get((implementer, part), f"{_arm_vendor(processor)} part {part:#x}")


def _arm_vendor(processor: Mapping[str, str]) -> str:
    implementer = _integer(processor, "CPU implementer") or 0
    return _ARM_VENDORS.get(implementer, f"implementer {implementer:#x}")


def _arm_revision(processor: Mapping[str, str]) -> int:
    """Arm's rXpY as 16·X + Y."""
    return 16 * (_integer(processor, "CPU variant") or 0) + (_integer(processor, "CPU revision") or 0)


def _integer(fields: Mapping[str, str], name: str) -> int | None:
    try:
        return int(fields[name], 0)
    except (KeyError, ValueError):
        return None


def _groups(root: Path, cpus: Collection[int], what: str, *, alone: str = "") -> int:
    """How many different values the CPUs' topology has; a CPU without one is its own, or is called `alone`."""
    folder = root / "sys/devices/system/cpu"
    return len({procfs.read(folder / f"cpu{cpu}/topology/{what}") or alone or f"cpu{cpu}" for cpu in cpus})


def _numa_nodes(root: Path, cpus: Collection[int]) -> int:
    nodes = (root / "sys/devices/system/node").glob("node[0-9]*/cpulist")
    return max(1, sum(bool(procfs.cpu_list(procfs.read(node)) & set(cpus)) for node in nodes))


def _caches(root: Path, cpus: Collection[int]) -> dict[str, int]:
    """Total bytes of each level, a cache that CPUs share counted once; instruction caches are left out."""
    sizes: dict[tuple[str, str], int] = {}
    for cpu in cpus:
        for index in (root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index[0-9]*"):
            kind, level = procfs.read(index / "type"), procfs.read(index / "level")
            if kind in {"Data", "Unified"}:
                label = f"l{level}d" if kind == "Data" else f"l{level}"
                sizes[label, procfs.read(index / "shared_cpu_list")] = _size(procfs.read(index / "size"))
    labels = sorted({label for label, _ in sizes})
    return {label: sum(size for (one, _), size in sizes.items() if one == label) for label in labels}


def _size(text: str) -> int:
    """`48K` in bytes."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * unit if digits.isdigit() else 0


def _memory_gib(root: Path) -> int:
    """Memory that this process may use, in whole GiB: what a kernel keeps for itself varies from boot to boot."""
    total = procfs.sizes(root / "proc/meminfo").get("MemTotal", 0)
    limit = min((size for size in _memory_limits(root) if size > 0), default=total)
    return max(1, round(min(total, limit) / (1 << 30)))


def _memory_limits(root: Path) -> Iterator[int]:
    """Memory limits of this process's cgroups in bytes (0 or huge: none)."""
    base = root / "sys/fs/cgroup"
    for line in procfs.lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, file = (base / "memory", "memory.limit_in_bytes") if controllers else (base, "memory.max")
        for folder in (mount / path.lstrip("/"), mount):
            yield procfs.number(folder / file)


def _virtualization(root: Path, flags: Collection[str], *, arm: bool) -> str | None:
    """The hypervisor, the container, or both as `docker on kvm`; None on bare metal."""
    machine = _hypervisor(root) if arm or "hypervisor" in flags else None
    if machine is None and "hypervisor" in flags:
        machine = "vm"
    container = _container(root)
    return f"{container} on {machine}" if container and machine else container or machine


def _hypervisor(root: Path) -> str | None:
    firmware = root / "sys/class/dmi/id"
    product = procfs.read(firmware / "product_name")
    if product.endswith(".metal"):  # whole machines of a cloud carry its vendor too
        return None
    for text in (product, procfs.read(firmware / "sys_vendor"), procfs.read(root / "sys/hypervisor/type")):
        for start, name in _MACHINES.items():
            if text.lower().startswith(start.lower()):
                return name
    clocks = procfs.read(root / "sys/devices/system/clocksource/clocksource0/available_clocksource").split()
    return next((_CLOCKS[clock] for clock in clocks if clock in _CLOCKS), None)


def _container(root: Path) -> str | None:
    for file, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if (root / file).exists():
            return name
    groups = procfs.read(root / "proc/1/cgroup")
    return next((name for word, name in _CONTAINERS if word in groups), None)
