# SPDX-License-Identifier: MIT
"""The scenes of the table: a sphere over about 60 % of the frame, and a soup of large triangles."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

import rastergrad as rg
from testing import scenes


@dataclass(frozen=True)
class Scene:
    """A mesh as a camera sees it, with everything that the four operations take."""

    pos: Tensor  # [1, V, 4]
    tri: Tensor
    uv: Tensor  # [1, V, 2]
    rast: Tensor
    rast_db: Tensor


@lru_cache(maxsize=8)
def sphere(triangles: int, size: int = 1024) -> Scene:
    """A closed sphere of that many triangles in a size x size image."""
    mesh = scenes.sphere(triangles)
    # Radius of the outline 0.874 of the half frame: pi 0.874^2 / 4 = 60 % of the pixels.
    pos = mesh.clip(scenes.perspective(2 * 0.3797) @ scenes.look((0.8, 0.5, 2.85)))[None].contiguous()
    rast, rast_db = rg.rasterize(pos, mesh.tri, (size, size))
    return Scene(pos, mesh.tri, mesh.uv[None].contiguous(), rast, rast_db)


@lru_cache(maxsize=2)
def soup(triangles: int = 10_000, size: int = 1024) -> Scene:
    """Large unconnected triangles that hide each other: each pixel is covered about nineteen times."""
    mesh = scenes.soup(triangles, (0.06, 0.15), seed=1)
    pos = torch.nn.functional.pad(mesh.pos, (0, 1), value=1.0)[None].contiguous()
    rast, rast_db = rg.rasterize(pos, mesh.tri, (size, size))
    return Scene(pos, mesh.tri, mesh.uv[None].contiguous(), rast, rast_db)


def coverage(scene: Scene) -> float:
    """Covered fraction of the image."""
    return float((scene.rast[..., 3] > 0).float().mean())
