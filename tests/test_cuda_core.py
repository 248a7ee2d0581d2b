# SPDX-License-Identifier: MIT
"""The machine room of GPU kernels, without a GPU: compiling, keeping programs, sums, warps, errors."""

import logging
import math
import multiprocessing
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import cubins, gpu, gpu_sums, gpu_tables, nvrtc
from testing.emulator import ORDERS, Emulator, emulated

CPU = torch.device("cpu")
EMPTY = """
#include "device.h"
RG_BEGIN
struct A { int64_t n; };
RG_GLOBAL(k, 32, A, a) {}
RG_END
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "programs"
    monkeypatch.setenv("RASTERGRAD_CACHE_DIR", str(place))
    return place


# ---- compiling ---------------------------------------------------------------------------------------------


def test_a_mistake_is_shown_with_file_and_line(tmp_path: Path) -> None:
    source = tmp_path / "cuda.cu"
    source.write_text('#include "device.h"\n\nint broken = ;\n')
    with pytest.raises(nvrtc.CompileError, match=re.escape(f"{source}(3)")):
        gpu.program(source, torch.float32, (9, 0))


def test_a_program_is_compiled_once_and_found_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "room" / "cuda.cu"
    source.parent.mkdir()
    source.write_text(
        '#include "device.h"\nRG_BEGIN\nstruct A { int64_t n; };\nRG_GLOBAL(k, 32, A, a) {}\nRG_END\n'
    )
    with caplog.at_level(logging.INFO, "rastergrad"):
        made = gpu.program(source, torch.float32, (9, 0))
    assert re.fullmatch(r"compiled room/cuda.cu \(float\) for sm_90 in \d+\.\d\d s", caplog.messages[-1])
    assert made.startswith(b"\x7fELF")
    assert [p.suffix for p in cache.iterdir()] == [".cubin"]
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc.Compiler, "compile", lambda *_, **__: pytest.fail("compiled again"))
        assert gpu.program(source, torch.float32, (9, 0)) == made
    # Another number type, architecture, source or header is another program.
    gpu.program(source, torch.float64, (9, 0))
    gpu.program(source, torch.float32, (8, 0))
    source.write_text(source.read_text() + "// changed\n")
    gpu.program(source, torch.float32, (9, 0))
    (source.parent / "formulas.h").write_text("// new\n")
    gpu.program(source, torch.float32, (9, 0))
    assert len(list(cache.iterdir())) == 5


def test_a_gpu_newer_than_the_compiler_gets_ptx_and_an_old_one_is_refused(
    cache: Path, tmp_path: Path
) -> None:
    source = tmp_path / "cuda.cu"
    source.write_text(
        '#include "device.h"\nRG_BEGIN\nstruct A { int64_t n; };\nRG_GLOBAL(k, 32, A, a) {}\nRG_END\n'
    )
    assert b".target sm_" in gpu.program(source, torch.float32, (99, 0))
    assert gpu.program(source, torch.float32, (9, 5)).startswith(b"\x7fELF")  # as for 9.0
    with pytest.raises(
        RuntimeError, match=r"compute capability 3\.5; NVRTC [\d.]+ makes programs from 7\.5 on"
    ):
        gpu.program(source, torch.float32, (3, 5))


def test_without_a_compiler_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_wanted_majors", lambda: [12])
    monkeypatch.setattr(nvrtc, "_loaded", lambda _: [])
    monkeypatch.setattr(nvrtc, "_packaged", lambda _: [])
    monkeypatch.setattr(nvrtc, "_name", lambda _: "libnothing.so.12")
    nvrtc.compiler.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="pip install nvidia-cuda-nvrtc-cu12"):
            nvrtc.compiler()
        monkeypatch.setattr(nvrtc, "_wanted_majors", lambda: [13])
        with pytest.raises(RuntimeError, match=r"pip install 'nvidia-cuda-nvrtc==13\.\*'"):
            nvrtc.compiler()
    finally:
        nvrtc.compiler.cache_clear()


# ---- programs on disk --------------------------------------------------------------------------------------


def test_a_damaged_or_half_written_program_is_not_used(cache: Path) -> None:
    assert cubins.store("name", b"program")
    assert cubins.stored("name") == b"program"
    path = cache / "name.cubin"
    path.write_bytes(path.read_bytes()[:-1])
    assert cubins.stored("name") is None
    path.write_bytes(b"")
    assert cubins.stored("name") is None
    assert cubins.stored("another") is None


def test_the_folder_stays_below_its_bound_and_keeps_what_is_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cubins, "_LARGEST", 10 * (1000 + 32))
    for k in range(10):
        cubins.store(f"p{k}", bytes(1000))
        os.utime(cache / f"p{k}.cubin", (k, k))
    assert cubins.stored("p0") is not None  # used again: no longer the oldest
    cubins.store("new", bytes(1000))
    left = {p.stem for p in cache.iterdir()}
    assert left == {"p0", *(f"p{k}" for k in range(2, 10)), "new"}


@pytest.mark.skipif(os.name != "posix", reason="folders are made read-only the POSIX way")
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("RASTERGRAD_CACHE_DIR", str(blocked / "programs"))
    assert not cubins.store("name", b"program")
    assert cubins.stored("name") is None
    monkeypatch.delenv("RASTERGRAD_CACHE_DIR")
    monkeypatch.setattr(cubins.sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cubins.folder() is None
    assert not cubins.store("name", b"program")


def write_many(place: str, seed: int) -> None:
    os.environ["RASTERGRAD_CACHE_DIR"] = place
    for k in range(60):
        name = f"p{(k * 7 + seed) % 5}"
        cubins.store(name, name.encode() * 5000)
        found = cubins.stored(name)
        assert found is None or found == name.encode() * 5000


def test_many_processes_share_the_folder(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_many, args=(str(cache), seed)) for seed in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    assert sorted(p.name for p in cache.iterdir()) == [f"p{k}.cubin" for k in range(5)]


# ---- sums --------------------------------------------------------------------------------------------------

SUM_SOURCE = """
#include "sums.h"
RG_BEGIN
struct AddArgs { const Real* values; const int64_t* places; int64_t count; Sums<Real> sums; };
RG_GLOBAL(add_all, 64, AddArgs, a) {
    const int64_t i = thread_number();
    if (i < a.count) a.sums.add(a.places[i], a.values[i]);
}
RG_END
"""


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> gpu.Module:
    source = tmp_path_factory.mktemp("sums") / "cuda.cu"
    source.write_text(SUM_SOURCE)
    return gpu.Module(source)


def summed(
    adder: gpu.Module, values: Tensor, places: Tensor, count: int, order: str, reproducible: bool
) -> Tensor:
    with emulated(order):
        sums = gpu_sums.Sums((count,), values.dtype, CPU, reproducible)
        launch = adder.on(CPU, values.dtype)
        for _ in gpu_sums.passes(sums):
            launch.over(
                "add_all", len(values), values.data_ptr(), places.data_ptr(), len(values), *sums.fields()
            )
        return sums.total()


def test_sums_in_any_order_are_equal_and_exact(adder: gpu.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for dtype in (torch.float32, torch.float64):
        # Many decades, and sums that nearly cancel.
        values = torch.randn(4000, generator=generator, dtype=dtype) * 10.0 ** torch.randint(
            -12, 12, (4000,), generator=generator
        )
        values[1::2] = -values[::2] * (1 + 1e-6)
        places = torch.randint(0, 40, (2000,), generator=generator).repeat_interleave(2)
        found = [summed(adder, values, places, 41, order, True) for order in ORDERS]
        assert all(torch.equal(found[0], f) for f in found[1:])
        exact = torch.tensor(
            [math.fsum(values[places == k].tolist()) for k in range(41)], dtype=torch.float64
        )
        largest = torch.stack(
            [
                values[places == k].abs().max() if (places == k).any() else values.new_zeros(())
                for k in range(41)
            ]
        )
        error = (found[0].double() - exact).abs()
        # Half a unit of 2^-34 (2^-68) of the largest summand each, and the rounding of the result.
        unit = 2.0**-34 if dtype == torch.float32 else 2.0**-67
        assert bool((error <= 100 * unit * largest.double() + torch.finfo(dtype).eps * exact.abs()).all())
        assert found[0][40] == 0
        assert torch.allclose(
            summed(adder, values, places, 41, "forward", False).double(),
            exact,
            atol=float(largest.max()) * 1e-5,
        )


def test_quick_sums_do_depend_on_the_order(adder: gpu.Module) -> None:
    """Otherwise the test above would show nothing."""
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    places = torch.zeros(4000, dtype=torch.int64)
    found = {float(summed(adder, values, places, 1, order, False)[0]) for order in ORDERS}
    assert len(found) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_what_is_not_finite(adder: gpu.Module, dtype: torch.dtype) -> None:
    inf, nan = math.inf, math.nan
    cases = [
        [1.0, inf],
        [-inf, 2.0, -inf],
        [inf, -inf],
        [nan, 1.0],
        [nan, inf],
        [1e30, -1e30, 1.0],
        [0.0, -0.0],
    ]
    values = torch.tensor([v for case in cases for v in case], dtype=dtype)
    places = torch.tensor([k for k, case in enumerate(cases) for _ in case])
    found = summed(adder, values, places, len(cases), "forward", True)
    # 1 is 2^-100 of 1e30: below the second word's unit.
    want = torch.tensor([inf, -inf, nan, nan, nan, 0.0, 0.0], dtype=dtype)
    assert torch.equal(found.isnan(), want.isnan())
    assert torch.equal(found.nan_to_num(nan=7.0), want.nan_to_num(nan=7.0))


def test_the_ends_of_float32(adder: gpu.Module) -> None:
    tiny, huge = 1.4e-45, 3.4028234663852886e38
    values = torch.tensor([tiny, tiny, tiny, huge, -huge, huge, 1.1754944e-38, -tiny])
    places = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    found = summed(adder, values, places, 3, "forward", True)
    assert found.tolist() == torch.tensor([3 * tiny, huge, 1.1754944e-38 - tiny]).tolist()


# ---- launching, tables, the emulator itself ----------------------------------------------------------------


def test_tables_of_any_length_arrive() -> None:
    for numbers in ([], [7], list(range(-3, 300)), [2**62, -(2**62)]):
        with emulated():
            assert gpu_tables.table(numbers, CPU).tolist() == numbers


RACE = """
#include "device.h"
RG_BEGIN
struct Args { int64_t* out; int64_t barrier; };
RG_GLOBAL(neighbours, 64, Args, a) {
    RG_SHARED int64_t shared[64];
    shared[threadIdx.x] = threadIdx.x;
    if (a.barrier) __syncthreads();
    a.out[threadIdx.x] = shared[63 - threadIdx.x];
}
RG_GLOBAL(half_a_barrier, 64, Args, a) {
    if (threadIdx.x < 32) __syncthreads();
}
RG_GLOBAL(half_a_warp, 64, Args, a) {
    if (threadIdx.x % 2) __syncwarp();
}
RG_GLOBAL(beyond, 64, Args, a) { a.out[64 + threadIdx.x % 2] = 1; }
RG_GLOBAL(votes, 64, Args, a) {
    const unsigned odd = __ballot_sync(kWarp, threadIdx.x % 2);
    a.out[threadIdx.x] = odd + warp_sum(int(threadIdx.x)) + __shfl_sync(kWarp, lane_number(), 5);
}
RG_END
"""


@pytest.fixture(scope="module")
def racing(tmp_path_factory: pytest.TempPathFactory) -> gpu.Module:
    source = tmp_path_factory.mktemp("race") / "cuda.cu"
    source.write_text(RACE)
    return gpu.Module(source)


def test_the_emulator_shows_a_missing_barrier(racing: gpu.Module) -> None:
    def results(barrier: int) -> list[list[int]]:
        found = []
        for order in ORDERS:
            with emulated(order):
                out = gpu.zeros((64,), torch.int64, CPU)
                racing.on(CPU).over("neighbours", 64, out.data_ptr(), barrier)
                found.append(out.tolist())
        return found

    assert results(1) == [list(range(63, -1, -1))] * 3
    assert len({tuple(r) for r in results(0)}) > 1


def test_the_emulator_refuses_what_hangs_or_writes_outside(racing: gpu.Module) -> None:
    with emulated() as engine:
        out = gpu.zeros((64,), torch.int64, CPU)
        for name in ("half_a_barrier", "half_a_warp"):
            with pytest.raises(RuntimeError, match="wait for others that never come"):
                racing.on(CPU).over(name, 64, out.data_ptr(), 0)
        with pytest.raises(RuntimeError, match="beyond wrote outside of a tensor of 512 bytes"):
            racing.on(CPU).over("beyond", 64, out.data_ptr(), 0)
        with pytest.raises(TypeError, match="neighbours takes 2 fields; got 1"):
            racing.on(CPU).over("neighbours", 64, out.data_ptr())
        racing.on(CPU).over("votes", 64, out.data_ptr(), 0)
        want = [0xAAAAAAAA + sum(range(32 * w, 32 * w + 32)) + 5 for w in range(2) for _ in range(32)]
        assert out.tolist() == want
        assert isinstance(engine, Emulator)


class Broken(Emulator):
    def launch(self, *_: object) -> None:
        raise RuntimeError("launching: CUDA_ERROR_ILLEGAL_ADDRESS")


@pytest.fixture
def broken() -> Iterator[None]:
    before = gpu.engine
    gpu.engine = Broken()
    yield
    gpu.engine = before


def test_a_failing_launch_names_the_kernel_its_file_and_line(broken: None) -> None:
    rast = torch.zeros(1, 2, 2, 4)
    with pytest.raises(
        RuntimeError, match=r"kernel interpolate_forward \(.*cuda\.cu:\d+\): launching: CUDA_ERROR"
    ):
        rg.interpolate(torch.rand(3, 1), rast, torch.tensor([[0, 1, 2]]))


def test_nothing_touches_a_gpu_before_it_is_asked_for() -> None:
    assert not gpu.runs_on(CPU)
    assert gpu.runs_on(torch.device("cuda", 0)) == (torch.version.hip is None)


def test_debug_takes_a_bool() -> None:
    from rastergrad.core.debug import debugging

    assert not debugging()
    rg.debug()
    assert debugging()
    rg.debug(False)
    assert not debugging()
    with pytest.raises(TypeError, match="`enabled` must be True or False; got int"):
        rg.debug(1)  # pyright: ignore[reportArgumentType]
