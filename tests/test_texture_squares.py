# SPDX-License-Identifier: MIT
"""Gradients of texels are summed in squares that follow the pixels. Neither where squares lie nor how they
move must show.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from testing.closeness import assert_gradients_close

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")


def plane(
    height: int,
    width: int,
    texels: tuple[int, int],
    per_pixel: float,
    angle: float,
    start: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """(uv, uv_da), float64, of a plane with so many texels per pixel, turned; `start` in textures."""
    rows, columns = texels
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    c, s = per_pixel * math.cos(angle), per_pixel * math.sin(angle)
    uv = torch.stack(
        [start[0] + (c * x - s * y) / columns, start[1] + (s * x + c * y) / rows],
        -1,
    )
    rates = torch.tensor([c / columns, -s / columns, s / rows, c / rows], dtype=torch.float64)
    return uv[None], rates.expand(1, height, width, 4).contiguous()


def gradients(
    tex: Tensor, uv: Tensor, uv_da: Tensor | None, backend: str | None, **options: Any
) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in (tex, uv, uv_da) if t is not None]
    out = rg.texture(*leaves, backend=backend, **options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    # Holes, so that some groups of pixels are not whole.
    upstream[:, 7:11, 3:40] = 0
    return list(torch.autograd.grad(out, leaves, upstream.to(out.dtype)))


def assert_like_oracle(
    tex: Tensor, uv: Tensor, uv_da: Tensor | None, dtype: torch.dtype, **options: Any
) -> None:
    inputs = [None if t is None else t.to(dtype) for t in (tex, uv, uv_da)]
    pairs = zip(gradients(*inputs, None, **options), gradients(*inputs, "reference", **options), strict=True)
    for k, (got, want) in enumerate(pairs):
        assert_gradients_close(got, want, dtype=dtype, what=f"gradient {k}, {options}")


@given(
    seed=st.integers(0, 2**16),
    channels=st.sampled_from([1, 3, 4, 5, 12, 70]),
    texels_and_levels=st.sampled_from(
        [
            ((256, 512), None),
            ((200, 144), 3),
            ((6, 300), 1),
            ((512, 2), None),
            ((1, 512), None),
            ((64, 64), None),
            ((130, 131), 0),
        ]
    ),
    per_pixel=st.floats(0.05, 6.0),
    angle=st.floats(-math.pi, math.pi),
    start=st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)),
    boundary_mode=st.sampled_from(["wrap", "clamp", "zero"]),
    mipmapped=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60)
def test_squares_follow_a_plane(
    seed: int,
    channels: int,
    texels_and_levels: tuple[tuple[int, int], int | None],
    per_pixel: float,
    angle: float,
    start: tuple[float, float],
    boundary_mode: str,
    mipmapped: bool,
    dtype: torch.dtype,
) -> None:
    """Red if a square loses what it holds when it moves, or puts it into a neighbouring row or column."""
    texels, levels = texels_and_levels
    tex = torch.randn(
        1, *texels, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    uv, uv_da = plane(70, 90, texels, per_pixel, angle, start)
    if dtype == torch.float32:
        # Where float32 is exact, it looks at the same texels as the oracle.
        assume(all(n & (n - 1) == 0 for n in texels))
        uv = (uv * 2**17).round() / 2**17
    options: dict[str, Any] = {"boundary_mode": boundary_mode, "filter_mode": "linear"}
    if mipmapped:
        options |= {"filter_mode": "linear-mipmap-linear", "max_mip_level": levels}
    assert_like_oracle(tex, uv, uv_da if mipmapped else None, dtype, **options)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("texels", [(64, 64), (1, 64), (64, 1), (4, 128)])
@pytest.mark.parametrize("boundary_mode", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("mipmapped", [False, True])
def test_squares_end_at_seams(
    channels: int, texels: tuple[int, int], boundary_mode: str, mipmapped: bool
) -> None:
    """Texels of a cell that are no neighbours in memory, and levels that are halved along one side only."""
    tex = torch.randn(1, *texels, channels, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    uv, uv_da = plane(40, 70, texels, 1.4, 0.2, (0.2, -0.3))
    uv = (uv * 2**17).round() / 2**17
    options: dict[str, Any] = {"boundary_mode": boundary_mode}
    options["filter_mode"] = "linear-mipmap-linear" if mipmapped else "linear"
    assert_like_oracle(tex, uv, uv_da if mipmapped else None, torch.float32, **options)


@pytest.mark.parametrize("run", [1, 5, 16, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squares_follow_pixels_that_jump(run: int, dtype: torch.dtype) -> None:
    """Every few pixels look somewhere else: squares rest, being of no use; what they held arrives."""
    g = torch.Generator().manual_seed(run)
    tex = torch.randn(1, 512, 512, 3, generator=g, dtype=torch.float64)
    uv, uv_da = plane(80, 96, (512, 512), 0.8, 0.3, (0.2, 0.2))
    jumps = torch.rand(1, 80, 96 // run + 1, 2, generator=g, dtype=torch.float64).repeat_interleave(run, 2)
    uv = ((uv + jumps[:, :, :96]) * 2**16).round() / 2**16
    assert_like_oracle(tex, uv, uv_da, dtype)


@pytest.mark.parametrize("channels", [3, 4])
def test_same_bits_for_every_thread_count_and_way_of_asking(channels: int) -> None:
    """Several strips in both directions. Which gradients are wanted must not change the others."""
    tex = torch.rand(1, 256, 256, channels, generator=torch.Generator().manual_seed(0))
    uv, uv_da = (t.float() for t in plane(100, 1100, (256, 256), 0.7, 0.4, (0.1, 0.3)))
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs.append(gradients(tex, uv, uv_da, None))
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        for got, want in zip(run, runs[0], strict=True):
            assert torch.equal(got, want)
    leaf = tex.clone().requires_grad_()
    out = rg.texture(leaf, uv, uv_da)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    upstream[:, 7:11, 3:40] = 0
    (alone,) = torch.autograd.grad(out, leaf, upstream.float())
    assert torch.equal(alone, runs[0][0])


@pytest.mark.parametrize("boundary_mode", ["wrap", "clamp", "zero"])
def test_what_is_not_finite_stays_at_its_texels(boundary_mode: str) -> None:
    """One pixel's infinite upstream gradient reaches its four texels and no other; a texel beside those that
    a pixel looks at may be NaN.
    """
    tex = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    uv, _ = plane(40, 48, (64, 64), 0.9, 0.0, (0.05, 0.05))
    uv = uv.float()
    leaf = tex.clone().requires_grad_()
    out = rg.texture(leaf, uv, boundary_mode=boundary_mode)
    upstream = torch.ones_like(out)
    upstream[0, 20, 20] = math.inf
    (d,) = torch.autograd.grad(out, leaf, upstream)
    assert int((~d.isfinite()).any(-1).sum()) == 4

    tex[0, 40:, :] = math.nan
    points = uv.clone().requires_grad_()
    out = rg.texture(tex, points, boundary_mode=boundary_mode)
    (d,) = torch.autograd.grad(out, points, torch.ones_like(out))
    looks_there = torch.isnan(out.detach()).any(-1)
    assert bool(d[~looks_there].isfinite().all())
