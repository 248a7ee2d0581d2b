# SPDX-License-Identifier: MIT
"""Attributes across triangles in perspective, and their derivatives."""

from pathlib import Path

import torch

import rastergrad as rg
from rastergrad.scene.camera import look_at, perspective, project

from . import sheet


def perspective_correct(path: Path, side: int) -> None:
    """A floor of two triangles: colours, texture coordinates with and without perspective, footprint."""
    floor = torch.tensor([[-1.0, 0, 1], [1, 0, 1], [1, 0, -3], [-1, 0, -3]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    cam_from_world = look_at(
        torch.tensor([0.0, 1.1, 2.2]), torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.0, 1, 0])
    )
    pos = project(perspective(0.55, 0.55) @ cam_from_world, floor)[None]
    rast, rast_db = rg.rasterize(pos, tri, (side, side))
    corner_colors = torch.tensor([[0.84, 0.37, 0.0], [0.9, 0.62, 0.0], [0.0, 0.45, 0.7], [0.0, 0.62, 0.45]])
    color, _ = rg.interpolate(corner_colors, rast, tri)
    found, found_da = rg.interpolate(uv, rast, tri, rast_db, "all")
    # The same corners on the screen, but flat: w = 1 everywhere.
    flat, _ = rg.rasterize(pos / pos[..., 3:], tri, (side, side))
    affine, _ = rg.interpolate(uv, flat, tri)

    figure, panels = sheet.row(4, height=2.5)
    sheet.show(panels[0], sheet.on_white(color, rast)[0], "colours of four vertices")
    for panel, coordinates, fragments, title in (
        (panels[1], found, rast, "texture coordinates"),
        (panels[2], affine, flat, "the same, were w ignored"),
    ):
        grey = sheet.checker(coordinates)[..., 0]
        sheet.show(panel, sheet.covered(grey, fragments), title, cmap="gray", vmin=0, vmax=1)
    length = found_da[..., 2:].norm(dim=-1) * side
    drawn = sheet.show(panels[3], sheet.covered(length, rast), "|(dv/dX, dv/dY)| x image side", cmap="magma")
    figure.colorbar(drawn, ax=panels[3], shrink=0.7).ax.tick_params(labelsize=6)
    sheet.save(figure, path)


FIGURES = {"interpolate_perspective": perspective_correct}
