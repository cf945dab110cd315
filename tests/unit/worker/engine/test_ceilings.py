"""The short measurements of a calibration, so short that only their form and their sense are looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from worker.engine import ceilings, onednn


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One thread: several wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_product_names_its_kernel_and_size_and_its_best_run_is_no_slower_than_the_usual() -> None:
    found = ceilings.product("fp32", 0.01)

    assert found["kernel"].startswith("torch.mm")
    assert found["size"] in ceilings.SIZES
    assert found["ops_per_s"] >= found["usual_per_s"] > 1e8
    assert found["runs"] >= ceilings.LEAST_RUNS


def test_no_size_is_tried_that_would_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "LONGEST_CALL_S", 1e-6)

    assert ceilings.product("fp32", 0.01)["size"] == ceilings.SIZES[0]


def test_a_kernel_that_this_cpu_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_size: int) -> ceilings.Call:
        raise RuntimeError("no such engine")

    whole = dict(ceilings._KERNELS["fp32"]())
    monkeypatch.setattr(ceilings, "_KERNELS", {"fp32": lambda: iter([("none", lacking), *whole.items()])})

    assert ceilings.product("fp32", 0.01)["kernel"].startswith("torch.mm")


def test_bytes_moved_are_those_read_and_those_written() -> None:
    size = 1 << 20
    read, copied = ceilings.read(size, 0.005), ceilings.copy(size, 0.005)

    assert read["set_bytes"] == copied["set_bytes"] == size
    assert read["bytes_per_s"] >= read["usual_per_s"] > 1e7
    assert copied["bytes_per_s"] >= copied["usual_per_s"] > 1e7


def test_the_clock_moves_and_a_reading_costs_something() -> None:
    found = ceilings.timer()

    assert 1 <= found["resolution_ns"] < 10_000_000
    assert 1 < found["call_ns"] < 100_000


def test_noise_is_taken_of_a_kernel_of_about_a_millisecond() -> None:
    found = ceilings.noise(0.05)

    assert 1e-4 < found["kernel_s"] < 0.1
    assert found["variation"] >= 0
    assert found["p99_ratio"] >= 1


def test_a_line_of_onednn_is_read_in_short() -> None:
    line = (
        "onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx2,undef,src:u8::blocked:ab::f0 "
        "wei:s8:a:blocked:ba::f0,,,256x256:256x256,0.1"
    )

    assert onednn.name_of(line) == "matmul brg_matmul:avx2 u8×s8"
    assert onednn.name_of("onednn_verbose,v1,info,oneDNN v3.7") is None
