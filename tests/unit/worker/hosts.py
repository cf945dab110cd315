"""Recorded hosts: what /proc and /sys of other machines say, laid out under a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

GRAVITON2 = """\
processor\t: {cpu}
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""

ROME = """\
processor\t: {cpu}
vendor_id\t: AuthenticAMD
cpu family\t: 23
model\t\t: 49
model name\t: AMD EPYC 7302P 16-Core Processor
stepping\t: 0
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse sse2 ht lm pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand svm avx2 bmi2
"""


def write(root: Path, files: Mapping[str, str]) -> Path:
    """The files below `root`, which is returned."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def graviton2(root: Path) -> Path:
    """Two cores of an AWS Graviton2 instance (Neoverse-N1), no SMT, 8 GB."""
    files = {
        "proc/cpuinfo": "\n".join(GRAVITON2.format(cpu=cpu) for cpu in range(2)),
        "proc/meminfo": "MemTotal:        7931644 kB\nMemFree:         5000000 kB\n",
        "proc/1/cgroup": "0::/init.scope\n",
        "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-1.scope\n",
        "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
        "sys/class/dmi/id/product_name": "m6g.large\n",
        "sys/devices/system/node/node0/cpulist": "0-1\n",
    }
    for cpu in range(2):
        files |= topology(cpu, siblings=str(cpu)) | cache(cpu, 0, "Data", level=1, size="64K", shared=str(cpu))
        files |= cache(cpu, 2, "Unified", level=2, size="1024K", shared=str(cpu))
        files |= cache(cpu, 3, "Unified", level=3, size="32768K", shared="0-1")
    return write(root, files)


def rome(root: Path, *, mhz: str = "1500.000") -> Path:
    """Two cores with two hardware threads each of a bare AMD EPYC 7302P (AVX2, nothing beyond), 64 GB."""
    files = {
        "proc/cpuinfo": "\n".join(ROME.format(cpu=cpu, mhz=mhz) for cpu in range(4)),
        "proc/meminfo": "MemTotal:       65852876 kB\n",
        "proc/1/cgroup": "0::/init.scope\n",
        "proc/self/cgroup": "0::/work.slice/bench.scope\n",
        "sys/class/dmi/id/sys_vendor": "Supermicro\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
        "sys/devices/system/node/node0/cpulist": "0,2\n",
        "sys/devices/system/node/node1/cpulist": "1,3\n",
    }
    for cpu in range(4):
        siblings = f"{cpu % 2},{cpu % 2 + 2}"
        files |= topology(cpu, siblings=siblings) | cache(cpu, 0, "Data", level=1, size="32K", shared=siblings)
        files |= cache(cpu, 1, "Instruction", level=1, size="32K", shared=siblings)
        files |= cache(cpu, 2, "Unified", level=2, size="512K", shared=siblings)
        files |= cache(cpu, 3, "Unified", level=3, size="16384K", shared="0-3")
    return write(root, files)


def topology(cpu: int, *, siblings: str) -> dict[str, str]:
    """Which hardware threads share a core; one package."""
    folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
    return {f"{folder}/thread_siblings_list": f"{siblings}\n", f"{folder}/physical_package_id": "0\n"}


def cache(cpu: int, index: int, kind: str, *, level: int, size: str, shared: str) -> dict[str, str]:
    """One cache as one CPU sees it."""
    folder = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
    values = {"type": kind, "level": str(level), "size": size, "shared_cpu_list": shared}
    return {f"{folder}/{name}": f"{value}\n" for name, value in values.items()}
