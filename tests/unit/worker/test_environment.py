from __future__ import annotations

import importlib.metadata
import subprocess
import sys

from storage import keys
from storage.catalogue import registry
from worker import environment


def test_versions_are_those_of_the_installed_packages_and_missing_ones_are_absent() -> None:
    found = environment.probe({}).packages
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert set(found) <= set(registry.packages())
    assert "nncf" in found or not _installed("nncf")


def test_preloaded_runtimes_are_told_by_their_file_names() -> None:
    preload = "/usr/local/lib/libiomp5.so:/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 /lib/libother.so"
    seen = environment.probe({"LD_PRELOAD": preload})
    assert (seen.openmp, seen.allocator) == ("libiomp5.so", "libtcmalloc_minimal.so.4")
    assert (environment.probe({}).openmp, environment.probe({}).allocator) == (None, None)


def test_settings_that_move_numbers_make_another_environment() -> None:
    plain, tuned = environment.probe({"HOME": "/home/a"}), environment.probe({"KMP_BLOCKTIME": "0"})
    assert tuned.settings == {"KMP_BLOCKTIME": "0"}
    assert keys.environment_key(plain) != keys.environment_key(tuned)


def test_thread_counts_and_instruction_set_caps_are_left_to_jobs_and_hardware() -> None:
    outer = {"OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    assert environment.probe(outer).settings == {}


def test_asking_for_versions_imports_nothing_heavy() -> None:
    code = (
        "import sys; from worker import environment; environment.probe(); print({'torch', 'numpy'} & set(sys.modules))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"


def _installed(name: str) -> bool:
    return any(dist.name == name for dist in importlib.metadata.distributions())
