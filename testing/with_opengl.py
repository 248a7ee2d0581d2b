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
