"""Instruction sets that matter for inference, and the settings that hide some of them from the libraries.

Each library has its own setting; set before a process starts, they make one machine stand in for an older one.
An instruction set counts as present when the CPU has it and every setting leaves it to its library: a machine that
is capped in one library only is reported as the lesser one, and its settings tell it from a machine that is that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

_AVX2 = ("avx2", "fma", "f16c")
_AVX2_MORE = ("avx_vnni", "avx_vnni_int8", "avx_ne_convert")
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_AMX = ("amx_tile", "amx_int8", "amx_bf16", "amx_fp16")
_SVE = ("sve", "sve2", "svei8mm", "svebf16")

X86: tuple[str, ...] = (
    "sse4_1",
    "avx",
    *_AVX2,
    *_AVX2_MORE,
    *_AVX512,
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    *_AMX,
)
"""Flags of /proc/cpuinfo on x86 that kernels for inference are written for."""

ARM: tuple[str, ...] = ("asimd", "fphp", "asimdhp", "asimdfhm", "asimddp", "i8mm", "bf16", *_SVE, "sme", "sme2")
"""Features of /proc/cpuinfo on Arm that kernels for inference are written for."""

_BEYOND_512 = ("avx512_vnni", "avx512_bf16", "avx512_fp16", *_AMX)
_BEYOND_AVX2 = (*_AVX512, *_BEYOND_512)
_BEYOND_AVX = (*_AVX2, *_AVX2_MORE, *_BEYOND_AVX2)
_BEYOND_SSE = ("avx", *_BEYOND_AVX)

_ONEDNN: Mapping[str, tuple[str, ...]] = {
    "sse41": _BEYOND_SSE,
    "avx": _BEYOND_AVX,
    "avx2": (*_AVX2_MORE, *_BEYOND_AVX2),
    "avx2_vnni": ("avx_vnni_int8", "avx_ne_convert", *_BEYOND_AVX2),
    "avx2_vnni_2": _BEYOND_AVX2,
    "avx512_core": (*_AVX2_MORE, *_BEYOND_512),
    "avx512_core_vnni": (*_AVX2_MORE, "avx512_bf16", "avx512_fp16", *_AMX),
    "avx512_core_bf16": (*_AVX2_MORE, "avx512_fp16", *_AMX),
    "avx512_core_fp16": _AMX,
    "avx10_1_512": _AMX,
    "avx512_core_amx": ("amx_fp16",),
    "avx10_1_512_amx": ("amx_fp16",),
}

HIDDEN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    # ATen picks the code of its own kernels; its level avx512 leaves the dot-product sets to others
    "ATEN_CPU_CAPABILITY": {"default": (*_BEYOND_SSE, *_SVE), "avx2": _BEYOND_AVX2, "avx512": ()},
    # dnnl_cpu_isa_t of oneDNN: each level is a mask of those it contains
    "ONEDNN_MAX_CPU_ISA": _ONEDNN,
    "DNNL_MAX_CPU_ISA": _ONEDNN,  # the older name, still read
    # fbgemmEnvGetIsa: it knows nothing beyond VNNI (E1), so E1 hides nothing
    "FBGEMM_ENABLE_INSTRUCTIONS": {
        "avx2": _BEYOND_AVX2,
        "avx512": ("avx512_vnni",),
        "avx512_256": ("avx512_vnni",),
        "avx512_e1": (),
        "avx512_e1_256": (),
    },
    # oneMKL's developer guide, "Instruction Set Specific Dispatching": E1 adds VNNI, E3 bf16, E4 AMX
    "MKL_ENABLE_INSTRUCTIONS": {
        "sse4_2": _BEYOND_SSE,
        "avx": _BEYOND_AVX,
        "avx2": (*_AVX2_MORE, *_BEYOND_AVX2),
        "avx2_e1": _BEYOND_AVX2,
        "avx512": _BEYOND_512,
        "avx512_e1": ("avx512_bf16", "avx512_fp16", *_AMX),
        "avx512_e2": ("avx512_bf16", "avx512_fp16", *_AMX),
        "avx512_e3": ("avx512_fp16", *_AMX),
        "avx512_e4": ("amx_fp16",),
        "avx512_e5": (),
    },
}
"""Setting → value in lower case → instruction sets that it hides from its library."""

_EXACT_CASE = frozenset({"ATEN_CPU_CAPABILITY"})
"""ATen ignores a value in capitals (with a warning); the others read any case."""


def caps(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The settings in force that may hide instruction sets, as sorted `NAME=value`.

    Values that no library knows are kept too: they hide nothing that we know of, but the machine was meant to differ.
    """
    return tuple(sorted(f"{name}={environ[name]}" for name in HIDDEN if environ.get(name)))


def left(flags: Collection[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Of the CPU's flags those that matter and that every setting leaves, sorted."""
    hidden = {flag for name in HIDDEN for flag in _hidden(name, environ.get(name, ""))}
    return tuple(sorted((set(flags) & {*X86, *ARM}) - hidden))


def _hidden(name: str, value: str) -> tuple[str, ...]:
    word = value if name in _EXACT_CASE else value.lower()
    return HIDDEN[name].get(word, ())
