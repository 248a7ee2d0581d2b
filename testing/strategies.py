# SPDX-License-Identifier: MIT
"""Hypothesis strategies: sizes, fragment buffers, texture queries, and triangles where formulas break."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from testing import scenes

seeds = st.integers(0, 2**31 - 1)
#: (H, W): odd, one-pixel, longer than a tile on one side
resolutions = st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.sampled_from(
    [(1, 97), (97, 1), (65, 130)]
)


@dataclass(frozen=True)
class ClipScene:
    """Input of rasterize; `kinds` says, triangle by triangle, what is special about it."""

    pos: Tensor  # [N, V, 4] float32
    tri: Tensor  # [T, 3] int32
    size: tuple[int, int]  # H, W
    kinds: tuple[str, ...]


KINDS = (
    "plain",
    "tiny",
    "sliver",
    "on centres",
    "on corners",
    "w near zero",
    "behind",
    "flat",
    "repeated",
    "point",
)


@st.composite
def clip_scenes(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, max_triangles: int = 12) -> ClipScene:
    """Triangles of drawn kinds, partly on shared vertices; shrinks towards one plain triangle."""
    size = draw(resolutions)
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=max_triangles))
    images = draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(seeds))
    corners = torch.stack([torch.cat([_triangle(k, size, generator) for k in chosen]) for _ in range(images)])
    tri = torch.arange(3 * len(chosen)).reshape(-1, 3)
    for t, kind in enumerate(chosen):
        if kind == "repeated":
            tri[t, 2] = tri[t, 0]
        elif t and kind == "plain" and draw(st.booleans()):
            tri[t, :2] = tri[t - 1, 1:].flip(0)  # share an edge with the triangle before
    return ClipScene(corners, tri.int(), size, tuple(chosen))


def _triangle(kind: str, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Three clip-space corners [3, 4]."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    height, width = size
    ndc = uniform(-1.3, 1.3, 3, 2)
    z = uniform(-0.9, 0.9, 3, 1)
    w = uniform(0.4, 2.0, 3, 1)
    if kind in ("tiny", "sliver"):
        # 1e-7 to 1e-1 of the image, along both axes or across one
        scale = 10 ** uniform(-7, -1, 1)
        direction = torch.nn.functional.normalize(uniform(-1, 1, 1, 2), dim=1)
        centre = uniform(-1, 1, 1, 2)
        along = torch.ones(1) if kind == "sliver" else scale
        across = direction.flip(1) * torch.tensor([1.0, -1.0])
        ndc = centre + uniform(-1, 1, 3, 1) * along * direction + uniform(-1, 1, 3, 1) * scale * across
    elif kind in ("on centres", "on corners"):
        # Pixel coordinates k + 1/2 or k; w = 1, as a division would round them off the point
        step = torch.tensor([width, height])
        k = (torch.rand(3, 2, generator=generator) * (step + 1)).floor()
        ndc = (k + (0.5 if kind == "on centres" else 0.0)) * 2 / step - 1
        w = torch.ones(3, 1)
    elif kind == "w near zero":
        w[:2] = 10 ** uniform(-8, -2, 2, 1) * uniform(-1, 1, 2, 1).sign()
    elif kind == "behind":
        w[:2] = -w[:2]
    elif kind == "flat":  # three points of one line
        ndc[2] = ndc[0] + (ndc[1] - ndc[0]) * uniform(0, 1, 1)
    elif kind == "point":
        ndc[:] = ndc[:1].clone()
    if kind == "w near zero":
        return torch.cat([ndc, z, w], 1)  # not scaled by w: far outside after the division
    return torch.cat([ndc * w, z * w, w], 1)


@st.composite
def fragment_buffers(draw: st.DrawFn, max_triangles: int = 20) -> tuple[Tensor, Tensor, int]:
    """(rast, rast_db, number of triangles) from `scenes.fragments`."""
    triangles = draw(st.integers(0, max_triangles))
    n, (height, width) = draw(st.integers(1, 3)), draw(resolutions)
    empty = draw(st.sampled_from([0.0, 0.2, 1.0]))
    return (*scenes.fragments(draw(seeds), n, height, width, triangles, empty=empty), triangles)


@st.composite
def textures(draw: st.DrawFn, images: int, cube: bool = False, max_channels: int = 7) -> Tensor:
    """[1 or images, h, w, C] or [1 or images, 6, h, h, C] float32; sides are powers of two from 1 to 64."""
    sides = st.sampled_from([1, 2, 4, 8, 16, 64])
    h, channels = draw(sides), draw(st.integers(1, max_channels))
    shape = (6, h, h, channels) if cube else (h, draw(sides), channels)
    generator = torch.Generator().manual_seed(draw(seeds))
    return torch.randn(draw(st.sampled_from([1, images])), *shape, generator=generator)


@st.composite
def texture_queries(draw: st.DrawFn, images: int, cube: bool = False) -> tuple[Tensor, Tensor]:
    """(uv, uv_da) from `scenes.texture_query`, from strong magnification to strong minification."""
    height, width = draw(resolutions)
    density = draw(st.sampled_from([0.05, 0.7, 1.5, 6.0, 40.0]))
    return scenes.texture_query(draw(seeds), images, height, width, cube=cube, texels_per_pixel=density)
