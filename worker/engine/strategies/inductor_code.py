"""Compiled code: an artifact's graph made into a shared library, once for a host, and found there by other processes.

AOTInductor writes one library for every batch size and length, the frozen weights inside it. It is machine code for
this CPU and these library versions and runs when it is loaded, so it is no part of the artifact, which other hosts may
get: it lies in a folder beside the artifacts, known by what it was made from, verified as they are, and is made again
where it is missing or damaged (docs/decisions/0017-compiled-code.md).

Finding it imports nothing of the compiler.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from storage import errors, keys
from worker.artifacts import COMPILED, ArtifactStore
from worker.engine import libraries

LIBRARY = "model.so"

SOURCES = "sources.json"
"""File of an artifact that holds the digest of all its others: what its code is known by."""

OPTIONS: Mapping[str, Any] = {
    "freezing": True,
    # one library serves every number of threads; otherwise the preparing process's number is written into the loops
    "cpp.dynamic_threads": True,
    # how deep loops are cut for threads must not depend on the process that compiles
    "cpp.threads": 2,
}
"""Settings of the compilation, by inductor's own names."""

EXAMPLE = (3, 64)
"""Batch and length that the code is laid out for; it accepts any.

Inductor cuts loops for threads from the outside in, and stops where the dimensions so far give each thread its share
of this example. Three rows for two threads make it go on to the tokens (or heads), so that one row is cut as well.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What is compiled."""

    module: torch.nn.Module  # takes the inputs by position, each [batch, length]; returns logits [batch, classes]
    inputs: int
    longest: int | None  # tokens that a row may have at most; None: no bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Compiled code on this host."""

    library: Path
    facts: Mapping[str, Any]  # `operators`, `vectors`, `compiler`, `compile_s`


def seal(folder: Path) -> None:
    """Write down the digest of an artifact's files, all of which are there by now."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    (folder / SOURCES).write_text(json.dumps({"digest": keys.digest(files)}))


def code(folder: Path, packages: Sequence[str], options: Mapping[str, Any], build: Callable[[], Graph]) -> Code:
    """The code of an artifact's folder; made here, from the graph that `build` reads from it, where there is none.

    `options` are settings of the compilation beside OPTIONS.

    Raises Unsupported where it must be compiled and cannot be: no C++ compiler, a graph that does not export.
    """
    digest = json.loads((folder / SOURCES).read_text())["digest"]
    settings = {**OPTIONS, **options}
    recipe = {"artifact": digest, "isa": libraries.isa(), "options": settings, "example": list(EXAMPLE)}
    key = keys.artifact_key(digest, recipe, libraries.versions(packages))
    store = ArtifactStore(folder.parent.parent / COMPILED)
    found = store.read(key) or store.make(key, recipe, lambda target: compile_into(target, build(), settings))
    return Code(library=store.folder(key) / LIBRARY, facts={**found.facts, "compile_s": found.prepare_s})


def require_compiler() -> None:
    """Raises Unsupported, with what to install, where inductor finds no C++ compiler that answers."""
    from torch._inductor import cpp_builder

    with _translated():
        cpp_builder.get_cpp_compiler()


def export(graph: Graph) -> torch.export.ExportedProgram:
    """The graph with batch and length left open.

    Raises Unsupported for a model whose graph depends on its input.
    """
    free = torch.export.Dim.DYNAMIC
    shapes = tuple({0: free, 1: free} for _ in range(graph.inputs))
    wrapped = _ByPosition(graph.module)
    try:
        with torch.no_grad():
            return torch.export.export(wrapped, example(graph), dynamic_shapes={"call": shapes})
    except Exception as exc:  # what torch.export raises has no common root
        if isinstance(exc, MemoryError) or "allocate" in str(exc):
            raise
        reason = str(exc).strip().partition("\n")[0]
        raise errors.Unsupported(f"torch.export takes no graph of any length from this model: {reason}") from exc


def unchecked(program: torch.export.ExportedProgram) -> Any:
    """The exported graph as a module, without the checks that export adds.

    Checks of a tensor's type, one before each conversion, are users of that tensor: with them in the graph inductor
    does not see that its surroundings are an int8 matrix product.
    """
    module: Any = program.module(check_guards=False)
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
    module.recompile()
    return module


def example(graph: Graph) -> tuple[torch.Tensor, ...]:
    """One call of EXAMPLE's size, or of the model's longest rows."""
    batch, length = EXAMPLE
    width = length if graph.longest is None else min(length, graph.longest)
    return tuple(torch.ones(batch, width, dtype=torch.int64) for _ in range(graph.inputs))


def compile_into(folder: Path, graph: Graph, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write the library of a graph into an empty folder; returns facts.

    Facts: the library operators that its code calls, inductor's vector instructions, the compiler.
    """
    from torch._inductor import aot_compile, cpp_builder, cpu_vec_isa, utils

    require_compiler()
    program = export(graph)
    module = unchecked(program)
    with tempfile.TemporaryDirectory(prefix="quantfleet-compile-") as scratch:
        options = {**settings, "aot_inductor.output_path": str(Path(scratch) / LIBRARY)}
        with utils.fresh_cache(dir=scratch, delete=False), _translated(), torch.no_grad():
            made = aot_compile(module, program.example_inputs[0], options=options)
        shutil.copyfile(str(made), folder / LIBRARY)
        sources = [path.read_text() for path in sorted(Path(scratch).rglob("*.cpp"))]
    return {
        "operators": operators(sources),
        "vectors": str(cpu_vec_isa.pick_vec_isa()),
        "compiler": str(cpp_builder.get_cpp_compiler()),
    }


def operators(sources: Sequence[str]) -> dict[str, int]:
    """Library operators that generated code calls, and how often in each run: such code has no branches."""
    call = re.compile(r"\(aoti_torch_(?:cpu|mkldnn)_(\w+)\(|(aoti_torch_proxy_executor_call_function)\(")
    found = Counter(a or b for text in sources for a, b in call.findall(text))
    return dict(found.most_common())


class _ByPosition(torch.nn.Module):
    """Has one signature, whatever the module inside has."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *call: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.module(*call)
        return answer


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """A compiler that is missing or does not work is Unsupported; one that ran out of memory is a MemoryError."""
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    help_ = "install one (apt-get install g++) or name one in CXX"
    try:
        yield
    except InvalidCxxCompiler as exc:
        raise errors.Unsupported(f"torch.compile needs a C++ compiler and finds none that works: {help_}") from exc
    except CppCompileError as exc:
        if "memory" in str(exc):
            raise MemoryError(f"the C++ compiler: {exc}") from exc
        raise errors.Unsupported(f"the C++ compiler fails: {help_}; it said: {str(exc).strip()[-400:]}") from exc
