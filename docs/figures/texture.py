# SPDX-License-Identifier: MIT
"""Filters, boundaries and cube maps."""

import math
from pathlib import Path

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.scene.camera import look_at, perspective, project
from testing import scenes

from . import sheet


def _pattern(side: int) -> Tensor:
    """A checker with coloured rims, [1, side, side, 3]."""
    steps = (torch.arange(side) + 0.5) / side
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    grey = sheet.checker(torch.stack([u, v], -1))
    warm = torch.tensor([0.95, 0.65, 0.25])
    return torch.where(grey > 0.5, warm * grey / 0.85, grey * torch.tensor([0.25, 0.55, 1.0]))[None]


def filters(path: Path, side: int) -> None:
    """A floor that runs to the horizon, by three filters, and the mip levels that the third one chose."""
    far = 60.0
    floor = torch.tensor([[-far, 0, 2], [far, 0, 2], [far, 0, -2 * far], [-far, 0, -2 * far]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
    cam_from_world = look_at(
        torch.tensor([0.0, 1.0, 2.5]), torch.tensor([0.6, 0.2, 0.0]), torch.tensor([0.0, 1, 0])
    )
    pos = project(perspective(0.06, 0.06, 0.1, 500.0) @ cam_from_world, floor)[None]
    rast, rast_db = rg.rasterize(pos, tri, (side, side))
    uv, uv_da = rg.interpolate(floor[:, [0, 2]].contiguous() / 2, rast, tri, rast_db, "all")
    tex = _pattern(64)
    figure, panels = sheet.row(4, height=2.5)
    for panel, mode in zip(panels, ("nearest", "linear", "linear-mipmap-linear")):
        color = rg.texture(tex, uv, uv_da, filter_mode=mode)
        sheet.show(panel, sheet.on_white(color, rast)[0], mode)
    # A texture whose level k holds the number k shows which level was looked up.
    numbers = [torch.full((1, 64 >> k, 64 >> k, 1), float(k)) for k in range(7)]
    level = rg.texture(numbers[0], uv, uv_da, mip=numbers[1:])
    drawn = sheet.show(
        panels[3], sheet.covered(level[..., 0], rast), "mip level", cmap="magma", vmin=0, vmax=6
    )
    figure.colorbar(drawn, ax=panels[3], shrink=0.7).ax.tick_params(labelsize=6)
    sheet.save(figure, path)


def boundaries(path: Path, side: int) -> None:
    """A texture of 8 x 8 texels looked up from -0.5 to 1.5, by two filters and in three boundary modes."""
    generator = torch.Generator().manual_seed(3)
    tex = torch.rand(1, 8, 8, 3, generator=generator) * 0.8 + 0.1
    steps = (torch.arange(side) + 0.5) / side * 2 - 0.5
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    uv = torch.stack([u, v], -1)[None]
    figure, panels = sheet.row(4)
    cases = (("nearest", "wrap"), ("linear", "wrap"), ("linear", "clamp"), ("linear", "zero"))
    for panel, (filtering, boundary) in zip(panels, cases):
        color = rg.texture(tex, uv, filter_mode=filtering, boundary_mode=boundary)
        sheet.show(panel, color[0], f"{filtering}, {boundary}", extent=(-0.5, 1.5, -0.5, 1.5))
        panel.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="white", linewidth=1.2)
    sheet.save(figure, path)


def cube(path: Path, side: int) -> None:
    """Six faces, each with its colour and a grid; then a sphere that looks them up by its normals."""
    faces = torch.tensor(
        [
            [0.84, 0.37, 0.0],
            [0.35, 0.7, 0.9],
            [0.9, 0.62, 0.0],
            [0.0, 0.45, 0.7],
            [0.0, 0.62, 0.45],
            [0.8, 0.47, 0.65],
        ]
    )
    steps = (torch.arange(32) + 0.5) / 32
    t, s = torch.meshgrid(steps, steps, indexing="ij")
    grid = (sheet.checker(torch.stack([s, t], -1), squares=4) / 0.85).expand(32, 32, 3)
    tex = (faces[:, None, None] * grid)[None]
    figure, panels = sheet.row(7, width=1.3, height=1.6)
    for panel, face, name in zip(panels, tex[0], ("+x", "-x", "+y", "-y", "+z", "-z")):
        sheet.show(panel, face, f"face {name}")
    mesh = scenes.sphere(8000)
    pos, _ = sheet.seen_from(mesh, (0.7, 0.6, 1.0), fov_y_rad=math.radians(25))
    rast, _ = rg.rasterize(pos, mesh.tri, (side, side))
    direction, _ = rg.interpolate(mesh.pos, rast, mesh.tri)
    color = rg.texture(tex, direction, boundary_mode="cube")
    sheet.show(panels[6], sheet.on_white(color, rast)[0], "by direction")
    sheet.save(figure, path)


FIGURES = {"texture_filters": filters, "texture_boundaries": boundaries, "texture_cube": cube}
