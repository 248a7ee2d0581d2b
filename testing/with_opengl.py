# SPDX-License-Identifier: MIT
"""Tests that draw with OpenGL need it, as Mesa's software driver gives it anywhere: where it is missing they
fail and say what to install. RASTERGRAD_NO_GL=1 skips them.
"""

import os

import pytest
import torch
from torch import Tensor

from rastergrad.core import opengl

needs_opengl = pytest.mark.skipif(os.environ.get("RASTERGRAD_NO_GL") == "1", reason="RASTERGRAD_NO_GL=1")


def require() -> opengl.Context:
    """The context for tensors on the CPU; a failure that names the remedy where there is none."""
    try:
        return opengl.context(torch.device("cpu"))
    except RuntimeError as failure:
        pytest.fail(f"{failure} RASTERGRAD_NO_GL=1 skips the tests of OpenGL.")


def software(context: opengl.Context) -> bool:
    """Whether it is Mesa's, whose rasteriser has the same 1/256 pixel and fill rule as the definition."""
    return "llvmpipe" in context.renderer


def edge_distance(rast: Tensor, rast_db: Tensor) -> Tensor:
    """Of a pixel's centre from the next edge of its triangle, in pixels; infinite for background."""
    u, v, du, dv = rast[..., 0], rast[..., 1], rast_db[..., :2], rast_db[..., 2:]
    pairs = ((u, du), (v, dv), (1 - u - v, du + dv))
    distance = torch.stack([value / slope.norm(dim=-1).clamp(min=1e-30) for value, slope in pairs]).amin(0)
    return torch.where(rast[..., 3] > 0, distance, torch.inf)


def doubtful(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> Tensor:
    """Pixels, of two results of `rasterize`, within 1/16 pixel of an edge of what one of them shows."""
    return torch.minimum(edge_distance(*got), edge_distance(*want)) < 1 / 16


def assert_same(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor], differing: int = 0) -> None:
    """Ids but for a number of pixels, all doubtful; where they agree, u and v within 1e-4, z/w within 1e-5,
    slopes within 1e-3.

    Shader and kernel have the same formulas in float32: what may differ is the order of operations, and on
    some hardware fused multiply-add and division, by a few units in the last place of the largest term. On a
    triangle of one pixel at 2048 that is 1e-7 / 5e-4.
    """
    assert [x.shape for x in got] == [x.shape for x in want]
    assert [x.dtype for x in got] == [x.dtype for x in want]
    assert [x.device for x in got] == [x.device for x in want]
    other = got[0][..., 3] != want[0][..., 3]
    clear = other & ~doubtful(got, want)
    assert not bool(clear.any()), f"{int(clear.sum())} pixels away from edges show another triangle"
    count = int(other.sum())
    assert count <= differing, f"{count} of {other.numel()} pixels show another triangle, not {differing}"
    rast, rast_db = (x[~other] for x in got)
    rast_want, db_want = (x[~other] for x in want)
    off = (rast - rast_want).abs().amax(0)
    assert float(off[:2].max()) < 1e-4, f"u, v differ by {off[:2].tolist()}"
    assert float(off[2]) < 1e-5, f"z/w differs by {float(off[2])}"
    scale = db_want.abs().amax(1, keepdim=True)
    slopes = (rast_db - db_want).abs()
    worst = float((slopes / scale.clamp_min(1e-30)).max())
    assert bool((slopes <= 1e-3 * scale).all()), f"derivatives differ by {worst} of a pixel's largest"


def allowed(pixels: int, device: torch.device | None = None) -> int:
    """How many pixels may show another triangle: next to none with Mesa, which rounds little once positions
    are on the grid and has the definition's fill rule.
    """
    context = require() if device is None else opengl.context(device)
    share = 1e-6 if software(context) else 1e-5
    return round(share * pixels)
