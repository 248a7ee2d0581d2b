# SPDX-License-Identifier: MIT
"""The scenes of the table, made of the meshes that tests use too."""

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
    world: Tensor  # [V, 3]
    clip_from_world: Tensor  # [4, 4]


def seen(mesh: scenes.Mesh, clip_from_world: Tensor, size: int) -> Scene:
    """The mesh in a size x size image."""
    pos = mesh.clip(clip_from_world)[None].contiguous()
    rast, rast_db = rg.rasterize(pos, mesh.tri, (size, size))
    return Scene(pos, mesh.tri, mesh.uv[None].contiguous(), rast, rast_db, mesh.pos, clip_from_world)


def camera() -> Tensor:
    """clip_from_world. The outline of a unit sphere has a radius of 0.874 of the half frame:
    pi 0.874^2 / 4 = 60 % of the pixels.
    """
    return scenes.perspective(2 * 0.3797) @ scenes.look((0.8, 0.5, 2.85))


@lru_cache(maxsize=6)
def sphere(triangles: int, size: int = 1024) -> Scene:
    """A closed sphere of that many triangles."""
    return seen(scenes.sphere(triangles), camera(), size)


@lru_cache(maxsize=2)
def scan(triangles: int = 100_000, size: int = 1024) -> Scene:
    """A bust as a scanner leaves it: triangles of uneven size in no order."""
    return seen(scenes.bust(triangles), camera(), size)


@lru_cache(maxsize=2)
def soup(triangles: int = 10_000, size: int = 1024) -> Scene:
    """Large unconnected triangles that hide each other: each pixel is covered about nineteen times."""
    return seen(scenes.soup(triangles, (0.06, 0.15), seed=1), torch.eye(4), size)


@lru_cache(maxsize=2)
def dust(triangles: int = 1_000_000, size: int = 1024) -> Scene:
    """Unconnected triangles below the size of a pixel (radius 0.1 to 0.5 pixels): most cover no centre."""
    pixel = 2 / size
    return seen(scenes.soup(triangles, (0.1 * pixel, 0.5 * pixel), seed=2), torch.eye(4), size)


def coverage(scene: Scene) -> float:
    """Covered fraction of the image."""
    return float((scene.rast[..., 3] > 0).float().mean())
