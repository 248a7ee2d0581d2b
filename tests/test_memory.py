# SPDX-License-Identifier: MIT
"""Recycled output memory: reuse, bounds, release, no growth."""

import gc
import resource

import pytest
import torch

import rastergrad as rg
from rastergrad.core import native

LARGE = (1, 1024, 1024, 4)  # 16 MB


@pytest.fixture(autouse=True)
def empty_shelf():
    gc.collect()
    rg.release_memory()
    before = rg.memory_use()["limit"]
    yield
    native._native.set_memory_limit(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64])
def test_large_tensors_are_ordinary_tensors(dtype: torch.dtype) -> None:
    t = native.empty(LARGE, dtype)
    assert t.shape == LARGE
    assert t.dtype == dtype
    assert t.is_contiguous()
    assert t.data_ptr() % 64 == 0
    t.fill_(3)
    assert int(t.sum()) == 3 * 1024 * 1024 * 4


def test_a_dead_tensor_s_block_is_used_again() -> None:
    first = native.empty(LARGE, torch.float32)
    address = first.data_ptr()
    del first
    assert rg.memory_use()["idle"] >= 16 << 20
    assert native.empty(LARGE, torch.float32).data_ptr() == address


def test_a_view_keeps_the_block() -> None:
    whole = native.empty(LARGE, torch.float32)
    whole.fill_(7)
    part = whole[0, :2]
    del whole
    other = native.empty(LARGE, torch.float32)
    other.fill_(1)
    assert bool((part == 7).all())


def test_idle_memory_is_bounded_and_released() -> None:
    native._native.set_memory_limit(40 << 20)
    several = [native.empty(LARGE, torch.float32) for _ in range(5)]
    assert rg.memory_use()["in_use"] >= 80 << 20
    del several
    assert 32 << 20 <= rg.memory_use()["idle"] <= 40 << 20
    assert rg.release_memory() >= 32 << 20
    assert rg.memory_use()["idle"] == 0


def test_too_much_is_a_memory_error_and_nothing_is_lost() -> None:
    before = rg.memory_use()
    with pytest.raises(MemoryError):
        native.empty((1 << 30, 1 << 30), torch.float32)
    with pytest.raises(MemoryError):
        native.empty((1 << 50,), torch.float64)
    assert rg.memory_use() == before


def test_two_thousand_iterations_do_not_grow() -> None:
    pos = torch.tensor([[[-0.8, -0.8, 0, 1], [0.8, -0.8, 0, 1], [0.0, 0.8, 0, 1]]], requires_grad=True)
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    color = torch.rand(3, 3, requires_grad=True)
    texture = torch.rand(1, 16, 16, 3, requires_grad=True)

    def step() -> None:
        rast, rast_db = rg.rasterize(pos, tri, (64, 64))
        out, out_da = rg.interpolate(color[:, :2], rast, tri, rast_db, "all")
        image = rg.antialias(rg.texture(texture, out, out_da), rast, pos, tri)
        image.square().mean().backward()

    def resident_kilobytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for _ in range(200):
        step()
    before = resident_kilobytes()
    for _ in range(2000):
        step()
    # A leak of one 64x64 buffer per step would be 128 MB; the allocators' own noise stays far below 20.
    assert resident_kilobytes() - before < 20_000
